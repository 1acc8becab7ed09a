use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, ParsedExtension, X509Certificate, X509Extension};

use crate::{IdError, Serial, SpiffeId};

/// What a certificate says of its holder, once it has the form of a leaf X509-SVID.
///
/// Nothing in here is proved: signatures, trust and time are the verifier's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The one URI SAN.
    pub id: SpiffeId,
    /// The certificate's serial number.
    pub serial: Serial,
    /// The first second of its validity.
    pub not_before: SystemTime,
    /// The last second of its validity.
    pub not_after: SystemTime,
    /// The DER of its SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
}

/// Why a certificate is no leaf X509-SVID (X509-SVID §2, §3.3, §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeafError {
    /// Not DER, not version 3, a serial number that is not positive, an extension twice or of unknown meaning and
    /// critical, or a name that does not decode.
    #[error("the certificate is malformed")]
    Malformed,
    /// basicConstraints says CA.
    #[error("a CA certificate was presented as a leaf")]
    IsCa,
    /// keyUsage is missing, not critical, or without digitalSignature.
    #[error("keyUsage must be critical and hold digitalSignature")]
    KeyUsage,
    /// keyUsage holds keyCertSign.
    #[error("a leaf must not hold keyCertSign")]
    KeyCertSign,
    /// keyUsage holds cRLSign.
    #[error("a leaf must not hold cRLSign")]
    CrlSign,
    /// extKeyUsage is present and lacks clientAuth or serverAuth.
    #[error("extKeyUsage must hold both clientAuth and serverAuth")]
    ExtKeyUsage,
    /// No URI SAN at all.
    #[error("the certificate has no URI SAN")]
    NoUriSan,
    /// More than one URI SAN.
    #[error("the certificate has more than one URI SAN")]
    SeveralUriSans,
    /// The URI SAN is not the SPIFFE ID of a workload.
    #[error("the URI SAN is no SPIFFE ID: {0}")]
    SpiffeId(IdError),
}

impl LeafError {
    /// The stable label for metrics and logs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::IsCa => "ca_as_leaf",
            Self::KeyUsage => "key_usage",
            Self::KeyCertSign => "key_cert_sign",
            Self::CrlSign => "crl_sign",
            Self::ExtKeyUsage => "ext_key_usage",
            Self::NoUriSan => "no_uri_san",
            Self::SeveralUriSans => "several_uri_sans",
            Self::SpiffeId(_) => "invalid_spiffe_id",
        }
    }
}

impl Leaf {
    /// Reads one DER certificate and checks everything that X509-SVID asks of a leaf's own content.
    ///
    /// # Errors
    /// The first rule that the certificate breaks.
    pub fn parse(der: &[u8]) -> Result<Self, LeafError> {
        let cert = parse_whole(der)?;
        // An extension twice could be read one way here and another way elsewhere.
        cert.extensions_map().map_err(|_| LeafError::Malformed)?;
        if cert.extensions().iter().any(is_unreadable) {
            return Err(LeafError::Malformed);
        }
        check_basic_constraints(&cert)?;
        check_key_usage(&cert)?;
        check_ext_key_usage(&cert)?;
        Ok(Self {
            id: the_one_uri_san(&cert)?,
            serial: serial(cert.raw_serial())?,
            not_before: system_time(cert.validity().not_before)?,
            not_after: system_time(cert.validity().not_after)?,
            public_key: cert.public_key().raw.to_vec(),
        })
    }
}

fn parse_whole(der: &[u8]) -> Result<X509Certificate<'_>, LeafError> {
    match X509Certificate::from_der(der) {
        Ok(([], cert)) if cert.version().0 == 2 => Ok(cert),
        _ => Err(LeafError::Malformed),
    }
}

/// A critical extension of unknown meaning could take back everything else that the certificate says (RFC 5280 §4.2).
fn is_unreadable(extension: &X509Extension<'_>) -> bool {
    match extension.parsed_extension() {
        ParsedExtension::ParseError { .. } => true,
        ParsedExtension::UnsupportedExtension { .. } => extension.critical,
        _ => false,
    }
}

fn check_basic_constraints(cert: &X509Certificate<'_>) -> Result<(), LeafError> {
    match cert.basic_constraints().map_err(|_| LeafError::Malformed)? {
        Some(constraints) if constraints.value.ca => Err(LeafError::IsCa),
        _ => Ok(()),
    }
}

fn check_key_usage(cert: &X509Certificate<'_>) -> Result<(), LeafError> {
    let usage = cert.key_usage().map_err(|_| LeafError::Malformed)?.ok_or(LeafError::KeyUsage)?;
    if usage.value.key_cert_sign() {
        return Err(LeafError::KeyCertSign);
    }
    if usage.value.crl_sign() {
        return Err(LeafError::CrlSign);
    }
    if usage.critical && usage.value.digital_signature() { Ok(()) } else { Err(LeafError::KeyUsage) }
}

fn check_ext_key_usage(cert: &X509Certificate<'_>) -> Result<(), LeafError> {
    match cert.extended_key_usage().map_err(|_| LeafError::Malformed)? {
        Some(usage) if !(usage.value.client_auth && usage.value.server_auth) => Err(LeafError::ExtKeyUsage),
        _ => Ok(()),
    }
}

fn the_one_uri_san(cert: &X509Certificate<'_>) -> Result<SpiffeId, LeafError> {
    let names = cert.subject_alternative_name().map_err(|_| LeafError::Malformed)?.ok_or(LeafError::NoUriSan)?;
    let mut uri = None;
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(_) if uri.is_some() => return Err(LeafError::SeveralUriSans),
            GeneralName::URI(text) => uri = Some(*text),
            GeneralName::Invalid(..) => return Err(LeafError::Malformed),
            _ => {}
        }
    }
    uri.ok_or(LeafError::NoUriSan)?.parse().map_err(LeafError::SpiffeId)
}

/// A negative number would share the bytes of a positive one, and so be revoked in its place.
fn serial(integer: &[u8]) -> Result<Serial, LeafError> {
    match integer.first() {
        Some(sign) if sign & 0x80 == 0 => Serial::from_bytes(integer).map_err(|_| LeafError::Malformed),
        _ => Err(LeafError::Malformed),
    }
}

fn system_time(time: ASN1Time) -> Result<SystemTime, LeafError> {
    let seconds = u64::try_from(time.timestamp()).map_err(|_| LeafError::Malformed)?;
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}
