use kith_identity::{LeafError, SpiffeId};
use kith_tls::Rejection;
use rcgen::{IsCa, KeyUsagePurpose};

use super::{
    ca::{generate_key, make_issuing, make_root, public_key_der, random_serial},
    *,
};
use crate::pem;

const HOUR: Duration = Duration::from_secs(3600);

fn domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

fn loaded(made: &ca::NewCa) -> Authority {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
    let key = PrivateKeyDer::from_pem_slice(made.key_pem.as_bytes()).unwrap();
    Authority::new(CaFacts::parse(&made.certificate, &domain()).unwrap(), &key, []).unwrap()
}

struct Signer {
    root: Authority,
    issuing: Authority,
    trust: Trust,
    now: SystemTime,
}

impl Signer {
    fn new() -> Self {
        let now = SystemTime::now();
        let root = loaded(&make_root(&domain(), 24 * HOUR, now).unwrap());
        let issuing = loaded(&make_issuing(&domain(), &root, 12 * HOUR, now).unwrap());
        let trust = trust(std::slice::from_ref(&root.facts), &domain()).unwrap();
        Self { root, issuing, trust, now }
    }
}

/// What is wrong with a leaf that differs from what was asked for by this change.
fn fault(change: impl FnOnce(&mut rcgen::CertificateParams)) -> ValidateError {
    let signer = Signer::new();
    let id: SpiffeId = "spiffe://example.org/web".parse().unwrap();
    let public_key = public_key_der(&generate_key().unwrap());
    let asked = LeafRequest { id: &id, dns_names: &[], public_key: &public_key, lifetime: HOUR };
    let validity = template::Validity::new(signer.now, HOUR, None).unwrap();
    let mut params = template::leaf(&id, &[], &random_serial().unwrap(), validity).unwrap();
    change(&mut params);
    let der = signer.issuing.sign(&params, &public_key).unwrap();
    check_leaf(&der, &asked, &signer.issuing, &signer.trust, signer.now).unwrap_err()
}

fn uri(text: &str) -> rcgen::SanType {
    rcgen::SanType::URI(text.try_into().unwrap())
}

#[test]
fn nothing_leaves_that_says_more_or_else_than_was_asked() {
    let dns = rcgen::SanType::DnsName("a".try_into().unwrap());
    assert_eq!(fault(|p| p.subject_alt_names = vec![uri("spiffe://example.org/db")]), ValidateError::Name);
    assert_eq!(fault(|p| p.subject_alt_names.push(dns)), ValidateError::Name);
    assert_eq!(fault(|p| p.distinguished_name.push(rcgen::DnType::CommonName, "web")), ValidateError::Name);
    let second = fault(|p| p.subject_alt_names.push(uri("spiffe://example.org/db")));
    assert_eq!(second, ValidateError::Leaf(LeafError::SeveralUriSans));
    let ca = fault(|p| p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    assert_eq!(ca, ValidateError::Leaf(LeafError::IsCa));
    let signing = fault(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign));
    assert_eq!(signing, ValidateError::Leaf(LeafError::KeyCertSign));
    assert_eq!(fault(|p| p.not_after += 2 * HOUR), ValidateError::Validity);
    assert_eq!(fault(|p| p.not_before -= HOUR), ValidateError::Validity);
    // Within its lifetime, and yet of no use now.
    assert_eq!(fault(|p| p.not_before += HOUR / 2), ValidateError::Refused(Rejection::NotYetValid));
}

#[test]
fn nothing_leaves_with_another_key_or_another_signature() {
    let (signer, other) = (Signer::new(), Signer::new());
    let id: SpiffeId = "spiffe://example.org/web".parse().unwrap();
    let (key, other_key) = (public_key_der(&generate_key().unwrap()), public_key_der(&generate_key().unwrap()));
    let asked = LeafRequest { id: &id, dns_names: &[], public_key: &key, lifetime: HOUR };
    let validity = template::Validity::new(signer.now, HOUR, None).unwrap();
    let params = template::leaf(&id, &[], &random_serial().unwrap(), validity).unwrap();
    let check = |der: &[u8]| check_leaf(der, &asked, &signer.issuing, &signer.trust, signer.now).unwrap_err();
    assert_eq!(check(&signer.issuing.sign(&params, &other_key).unwrap()), ValidateError::Key);
    assert_eq!(check(&other.issuing.sign(&params, &key).unwrap()), ValidateError::Signature);
    // The root may sign authorities only; that it could is no reason to let it.
    assert_eq!(check(&signer.root.sign(&params, &key).unwrap()), ValidateError::Signature);
    let mut forged = signer.issuing.sign(&params, &key).unwrap();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(check(&forged), ValidateError::Signature);
}

#[test]
fn our_cas_have_the_form_of_the_standard() {
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
    let signer = Signer::new();
    for (authority, path_len) in [(&signer.root, 1), (&signer.issuing, 0)] {
        let (_, cert) = X509Certificate::from_der(&authority.facts.der).unwrap();
        let constraints = cert.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(path_len));
        let usage = cert.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert_eq!(usage.value.flags.count_ones(), 2);
        let names = &cert.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(names[..], [GeneralName::URI("spiffe://example.org")]);
        let ids = ["2.5.29.14", "2.5.29.35"];
        assert!(ids.iter().all(|id| cert.extensions().iter().any(|e| e.oid.to_id_string() == *id)));
    }
    assert_ne!(signer.root.facts.subject, Signer::new().root.facts.subject);
    assert_ne!(signer.root.facts.subject, signer.issuing.facts.subject);
}

#[test]
fn a_ca_of_another_domain_or_that_is_none_is_told() {
    let parse = |der: &[u8]| CaFacts::parse(der, &domain()).unwrap_err();
    let made = make_root(&"other.org".parse().unwrap(), HOUR, SystemTime::now()).unwrap();
    assert_eq!(parse(&made.certificate), ca::CaError::TrustDomain("spiffe://other.org".into(), domain()));
    // A name that only begins like ours.
    let made = make_root(&"example.org.evil".parse().unwrap(), HOUR, SystemTime::now()).unwrap();
    assert!(matches!(parse(&made.certificate), ca::CaError::TrustDomain(..)));
    assert_eq!(parse(pem::certificate(&made.certificate).as_bytes()), ca::CaError::NotACertificate);
    let signer = Signer::new();
    let id: SpiffeId = "spiffe://example.org/web".parse().unwrap();
    let key = public_key_der(&generate_key().unwrap());
    let asked = LeafRequest { id: &id, dns_names: &[], public_key: &key, lifetime: HOUR };
    assert_eq!(parse(&make_leaf(&signer.issuing, &asked, signer.now).unwrap()), ca::CaError::NotACa);
}

#[test]
fn an_expired_authority_signs_nothing() {
    let signer = Signer::new();
    let id: SpiffeId = "spiffe://example.org/web".parse().unwrap();
    let key = public_key_der(&generate_key().unwrap());
    let asked = LeafRequest { id: &id, dns_names: &[], public_key: &key, lifetime: HOUR };
    let later = signer.now + 13 * HOUR;
    assert_eq!(make_leaf(&signer.issuing, &asked, later), Err(SignError::Expired));
}
