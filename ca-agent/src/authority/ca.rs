//! One CA: what its certificate says, its key, and signing with it.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kith_identity::{Serial, SpiffeId, TrustDomain, subject_name};
use rcgen::{CertificateParams, Issuer, KeyPair, SubjectPublicKeyInfo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use super::template;
use crate::hash::Hash;

/// What a CA certificate says of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CaFacts {
    pub(crate) der: Vec<u8>,
    pub(crate) serial: Serial,
    pub(crate) subject: String,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// SHA-256 of the SubjectPublicKeyInfo, lower-case hex.
    pub(crate) spki_sha256: String,
    /// The public key itself, without its algorithm.
    public_key: Vec<u8>,
}

/// Why a certificate and a key are no CA.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CaError {
    /// Not one DER certificate, or one with fields that can't be read.
    #[error("it is no X.509 certificate")]
    NotACertificate,
    /// basicConstraints is missing or says no CA.
    #[error("its basicConstraints does not say CA")]
    NotACa,
    /// keyUsage is missing or without keyCertSign.
    #[error("its keyUsage does not hold keyCertSign")]
    KeyUsage,
    /// Its URI SAN names another trust domain.
    #[error("it belongs to '{0}', expected 'spiffe://{1}'")]
    TrustDomain(String, TrustDomain),
    /// The key can't be read.
    #[error("its private key is no PKCS#8 or SEC1 key that can sign")]
    Key,
    /// The key is of another certificate.
    #[error("its private key does not fit its certificate")]
    KeyMismatch,
}

