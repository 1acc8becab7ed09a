//! What our certificates say, before anybody signs them. Pure.

use std::time::{Duration, SystemTime};

use kith_identity::{Serial, SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType, SerialNumber,
};

/// Every certificate is valid from this long before it is made, for peers whose clocks are behind ours.
pub(crate) const BACKDATE: Duration = Duration::from_secs(60);

/// X.520's upper bound of an organization's name, in characters.
const LONGEST_ORGANIZATION: usize = 64;

/// When a certificate is valid; both ends are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Validity {
    /// A lifetime from now on that ends no later than its issuer. `None` when the issuer has ended already.
    pub(crate) fn new(now: SystemTime, lifetime: Duration, issuer_not_after: Option<SystemTime>) -> Option<Self> {
        let not_after = now.checked_add(lifetime)?;
        let not_after = issuer_not_after.map_or(not_after, |bound| bound.min(not_after));
        let not_before = now.checked_sub(BACKDATE)?;
        (not_after > now).then_some(Self { not_before, not_after })
    }
}

/// A name that a certificate can't carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' can't stand in a certificate")]
pub(crate) struct NameError(String);

/// A root: it may sign issuing authorities, and they nothing but leaves.
pub(crate) fn root(
    trust_domain: &TrustDomain,
    serial: &Serial,
    validity: Validity,
) -> Result<CertificateParams, NameError> {
    authority("root", trust_domain, serial, validity, 1)
}

/// An issuing authority: it may sign leaves only.
pub(crate) fn issuing(
    trust_domain: &TrustDomain,
    serial: &Serial,
    validity: Validity,
) -> Result<CertificateParams, NameError> {
    authority("issuing authority", trust_domain, serial, validity, 0)
}

/// A leaf X509-SVID (X509-SVID §2–4): one URI SAN, no subject, good for both ends of a connection.
pub(crate) fn leaf(
    id: &SpiffeId,
    dns_names: &[String],
    serial: &Serial,
    validity: Validity,
) -> Result<CertificateParams, NameError> {
    let mut params = common(serial, validity);
    params.subject_alt_names = vec![uri(id.to_string())?];
    for name in dns_names {
        let ascii = name.clone().try_into().map_err(|_| NameError(name.clone()))?;
        params.subject_alt_names.push(SanType::DnsName(ascii));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn authority(
    role: &str,
    trust_domain: &TrustDomain,
    serial: &Serial,
    validity: Validity,
    path_len: u8,
) -> Result<CertificateParams, NameError> {
    let mut params = common(serial, validity);
    // The serial number keeps two authorities from ever sharing a subject: path building goes by name.
    let number: String = serial.to_string().chars().take(16).collect();
    params.distinguished_name.push(DnType::OrganizationName, organization(trust_domain));
    params.distinguished_name.push(DnType::CommonName, format!("Kith {role} {number}"));
    // A signing certificate may carry the trust domain's own ID, without a path (X509-SVID §2).
    params.subject_alt_names = vec![uri(format!("spiffe://{trust_domain}"))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn common(serial: &Serial, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.distinguished_name = DistinguishedName::new();
    params.not_before = validity.not_before.into();
    params.not_after = validity.not_after.into();
    params.use_authority_key_identifier_extension = true;
    params
}

fn organization(trust_domain: &TrustDomain) -> String {
    trust_domain.as_str().chars().take(LONGEST_ORGANIZATION).collect()
}

fn uri(text: String) -> Result<SanType, NameError> {
    match text.as_str().try_into() {
        Ok(ascii) => Ok(SanType::URI(ascii)),
        Err(_) => Err(NameError(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_life_begins_a_minute_ago_and_never_outlives_its_issuer() {
        let hour = Duration::from_secs(3600);
        let cases = [
            (at(10_000), None, Some((at(9_940), at(13_600)))),
            (at(10_000), Some(at(99_999)), Some((at(9_940), at(13_600)))),
            (at(10_000), Some(at(10_030)), Some((at(9_940), at(10_030)))),
            (at(10_000), Some(at(10_000)), None),
            (at(10_000), Some(at(5)), None),
        ];
        for (now, bound, expected) in cases {
            let validity = Validity::new(now, hour, bound);
            assert_eq!(validity.map(|v| (v.not_before, v.not_after)), expected, "{bound:?}");
        }
    }

    #[test]
    fn a_long_trust_domain_still_makes_a_legal_organization() {
        assert_eq!(organization(&"a".repeat(255).parse().unwrap()).len(), 64);
    }
}
