use std::time::{Duration, SystemTime};

use kith_identity::{TrustBundle, TrustBundles, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SerialNumber,
};
use time::OffsetDateTime;

use super::TRUST_DOMAIN;

pub(super) const YEAR: Duration = Duration::from_secs(365 * 86_400);

pub(super) type Issuer = CertifiedIssuer<'static, KeyPair>;

pub(super) fn bundle_of(sequence: u64, roots: &[&Issuer]) -> TrustBundles {
    let trust_domain: TrustDomain = TRUST_DOMAIN.parse().unwrap();
    let roots = roots.iter().map(|root| root.as_ref().der().to_vec()).collect();
    TrustBundles::new(sequence, [TrustBundle::new(trust_domain, roots).unwrap()])
}

pub(super) fn authority(name: &str, constraints: BasicConstraints, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::from(now - Duration::from_secs(3600));
    params.not_after = OffsetDateTime::from(now + 2 * YEAR);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial());
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(super) fn new_key() -> KeyPair {
    KeyPair::generate().unwrap()
}

pub(super) fn serial() -> SerialNumber {
    // A key's own bytes are random enough to tell certificates apart; positive, and without a leading zero.
    let mut bytes = new_key().public_key_raw()[1..17].to_vec();
    bytes[0] = bytes[0] & 0x3f | 0x40;
    SerialNumber::from_slice(&bytes)
}
