//! One certificate chain for every way in which a peer can be wrong.

use std::sync::Arc;

use kith_identity::SpiffeId;
use kith_tls::{AnyIdentity, ExpectedIds, PeerPolicy, Rejection, Revocations, Trust};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Eku, IsCa, KeyPair, KeyUsagePurpose as Usage,
    SanType, SerialNumber,
};

use super::pki::{Authority, DOMAIN, Issued, Pki, at, bundles, extension, id, tlv, trust, uri};

const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
const UNKNOWN: &[u64] = &[1, 3, 6, 1, 4, 1, 57264, 99];

/// A peer that must be refused.
pub(crate) struct Case {
    pub(crate) what: &'static str,
    /// The rejection's label.
    pub(crate) label: &'static str,
    /// The alert that the peer gets.
    pub(crate) alert: &'static str,
    /// Leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: KeyPair,
    /// Whom the one who refuses believes.
    pub(crate) trust: Arc<Trust>,
    /// Whom the one who refuses wants.
    pub(crate) policy: Arc<dyn PeerPolicy>,
}

/// Refuses everybody as a policy does.
#[derive(Debug)]
struct DenyAll;

impl PeerPolicy for DenyAll {
    fn check(&self, _: &SpiffeId) -> Result<(), Rejection> {
        Err(Rejection::NotAllowed { rule: "deny-all".into() })
    }
}

/// Every wrong peer.
pub(crate) fn all() -> Vec<Case> {
    let pki = Pki::new();
    [names(&pki), usages(&pki), forms(&pki), times(&pki), chains(&pki), strangers(&pki), unwanted(&pki)]
        .into_iter()
        .flatten()
        .collect()
}

/// A case of a wrong leaf below the right authorities.
fn leaf(
    pki: &Pki,
    (label, alert): (&'static str, &'static str),
    what: &'static str,
    spoil: impl FnOnce(&mut CertificateParams),
) -> Case {
    below(pki, (label, alert), what, pki.issuing.leaf(spoil), &[&pki.issuing])
}

/// A case of a leaf with the certificates above it.
fn below(
    pki: &Pki,
    (label, alert): (&'static str, &'static str),
    what: &'static str,
    leaf: Issued,
    above: &[&Authority],
) -> Case {
    let chain = std::iter::once(leaf.der).chain(above.iter().map(|ca| ca.der())).collect();
    Case { what, label, alert, chain, key: leaf.key, trust: pki.trust(), policy: Arc::new(AnyIdentity) }
}

/// A case of a good leaf whose DER was changed afterwards.
fn patched(pki: &Pki, what: &'static str, from: &[u8], to: &[u8]) -> Case {
    let serial = |params: &mut CertificateParams| params.serial_number = Some(SerialNumber::from_slice(&[0x11; 16]));
    let mut case = leaf(pki, ("malformed", "bad_certificate"), what, serial);
    let place = case.chain[0].windows(from.len()).position(|window| window == from).unwrap();
    case.chain[0][place..place + from.len()].copy_from_slice(to);
    case
}

fn names(pki: &Pki) -> Vec<Case> {
    let web = format!("spiffe://{DOMAIN}/ns/shop/sa/web");
    let san = |label, what, names: Vec<SanType>| {
        leaf(pki, (label, "bad_certificate"), what, |params| params.subject_alt_names = names)
    };
    let dns = || SanType::DnsName("web.example.org".try_into().unwrap());
    vec![
        san("no_uri_san", "no SAN", vec![]),
        san("no_uri_san", "DNS SAN only", vec![dns()]),
        san("several_uri_sans", "two URI SANs", vec![uri(&web), uri("spiffe://example.org/ns/shop/sa/db")]),
        san("several_uri_sans", "the same URI SAN twice", vec![uri(&web), dns(), uri(&web)]),
        san("several_uri_sans", "a SPIFFE ID and a URL", vec![uri(&web), uri("https://example.org/")]),
        san("invalid_spiffe_id", "another scheme", vec![uri("https://example.org/ns/shop/sa/web")]),
        san("invalid_spiffe_id", "an upper-case scheme", vec![uri("SPIFFE://example.org/ns/shop/sa/web")]),
        san("invalid_spiffe_id", "an upper-case trust domain", vec![uri("spiffe://Example.org/ns/shop/sa/web")]),
        san("invalid_spiffe_id", "user information", vec![uri("spiffe://me@example.org/ns/shop/sa/web")]),
        san("invalid_spiffe_id", "a port", vec![uri("spiffe://example.org:443/ns/shop/sa/web")]),
        san("invalid_spiffe_id", "no path", vec![uri("spiffe://example.org")]),
        san("invalid_spiffe_id", "an empty path", vec![uri("spiffe://example.org/")]),
        san("invalid_spiffe_id", "a query", vec![uri("spiffe://example.org/ns/shop/sa/web?x")]),
        san("invalid_spiffe_id", "a dot segment", vec![uri("spiffe://example.org/ns/shop/../web")]),
        san("invalid_spiffe_id", "percent-encoding", vec![uri("spiffe://example.org/ns/shop/sa/w%65b")]),
    ]
}

