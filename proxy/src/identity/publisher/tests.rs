use std::time::Duration;

use kith_identity::{PrivateKey, TrustBundle};
use kith_runtime::metrics::Registry;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};

use super::*;
use crate::identity::Instance;

struct Root(CertifiedIssuer<'static, KeyPair>);

impl Root {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn bundles(&self, sequence: u64) -> TrustBundles {
        let roots = vec![self.0.as_ref().der().to_vec()];
        TrustBundles::new(sequence, [TrustBundle::new("example.org".parse().unwrap(), roots).unwrap()])
    }

    /// An SVID with the bundles that came beside it.
    fn issue(&self, sequence: u64) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = vec![SanType::URI("spiffe://example.org/a".try_into().unwrap())];
        params.serial_number = Some(vec![1; 16].into());
        let chain = vec![params.signed_by(&key, &self.0).unwrap().der().to_vec()];
        Issued {
            svid: X509Svid::new(chain, PrivateKey::from_pkcs8(key.serialize_der())).unwrap(),
            bundles: self.bundles(sequence),
            attestation: AttestationKind::JoinToken,
        }
    }
}

fn publisher() -> Publisher {
    let state = IdentityState::new(Instance::default(), "0");
    Publisher::new(state, None, Metrics::register(&mut Registry::new()))
}

fn publish(publisher: &Publisher, issued: Issued) {
    let now = SystemTime::now();
    publisher.publish(issued, now, now + Duration::from_secs(60)).unwrap();
}

#[test]
fn bundles_that_the_stream_brought_meanwhile_stay() {
    let (root, publisher) = (Root::new(), publisher());
    publish(&publisher, root.issue(1));
    publisher.publish_bundles(root.bundles(5), SystemTime::now()).unwrap();
    publish(&publisher, root.issue(4));
    assert_eq!(publisher.sequence(), 5);
    publish(&publisher, root.issue(6));
    assert_eq!(publisher.sequence(), 6);
}

#[test]
fn a_ca_that_has_begun_anew_counts_from_the_beginning() {
    let (old, new, publisher) = (Root::new(), Root::new(), publisher());
    publish(&publisher, old.issue(9));
    publish(&publisher, new.issue(1));
    assert_eq!(publisher.material().unwrap().trust().bundles(), &new.bundles(1));
    assert!(publisher.state().borrow().trusted);
}

#[tokio::test]
async fn a_bundle_without_our_root_counts_at_once_and_asks_for_another_svid() {
    let (old, new, publisher) = (Root::new(), Root::new(), publisher());
    publish(&publisher, old.issue(1));
    publisher.publish_bundles(new.bundles(2), SystemTime::now()).unwrap();
    assert_eq!(publisher.material().unwrap().trust().bundles(), &new.bundles(2));
    assert!(!publisher.state().borrow().trusted);
    publisher.renew_now().await;
    publisher.publish_bundles(old.bundles(3), SystemTime::now()).unwrap();
    assert!(publisher.state().borrow().trusted, "and back");
}

#[test]
fn failures_last_since_the_first_and_end_with_a_success() {
    let (root, publisher) = (Root::new(), publisher());
    let (first, second) = (SystemTime::now(), SystemTime::now() + Duration::from_secs(5));
    publisher.failed("unreachable", "nobody".to_owned(), first);
    publisher.failed("timeout", "too slow".to_owned(), second);
    let failing = publisher.state().borrow().failing.clone();
    let expected = Failing { since: first, reason: "timeout".to_owned(), error: "too slow".to_owned() };
    assert_eq!(failing, Some(expected));
    publish(&publisher, root.issue(1));
    let state = publisher.state().borrow().clone();
    assert_eq!((state.failing, state.rotations, state.last_rotation), (None, 0, None));
}

#[test]
fn what_peers_would_refuse_does_not_replace_what_is_there() {
    let (root, stranger, publisher) = (Root::new(), Root::new(), publisher());
    publish(&publisher, root.issue(1));
    let before = publisher.material().unwrap().generation();
    let stray = Issued { bundles: root.bundles(2), ..stranger.issue(1) };
    let now = SystemTime::now();
    assert!(matches!(publisher.publish(stray, now, now), Err(PublishError::Refused(_))));
    assert_eq!(publisher.material().unwrap().generation(), before);
    assert_eq!(publisher.state().borrow().rotations, 0);
}
