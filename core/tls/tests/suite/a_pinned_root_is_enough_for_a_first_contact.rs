use std::sync::Arc;

use kith_tls::{Client, ExpectedIds, HandshakeError, Material, RootPin, Roots, Server};
use rcgen::{BasicConstraints, IsCa, KeyPair};

use crate::common::{
    DEADLINE, error_of, meet,
    pki::{Authority, DOMAIN, Pki, at, domain, id, svid, trust, uri},
    server,
};

/// A client that knows nothing but a pin, and expects the CA agent.
fn newcomer(pin: RootPin) -> Client {
    Client {
        material: None,
        roots: Roots::Pin { pin, trust_domain: domain(DOMAIN) },
        policy: Arc::new(ExpectedIds(vec![id("/kith/ca")])),
        alpn: vec![],
        deadline: DEADLINE,
    }
}

fn pin_of(root: &Authority) -> RootPin {
    RootPin::of_certificate(&root.der()).unwrap()
}

/// A server that presents a leaf of this authority under this name, and these certificates.
fn agent(signer: &Authority, name: &str, above: &[Vec<u8>]) -> Server {
    let leaf = signer.leaf(|params| params.subject_alt_names = vec![uri(name)]);
    let chain = [&[leaf.der], above].concat();
    let unused = trust([(DOMAIN, vec![Pki::new().root.der()])]);
    let material = Material::new(Arc::new(svid(chain, &leaf.key)), unused, 1).unwrap();
    Server { policy: None, ..server(&Arc::new(material)) }
}

const CA: &str = "spiffe://example.org/kith/ca";

async fn outcome(pin: RootPin, agent: Server) -> Result<(), HandshakeError> {
    match meet(newcomer(pin), agent).await {
        (Ok(stream), Ok(_)) => {
            assert_eq!(stream.peer().unwrap().id, id("/kith/ca"));
            Ok(())
        }
        (refusing, _) => Err(error_of(refusing)),
    }
}

async fn label(pin: RootPin, agent: Server) -> &'static str {
    outcome(pin, agent).await.unwrap_err().as_str()
}

#[tokio::test]
async fn the_pinned_root_among_what_was_sent_is_believed() {
    let pki = Pki::new();
    let pin = pin_of(&pki.root);
    assert_eq!(outcome(pin, agent(&pki.issuing, CA, &[pki.issuing.der(), pki.root.der()])).await, Ok(()));
    assert_eq!(outcome(pin, agent(&pki.issuing, CA, &[pki.root.der(), pki.issuing.der()])).await, Ok(()));
    assert_eq!(outcome(pin, agent(&pki.root, CA, &[pki.root.der()])).await, Ok(()));
}

#[tokio::test]
async fn another_root_and_an_absent_one_are_unknown() {
    let (pki, other) = (Pki::new(), Pki::new());
    let full = |pki: &Pki| agent(&pki.issuing, CA, &[pki.issuing.der(), pki.root.der()]);
    assert_eq!(label(pin_of(&other.root), full(&pki)).await, "unknown_ca");
    assert_eq!(label(pin_of(&pki.root), agent(&pki.issuing, CA, &[pki.issuing.der()])).await, "unknown_ca");
    // The pinned root lies beside a chain that it did not sign.
    let beside = agent(&other.issuing, CA, &[other.issuing.der(), pki.root.der()]);
    assert_eq!(label(pin_of(&pki.root), beside).await, "unknown_ca");
    // A pin names a root: the leaf's own key, and an intermediate's, are none.
    assert_eq!(label(pin_of(&pki.issuing), full(&pki)).await, "unknown_ca");
}

#[tokio::test]
async fn a_workloads_svid_does_not_pass_for_the_ca_agent() {
    let pki = Pki::new();
    let workload = agent(&pki.issuing, "spiffe://example.org/ns/shop/sa/web", &[pki.issuing.der(), pki.root.der()]);
    assert_eq!(label(pin_of(&pki.root), workload).await, "not_expected");
    let elsewhere = agent(&pki.issuing, "spiffe://elsewhere.org/kith/ca", &[pki.issuing.der(), pki.root.der()]);
    assert_eq!(label(pin_of(&pki.root), elsewhere).await, "unknown_trust_domain");
}

#[tokio::test]
async fn nobody_can_dress_the_pinned_key_anew() {
    let root = Authority::root("root", |params| params.not_after = at(-1));
    let issuing = root.issuing("issuing", |_| {});
    assert_eq!(label(pin_of(&root), agent(&issuing, CA, &[issuing.der(), root.der()])).await, "expired_root");

    // The same name and key under a later end, signed by somebody else.
    let forger = Authority::root("root", |_| {});
    let dressed = forger.issuing_with_key("root", root.key(), |_| {});
    assert_eq!(pin_of(&dressed), pin_of(&root));
    assert_eq!(label(pin_of(&root), agent(&issuing, CA, &[issuing.der(), dressed.der()])).await, "unknown_ca");

    // Renewed by its own key, beside its old certificate.
    let renewed = Authority::root_with_key("root", root.key(), |_| {});
    let sent = [issuing.der(), root.der(), renewed.der()];
    assert_eq!(outcome(pin_of(&root), agent(&issuing, CA, &sent)).await, Ok(()));
}

#[tokio::test]
async fn a_pinned_certificate_that_is_no_ca_vouches_for_nobody() {
    let root = Authority::root_with_key("root", KeyPair::generate().unwrap(), |params| {
        params.is_ca = IsCa::ExplicitNoCa;
    });
    assert_eq!(label(pin_of(&root), agent(&root, CA, &[root.der()])).await, "unknown_ca");
    let limited = Authority::root("root", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let issuing = limited.issuing("issuing", |_| {});
    let sent = [issuing.der(), limited.der()];
    assert_eq!(label(pin_of(&limited), agent(&issuing, CA, &sent)).await, "chain_too_long");
}

#[test]
fn a_pin_reads_back_and_is_nothing_else() {
    let pki = Pki::new();
    let pin = pin_of(&pki.root);
    assert_eq!(pin.to_string().parse::<RootPin>().unwrap(), pin);
    assert_ne!(pin_of(&pki.issuing), pin);
    let renewed = Authority::root_with_key("another name", pki.root.key(), |_| {});
    assert_eq!(pin_of(&renewed), pin, "a pin is the key's, whatever the certificate");
    for text in ["", "00", &"0".repeat(63), &"0".repeat(65), &"A".repeat(64), &"g".repeat(64), &"é".repeat(32)] {
        assert!(text.parse::<RootPin>().is_err(), "{text}");
    }
    assert!(RootPin::of_certificate(b"garbage").is_err());
}