fn usages(pki: &Pki) -> Vec<Case> {
    let usage = |label, what, usages: Vec<Usage>| {
        leaf(pki, (label, "bad_certificate"), what, |params| params.key_usages = usages)
    };
    let purpose = |what, purposes: Vec<Eku>| {
        leaf(pki, ("ext_key_usage", "unsupported_certificate"), what, |params| params.extended_key_usages = purposes)
    };
    vec![
        leaf(pki, ("ca_as_leaf", "bad_certificate"), "CA as leaf", |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }),
        usage("key_usage", "no keyUsage", vec![]),
        usage("key_usage", "keyUsage without digitalSignature", vec![Usage::KeyEncipherment]),
        leaf(pki, ("key_usage", "bad_certificate"), "keyUsage that is not critical", |params| {
            params.key_usages.clear();
            params.custom_extensions.push(extension(KEY_USAGE, false, &tlv(3, &[7, 0x80])));
        }),
        usage("key_cert_sign", "keyCertSign", vec![Usage::DigitalSignature, Usage::KeyCertSign]),
        usage("crl_sign", "cRLSign", vec![Usage::DigitalSignature, Usage::CrlSign]),
        purpose("EKU without clientAuth", vec![Eku::ServerAuth]),
        purpose("EKU without serverAuth", vec![Eku::ClientAuth]),
        purpose("EKU with neither", vec![Eku::CodeSigning]),
        purpose("anyExtendedKeyUsage alone", vec![Eku::Any]),
    ]
}

fn forms(pki: &Pki) -> Vec<Case> {
    let malformed = ("malformed", "bad_certificate");
    let mut trailing = leaf(pki, malformed, "trailing data", |_| {});
    trailing.chain[0].push(0);
    let mut garbage = leaf(pki, malformed, "no certificate at all", |_| {});
    garbage.chain[0] = b"not a certificate".to_vec();
    vec![
        trailing,
        garbage,
        patched(pki, "version 2", &[0xa0, 3, 2, 1, 2], &[0xa0, 3, 2, 1, 1]),
        patched(pki, "version 1", &[0xa0, 3, 2, 1, 2], &[0xa0, 3, 2, 1, 0]),
        patched(pki, "a negative serial number", &[2, 16, 0x11], &[2, 16, 0x91]),
        leaf(pki, malformed, "the SAN extension twice", |params| {
            let name = tlv(0x86, b"spiffe://example.org/x");
            params.custom_extensions.push(extension(SUBJECT_ALT_NAME, false, &tlv(0x30, &name)));
        }),
        leaf(pki, malformed, "an extension twice that nobody reads", |params| {
            params.custom_extensions.extend([extension(UNKNOWN, false, &[5, 0]), extension(UNKNOWN, false, &[5, 0])]);
        }),
        leaf(pki, malformed, "a critical extension of unknown meaning", |params| {
            params.custom_extensions.push(extension(UNKNOWN, true, &[5, 0]));
        }),
        leaf(pki, malformed, "a SAN that does not decode", |params| {
            params.subject_alt_names.clear();
            params.custom_extensions.push(extension(SUBJECT_ALT_NAME, false, &tlv(0x30, &tlv(0x86, &[0xff, 0xfe]))));
        }),
    ]
}

