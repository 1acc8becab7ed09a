use std::{sync::Arc, time::Duration};

use kith_identity::{PrivateKey, TrustBundles, X509Svid};
use kith_tls::{Credentials, CredentialsReader, Material, PublishError};
use rcgen::KeyPair;

use crate::common::{
    client, error_of, meet,
    pki::{Pki, at, bundles, now, svid},
    server,
};

/// A good SVID is published; this one must be refused, and the good one stay.
fn refused(pki: &Pki, wrong: X509Svid, bundles: TrustBundles) -> PublishError {
    let credentials = Credentials::default();
    let reader = credentials.reader();
    let good = pki.svid("/web");
    let serial = good.serial().clone();
    credentials.publish(good, pki.bundles(), now()).unwrap();
    let error = credentials.publish(wrong, bundles, now()).unwrap_err();
    let current = reader.current().unwrap();
    assert_eq!((current.svid().serial(), current.generation()), (&serial, 1));
    error
}

fn with_key(svid: &X509Svid, pkcs8: Vec<u8>) -> X509Svid {
    X509Svid::new(svid.chain().to_vec(), PrivateKey::from_pkcs8(pkcs8)).unwrap()
}

#[test]
fn what_a_peer_would_refuse_is_not_published() {
    let (pki, other) = (Pki::new(), Pki::new());
    let label = |wrong, bundles| refused(&pki, wrong, bundles).as_str();
    assert_eq!(label(other.svid("/web"), pki.bundles()), "unknown_ca");
    assert_eq!(label(pki.svid_with(|params| params.not_after = at(-1)), pki.bundles()), "expired");
    assert_eq!(label(pki.svid_with(|params| params.not_before = at(1)), pki.bundles()), "not_yet_valid");
    let lone = pki.issuing.leaf(|_| {});
    assert_eq!(label(svid(vec![lone.der], &lone.key), pki.bundles()), "unknown_ca");
    let elsewhere = bundles([("elsewhere.org", vec![pki.root.der()])]);
    assert_eq!(label(pki.svid("/web"), elsewhere), "unknown_trust_domain");
    assert_eq!(label(pki.svid("/web"), TrustBundles::default()), "unknown_trust_domain");
}

#[test]
fn a_key_that_does_not_fit_is_not_published() {
    let pki = Pki::new();
    let good = pki.svid("/web");
    let other = with_key(&good, KeyPair::generate().unwrap().serialize_der());
    assert_eq!(refused(&pki, other, pki.bundles()).as_str(), "key_mismatch");
    assert_eq!(refused(&pki, with_key(&good, b"no key".to_vec()), pki.bundles()).as_str(), "unusable_key");
    assert_eq!(refused(&pki, with_key(&good, vec![]), pki.bundles()).as_str(), "unusable_key");
}

#[test]
fn every_publication_is_a_generation_of_its_own() {
    let (pki, other) = (Pki::new(), Pki::new());
    let credentials = Credentials::default();
    let reader = credentials.reader();
    let generation = || reader.current().map(|material| material.generation());
    credentials.publish_bundles(pki.bundles()).unwrap();
    assert_eq!(generation(), None, "bundles alone are no credentials");
    credentials.publish(pki.svid("/web"), pki.bundles(), now()).unwrap();
    assert_eq!(generation(), Some(1));
    credentials.publish_bundles(other.bundles()).unwrap();
    assert_eq!(generation(), Some(2));
    assert!(credentials.publish(other.svid("/web"), pki.bundles(), now()).is_err());
    assert_eq!(generation(), Some(2), "a refusal is none");
    credentials.publish(pki.svid("/web"), pki.bundles(), now()).unwrap();
    assert_eq!(generation(), Some(3));
}

#[test]
fn publishers_at_once_lose_nothing() {
    let pki = Pki::new();
    let credentials = Arc::new(Credentials::default());
    credentials.publish(pki.svid("/web"), pki.bundles(), now()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..250).for_each(|_| credentials.publish_bundles(pki.bundles()).unwrap()));
        }
    });
    assert_eq!(credentials.reader().current().unwrap().generation(), 1001);
}

#[tokio::test]
async fn new_bundles_take_effect_beside_the_same_svid() {
    let (pki, other) = (Pki::new(), Pki::new());
    let credentials = Credentials::default();
    let reader = credentials.reader();
    let current = || reader.current().unwrap();
    credentials.publish(pki.svid("/web"), pki.bundles(), now()).unwrap();
    let serial = current().svid().serial().clone();
    let peer = pki.material("/db");
    assert!(meet(client(&current()), server(&peer)).await.0.is_ok());

    // Our own root is withdrawn: we go on presenting what we have, and believe nobody of it any more.
    credentials.publish_bundles(other.bundles()).unwrap();
    assert_eq!(current().svid().serial(), &serial);
    assert_eq!(error_of(meet(client(&current()), server(&peer)).await.0).as_str(), "unknown_ca");
}

#[tokio::test]
async fn a_snapshot_stays_what_it_was() {
    let pki = Pki::new();
    let credentials = Credentials::default();
    credentials.publish(pki.svid("/web"), pki.bundles(), now()).unwrap();
    let before: Arc<Material> = credentials.reader().current().unwrap();
    let serial = before.svid().serial().clone();
    credentials.publish(pki.svid("/web"), Pki::new().bundles(), now()).unwrap_err();
    credentials.publish(pki.svid("/web"), pki.bundles(), now()).unwrap();
    assert_eq!((before.svid().serial(), before.generation()), (&serial, 1));
    assert_ne!(credentials.reader().current().unwrap().svid().serial(), &serial);
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), future).await.unwrap()
}

#[tokio::test]
async fn readers_are_woken_and_told_of_the_end() {
    let pki = Pki::new();
    let credentials = Credentials::default();
    let (mut waiting, mut late): (CredentialsReader, CredentialsReader) = (credentials.reader(), credentials.reader());
    let first = tokio::spawn(async move { (waiting.first().await.map(|material| material.generation()), waiting) });
    credentials.publish(pki.svid("/web"), pki.bundles(), now()).unwrap();
    let (generation, mut waiting) = in_time(first).await.unwrap();
    assert_eq!(generation, Some(1));
    credentials.publish_bundles(pki.bundles()).unwrap();
    assert!(in_time(waiting.changed()).await);
    drop(credentials);
    assert!(!in_time(waiting.changed()).await);
    assert_eq!(in_time(late.first()).await.map(|material| material.generation()), Some(2));

    let never = Credentials::default();
    let mut reader = never.reader();
    drop(never);
    assert!(in_time(reader.first()).await.is_none());
}