impl CaFacts {
    /// Reads a CA certificate of this trust domain. One that names none is fine, as of an operator's own PKI.
    pub(crate) fn parse(der: &[u8], trust_domain: &TrustDomain) -> Result<Self, CaError> {
        let Ok(([], cert)) = X509Certificate::from_der(der) else {
            return Err(CaError::NotACertificate);
        };
        let constraints = cert.basic_constraints().map_err(|_| CaError::NotACertificate)?;
        if !constraints.is_some_and(|constraints| constraints.value.ca) {
            return Err(CaError::NotACa);
        }
        let usage = cert.key_usage().map_err(|_| CaError::NotACertificate)?;
        if !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
            return Err(CaError::KeyUsage);
        }
        check_trust_domain(&cert, trust_domain)?;
        Ok(Self {
            der: der.to_vec(),
            serial: Serial::from_bytes(cert.raw_serial()).map_err(|_| CaError::NotACertificate)?,
            subject: subject_name(der),
            not_before: system_time(cert.validity().not_before),
            not_after: system_time(cert.validity().not_after),
            spki_sha256: Hash::of(cert.public_key().raw).to_string(),
            public_key: cert.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// Whether the certificate has ended; its last second still counts (RFC 5280 §4.1.2.5).
    pub(crate) fn has_expired(&self, now: SystemTime) -> bool {
        now.duration_since(self.not_after).is_ok_and(|past| past.as_secs() > 0)
    }
}

/// A fresh serial number of 128 random bits.
pub(crate) fn random_serial() -> Result<Serial, SignError> {
    let mut bits = [0; 16];
    aws_lc_rs::rand::fill(&mut bits).map_err(|_| SignError::Random)?;
    Serial::from_bytes(&bits).map_err(|_| SignError::Random)
}

/// A CA that can sign.
pub(crate) struct Authority {
    pub(crate) facts: CaFacts,
    /// What a holder of its signature shows besides the leaf: itself, then what leads on towards the root.
    pub(crate) chain: Vec<Vec<u8>>,
    issuer: Issuer<'static, KeyPair>,
}

/// Why there is no new certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SignError {
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The authority has expired.
    #[error("the authority that would sign has expired")]
    Expired,
    /// A name in it is not ASCII.
    #[error(transparent)]
    Name(#[from] template::NameError),
    /// The public key is of no supported kind.
    #[error("the public key can't stand in a certificate")]
    PublicKey,
    /// The signing itself failed.
    #[error("signing failed: {0}")]
    Signing(String),
}

impl Authority {
    /// Composes an authority of its certificate, its key, and the certificates between it and the root.
    pub(crate) fn new(
        facts: CaFacts,
        key: &PrivateKeyDer<'_>,
        intermediates: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Self, CaError> {
        let key = KeyPair::try_from(key).map_err(|_| CaError::Key)?;
        if key.public_key_raw() != facts.public_key {
            return Err(CaError::KeyMismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(facts.der.as_slice()), key)
            .map_err(|_| CaError::NotACertificate)?;
        let chain = std::iter::once(facts.der.clone()).chain(intermediates).collect();
        Ok(Self { facts, chain, issuer })
    }

    /// Signs a certificate for a public key, given as the DER of its SubjectPublicKeyInfo.
    pub(crate) fn sign(&self, params: &CertificateParams, public_key: &[u8]) -> Result<Vec<u8>, SignError> {
        let key = SubjectPublicKeyInfo::from_der(public_key).map_err(|_| SignError::PublicKey)?;
        let signed = params.signed_by(&key, &self.issuer).map_err(|error| SignError::Signing(error.to_string()))?;
        Ok(signed.der().to_vec())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.facts.subject)
    }
}

/// A CA that was just made: its certificate and its key as PEM.
pub(crate) struct NewCa {
    pub(crate) serial: Serial,
    pub(crate) certificate: Vec<u8>,
    pub(crate) key_pem: Zeroizing<String>,
}

/// Makes a root with a fresh P-256 key.
pub(crate) fn make_root(trust_domain: &TrustDomain, lifetime: Duration, now: SystemTime) -> Result<NewCa, SignError> {
    let serial = random_serial()?;
    let validity = template::Validity::new(now, lifetime, None).ok_or(SignError::Expired)?;
    let key = generate_key()?;
    let params = template::root(trust_domain, &serial, validity)?;
    let signed = params.self_signed(&key).map_err(|error| SignError::Signing(error.to_string()))?;
    Ok(NewCa { serial, certificate: signed.der().to_vec(), key_pem: Zeroizing::new(key.serialize_pem()) })
}

/// Makes an issuing authority with a fresh P-256 key under a root, which it does not outlive.
pub(crate) fn make_issuing(
    trust_domain: &TrustDomain,
    root: &Authority,
    lifetime: Duration,
    now: SystemTime,
) -> Result<NewCa, SignError> {
    let serial = random_serial()?;
    let validity = template::Validity::new(now, lifetime, Some(root.facts.not_after)).ok_or(SignError::Expired)?;
    let key = generate_key()?;
    let params = template::issuing(trust_domain, &serial, validity)?;
    let certificate = root.sign(&params, &public_key_der(&key))?;
    Ok(NewCa { serial, certificate, key_pem: Zeroizing::new(key.serialize_pem()) })
}

/// What a leaf is to say.
#[derive(Debug, Clone)]
pub(crate) struct LeafRequest<'a> {
    pub(crate) id: &'a SpiffeId,
    pub(crate) dns_names: &'a [String],
    /// The DER of a SubjectPublicKeyInfo.
    pub(crate) public_key: &'a [u8],
    pub(crate) lifetime: Duration,
}

/// Signs a leaf, which does not outlive the authority.
pub(crate) fn make_leaf(authority: &Authority, leaf: &LeafRequest<'_>, now: SystemTime) -> Result<Vec<u8>, SignError> {
    let validity = template::Validity::new(now, leaf.lifetime, Some(authority.facts.not_after));
    let params = template::leaf(leaf.id, leaf.dns_names, &random_serial()?, validity.ok_or(SignError::Expired)?)?;
    authority.sign(&params, leaf.public_key)
}

/// A fresh P-256 key.
pub(crate) fn generate_key() -> Result<KeyPair, SignError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|error| SignError::Signing(error.to_string()))
}

/// The DER of a key's SubjectPublicKeyInfo.
pub(crate) fn public_key_der(key: &KeyPair) -> Vec<u8> {
    rcgen::PublicKeyData::subject_public_key_info(key)
}

fn check_trust_domain(cert: &X509Certificate<'_>, trust_domain: &TrustDomain) -> Result<(), CaError> {
    let names = cert.subject_alternative_name().map_err(|_| CaError::NotACertificate)?;
    let own = format!("spiffe://{trust_domain}");
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        if let GeneralName::URI(uri) = name
            && uri.starts_with("spiffe://")
            && **uri != *own
            && !uri.starts_with(&format!("{own}/"))
        {
            return Err(CaError::TrustDomain((*uri).to_owned(), trust_domain.clone()));
        }
    }
    Ok(())
}

fn system_time(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}