fn times(pki: &Pki) -> Vec<Case> {
    let (expired, not_yet) = (("expired", "certificate_expired"), ("not_yet_valid", "certificate_expired"));
    let issuing_over = pki.root.issuing("issuing", |params| params.not_after = at(-1));
    let issuing_early = pki.root.issuing("issuing", |params| params.not_before = at(1));
    vec![
        leaf(pki, expired, "a leaf whose time ended a second ago", |params| params.not_after = at(-1)),
        leaf(pki, not_yet, "a leaf whose time begins in a second", |params| params.not_before = at(1)),
        below(pki, expired, "an expired intermediate", issuing_over.leaf(|_| {}), &[&issuing_over]),
        below(pki, not_yet, "an intermediate of tomorrow", issuing_early.leaf(|_| {}), &[&issuing_early]),
        outdated_root(pki, "an expired root", false, |params| params.not_after = at(-1)),
        outdated_root(pki, "an expired root that is sent along", true, |params| params.not_after = at(-1)),
        outdated_root(pki, "a root of tomorrow", false, |params| params.not_before = at(1)),
        outdated_root(pki, "a root of tomorrow that is sent along", true, |params| params.not_before = at(1)),
    ]
}

/// The root is in the bundle, beside one that would be good.
fn outdated_root(pki: &Pki, what: &'static str, sent_along: bool, spoil: impl FnOnce(&mut CertificateParams)) -> Case {
    let root = Authority::root("root", spoil);
    let issuing = root.issuing("issuing", |_| {});
    let above: &[&Authority] = if sent_along { &[&issuing, &root] } else { &[&issuing] };
    let mut case = below(pki, ("expired_root", "unknown_ca"), what, issuing.leaf(|_| {}), above);
    case.trust = trust([(DOMAIN, vec![pki.root.der(), root.der()])]);
    case
}

fn chains(pki: &Pki) -> Vec<Case> {
    let (bad, constrained) = (("bad_intermediate", "bad_certificate"), ("name_constraints", "bad_certificate"));
    let issuing = |spoil: fn(&mut CertificateParams)| pki.root.issuing("spoiled", spoil);
    let case = |kind, what, ca: &Authority| below(pki, kind, what, ca.leaf(|_| {}), &[ca]);
    vec![
        case(bad, "an intermediate without keyUsage", &issuing(|params| params.key_usages.clear())),
        case(bad, "an intermediate without keyCertSign", &issuing(|params| params.key_usages = vec![Usage::CrlSign])),
        case(bad, "an intermediate that is no CA", &issuing(|params| params.is_ca = IsCa::ExplicitNoCa)),
        case(bad, "an intermediate without basicConstraints", &issuing(|params| params.is_ca = IsCa::NoCa)),
        case(bad, "a CA for clients only", &issuing(|params| params.extended_key_usages = vec![Eku::ClientAuth])),
        case(bad, "a CA for servers only", &issuing(|params| params.extended_key_usages = vec![Eku::ServerAuth])),
        case(
            bad,
            "an intermediate with a critical extension of unknown meaning",
            &issuing(|params| {
                params.custom_extensions.push(extension(UNKNOWN, true, &[5, 0]));
            }),
        ),
        case(
            constrained,
            "a CA permitted our own trust domain as URI",
            &issuing(|params| {
                params.custom_extensions.push(uri_constraint(0xa0, DOMAIN));
            }),
        ),
        case(
            constrained,
            "a CA forbidden another trust domain as URI",
            &issuing(|params| {
                params.custom_extensions.push(uri_constraint(0xa1, "elsewhere.org"));
            }),
        ),
        short_path(pki),
        short_root(pki),
        long_chain(pki),
    ]
}

/// A name constraint that permits (0xa0) or excludes (0xa1) the URIs of one host.
fn uri_constraint(tag: u8, host: &str) -> rcgen::CustomExtension {
    let subtree = tlv(0x30, &tlv(0x86, host.as_bytes()));
    extension(NAME_CONSTRAINTS, true, &tlv(0x30, &tlv(tag, &subtree)))
}

