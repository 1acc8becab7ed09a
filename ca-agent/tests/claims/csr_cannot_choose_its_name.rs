use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::common::{DB, Key, Svid, Tested, WEB, by_token};

/// A CSR that asks for everything that it must not get.
fn greedy() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "root");
    params.subject_alt_names = vec![
        SanType::URI(DB.try_into().unwrap()),
        SanType::URI("spiffe://example.org/kith/ca".try_into().unwrap()),
        SanType::DnsName("kith-ca.kith.svc".try_into().unwrap()),
        SanType::IpAddress("10.0.0.1".parse().unwrap()),
    ];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0])];
    params
}

async fn issued(tested: &Tested) -> Svid {
    let key = Key::new();
    let request = by_token(&tested.token(WEB).await, key.csr_of(greedy()));
    let answer = tested.attest().await.issue_certificate(request).await.unwrap().into_inner();
    Svid::new(key, answer.certificate_chain)
}

#[tokio::test]
async fn the_name_is_the_attested_one_and_no_other_name_is_there() {
    let tested = Tested::start(&[]).await;
    let svid = issued(&tested).await;
    assert_eq!(svid.leaf().id.to_string(), WEB);
    let (_, cert) = X509Certificate::from_der(&svid.chain[0]).unwrap();
    let names = cert.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [GeneralName::URI(WEB)]);
    assert_eq!(cert.subject().iter().count(), 0);
    // Without a subject, the names are critical (RFC 5280 §4.1.2.6).
    assert!(names.critical);
}

#[tokio::test]
async fn the_certificate_has_the_form_of_the_standard_and_nothing_of_the_csr() {
    let tested = Tested::start(&[]).await;
    let svid = issued(&tested).await;
    let (_, cert) = X509Certificate::from_der(&svid.chain[0]).unwrap();
    let usage = cert.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature());
    assert_eq!(usage.value.flags.count_ones(), 1);
    let purposes = cert.extended_key_usage().unwrap().unwrap();
    assert!(purposes.value.client_auth && purposes.value.server_auth && !purposes.value.code_signing);
    let constraints = cert.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    assert!(cert.extensions().iter().all(|extension| extension.oid.to_id_string() != "1.2.3.4"));
    // AKI, SAN, key usage, extended key usage, SKI, basic constraints.
    assert_eq!(cert.extensions().len(), 6);
    assert_eq!(cert.raw_serial().iter().skip_while(|b| **b == 0).count().div_ceil(4), 4);
}

#[tokio::test]
async fn it_is_valid_from_a_minute_ago_for_the_lifetime_asked_of_the_agent() {
    let tested = Tested::start(&["--svid-lifetime=30s"]).await;
    let leaf = issued(&tested).await.leaf();
    let whole = |time: std::time::SystemTime| {
        Duration::from_secs(time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs())
    };
    let now = whole(tested.clock.now());
    assert_eq!(whole(leaf.not_before), now - Duration::from_secs(60));
    assert_eq!(whole(leaf.not_after), now + Duration::from_secs(30));
}

#[tokio::test]
async fn an_svid_never_outlives_its_issuing_authority() {
    let flags = ["--svid-lifetime=60s", "--issuing-lifetime=60s", "--root-lifetime=60s"];
    let tested = Tested::start(&flags).await;
    // The root ends with it, so the issuing authority can't be replaced.
    tested.clock.advance(Duration::from_secs(50));
    let svid = issued(&tested).await;
    let (_, issuing) = X509Certificate::from_der(&svid.chain[1]).unwrap();
    let (_, leaf) = X509Certificate::from_der(&svid.chain[0]).unwrap();
    assert_eq!(leaf.validity().not_after, issuing.validity().not_after);
}
