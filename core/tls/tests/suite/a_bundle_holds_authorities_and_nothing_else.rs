use kith_identity::{BundleError, TrustBundle, TrustBundles};
use rcgen::{IsCa, KeyUsagePurpose as Usage};

use crate::common::pki::{Authority, DOMAIN, Pki, domain};

fn read(pem: &str) -> Result<Vec<Vec<u8>>, BundleError> {
    TrustBundle::from_pem(domain(DOMAIN), pem.as_bytes()).map(|bundle| bundle.authorities().to_vec())
}

#[test]
fn every_certificate_of_a_file_is_read_in_order() {
    let (one, two) = (Pki::new().root, Pki::new().root);
    let file = format!("# our roots\n{}\nthe old one:\n{}", one.pem(), two.pem());
    assert_eq!(read(&file), Ok(vec![one.der(), two.der()]));
    let windows = one.pem().replace('\n', "\r\n");
    assert_eq!(read(&windows), Ok(vec![one.der()]));
}

#[test]
fn one_wrong_entry_spoils_the_whole_file() {
    let pki = Pki::new();
    let with = |other: &str| read(&format!("{}{other}", pki.root.pem()));
    assert_eq!(with(&pki.root.key().serialize_pem()), Err(BundleError::NotACertificate));
    assert_eq!(
        with("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        Err(BundleError::NotACertificate)
    );
    assert_eq!(with("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), Err(BundleError::NotPem));
    // A file that was cut while it was written.
    let whole = pki.root.pem();
    assert_eq!(with(&whole[..whole.len() / 2]), Err(BundleError::NotPem));
}

#[test]
fn nothing_is_no_bundle() {
    for file in ["", "\n\n", "not PEM at all"] {
        assert_eq!(read(file), Err(BundleError::Empty), "{file:?}");
    }
    assert_eq!(TrustBundle::new(domain(DOMAIN), vec![]), Err(BundleError::Empty));
}

#[test]
fn only_what_may_sign_certificates_is_an_authority() {
    let bundle = |der| TrustBundle::new(domain(DOMAIN), vec![der]).map(|_| ());
    assert_eq!(bundle(Pki::new().issuing.leaf(|_| {}).der), Err(BundleError::NotACa));
    let root = |spoil: fn(&mut rcgen::CertificateParams)| Authority::root("root", spoil).der();
    assert_eq!(bundle(root(|params| params.is_ca = IsCa::NoCa)), Err(BundleError::NotACa));
    assert_eq!(bundle(root(|params| params.is_ca = IsCa::ExplicitNoCa)), Err(BundleError::NotACa));
    assert_eq!(bundle(root(|params| params.key_usages = vec![Usage::CrlSign])), Err(BundleError::NotACa));
    // Old roots carry no keyUsage: that limits nothing.
    assert_eq!(bundle(root(|params| params.key_usages.clear())), Ok(()));
}

#[test]
fn the_last_bundle_of_a_trust_domain_counts() {
    let (old, new) = (Pki::new().root.der(), Pki::new().root.der());
    let bundle = |der: &Vec<u8>| TrustBundle::new(domain(DOMAIN), vec![der.clone()]).unwrap();
    let bundles = TrustBundles::new(7, [bundle(&old), bundle(&new)]);
    assert_eq!(bundles.get(&domain(DOMAIN)).unwrap().authorities(), [new]);
    assert_eq!(bundles.iter().count(), 1);
    assert!(bundles.get(&domain("elsewhere.org")).is_none());
}