fn short_path(pki: &Pki) -> Case {
    let upper = pki.root.issuing("upper", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let lower = upper.issuing("lower", |_| {});
    let kind = ("chain_too_long", "bad_certificate");
    below(pki, kind, "a CA below one whose pathLen is 0", lower.leaf(|_| {}), &[&lower, &upper])
}

fn short_root(pki: &Pki) -> Case {
    let root = Authority::root("short", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let issuing = root.issuing("issuing", |_| {});
    let kind = ("chain_too_long", "bad_certificate");
    let mut case = below(pki, kind, "a CA below a root whose pathLen is 0", issuing.leaf(|_| {}), &[&issuing]);
    case.trust = trust([(DOMAIN, vec![root.der()])]);
    case
}

fn long_chain(pki: &Pki) -> Case {
    let ladder = ladder(pki, 6);
    let rungs: Vec<_> = ladder.iter().rev().collect();
    let kind = ("chain_too_long", "bad_certificate");
    below(pki, kind, "six intermediates", ladder[5].leaf(|_| {}), &rungs)
}

/// So many authorities, each below the one before.
pub(crate) fn ladder(pki: &Pki, rungs: usize) -> Vec<Authority> {
    let mut ladder: Vec<Authority> = vec![];
    for rung in 0..rungs {
        ladder.push(ladder.last().unwrap_or(&pki.root).issuing(&format!("rung {rung}"), |_| {}));
    }
    ladder
}

fn strangers(pki: &Pki) -> Vec<Case> {
    let unknown = ("unknown_ca", "unknown_ca");
    let twin = Pki::new();
    let forged = twin.issuing.leaf(|_| {});
    let mut federated = below(pki, unknown, "a federated root for our trust domain", forged, &[&twin.issuing]);
    federated.trust = trust([(DOMAIN, vec![pki.root.der()]), ("elsewhere.org", vec![twin.root.der()])]);
    let foreign = |params: &mut CertificateParams| params.subject_alt_names = vec![uri("spiffe://elsewhere.org/x")];
    vec![
        federated,
        below(pki, unknown, "CAs of the same names and other keys", twin.issuing.leaf(|_| {}), &[&twin.issuing]),
        below(pki, unknown, "a root of the same name and another key", twin.root.leaf(|_| {}), &[]),
        below(pki, unknown, "our issuing CA above another's leaf", twin.issuing.leaf(|_| {}), &[&pki.issuing]),
        below(pki, unknown, "the other root sent along", twin.issuing.leaf(|_| {}), &[&twin.issuing, &twin.root]),
        below(pki, unknown, "no intermediate", pki.issuing.leaf(|_| {}), &[]),
        leaf(pki, ("unknown_trust_domain", "unknown_ca"), "a trust domain without bundle", foreign),
    ]
}

fn unwanted(pki: &Pki) -> Vec<Case> {
    let good = |kind, what| leaf(pki, kind, what, |_| {});
    let expecting = |what, ids| {
        let mut case = good(("not_expected", "access_denied"), what);
        case.policy = Arc::new(ExpectedIds(ids));
        case
    };
    let mut denied = good(("not_allowed", "access_denied"), "a rule that refuses");
    denied.policy = Arc::new(DenyAll);
    let revoked = |what, revocations| {
        let serial = |params: &mut CertificateParams| params.serial_number = Some(SerialNumber::from_slice(&[7; 16]));
        let mut case = leaf(pki, ("revoked", "certificate_revoked"), what, serial);
        let bundles = bundles([(DOMAIN, vec![pki.root.der()])]);
        case.trust = Arc::new(Trust::new(bundles, revocations).unwrap());
        case
    };
    let serials = [kith_identity::Serial::from_bytes(&[7; 16]).unwrap()].into();
    vec![
        expecting("another identity than expected", vec![id("/ns/shop/sa/db")]),
        expecting("nobody expected", vec![]),
        denied,
        revoked("a revoked serial number", Revocations { serials, ..Revocations::default() }),
        revoked("a revoked identity", Revocations { ids: [id("/ns/shop/sa/web")].into(), ..Revocations::default() }),
    ]
}
