use std::collections::BTreeMap;

use x509_parser::{
    pem::Pem,
    prelude::{FromDer, X509Certificate},
};

use crate::TrustDomain;

/// The roots of one trust domain: the only ones that may vouch for its SPIFFE IDs (X509-SVID §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    authorities: Vec<Vec<u8>>,
}

/// Why certificates are no trust bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The text is no PEM.
    #[error("the trust bundle is not PEM")]
    NotPem,
    /// There is no certificate.
    #[error("the trust bundle holds no certificate")]
    Empty,
    /// An entry is no certificate.
    #[error("the trust bundle holds something that is no X.509 certificate")]
    NotACertificate,
    /// An entry is no CA certificate, or says that it may not sign certificates.
    #[error("the trust bundle holds a certificate that is no CA")]
    NotACa,
}

impl TrustBundle {
    /// Composes a bundle of DER certificates, each of a CA.
    ///
    /// # Errors
    /// When there is none, or one is not the certificate of a CA.
    pub fn new(trust_domain: TrustDomain, authorities: Vec<Vec<u8>>) -> Result<Self, BundleError> {
        if authorities.is_empty() {
            return Err(BundleError::Empty);
        }
        authorities.iter().try_for_each(|der| check_authority(der))?;
        Ok(Self { trust_domain, authorities })
    }

    /// Reads a PEM file's content: one or more CERTIFICATE blocks.
    ///
    /// # Errors
    /// When it is no PEM, holds another kind of block, or is no bundle.
    pub fn from_pem(trust_domain: TrustDomain, pem: &[u8]) -> Result<Self, BundleError> {
        let mut authorities = Vec::new();
        for block in Pem::iter_from_buffer(pem) {
            let block = block.map_err(|_| BundleError::NotPem)?;
            if block.label != "CERTIFICATE" {
                return Err(BundleError::NotACertificate);
            }
            authorities.push(block.contents);
        }
        Self::new(trust_domain, authorities)
    }

    /// Whose roots these are.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots, as DER certificates.
    #[must_use]
    pub fn authorities(&self) -> &[Vec<u8>] {
        &self.authorities
    }
}

fn check_authority(der: &[u8]) -> Result<(), BundleError> {
    let Ok(([], cert)) = X509Certificate::from_der(der) else {
        return Err(BundleError::NotACertificate);
    };
    let is_ca = matches!(cert.basic_constraints(), Ok(Some(constraints)) if constraints.value.ca);
    let may_sign = match cert.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    if is_ca && may_sign { Ok(()) } else { Err(BundleError::NotACa) }
}

/// The trust bundles of every trust domain that we know, with the sequence number under which they were published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustBundles {
    /// Never decreases; 0 when the bundles come from no stream.
    pub sequence: u64,
    by_trust_domain: BTreeMap<TrustDomain, TrustBundle>,
}

impl TrustBundles {
    /// The bundles under this sequence number; a later bundle of the same trust domain replaces an earlier one.
    pub fn new(sequence: u64, bundles: impl IntoIterator<Item = TrustBundle>) -> Self {
        let by_trust_domain = bundles.into_iter().map(|bundle| (bundle.trust_domain.clone(), bundle)).collect();
        Self { sequence, by_trust_domain }
    }

    /// The bundle of one trust domain.
    #[must_use]
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&TrustBundle> {
        self.by_trust_domain.get(trust_domain)
    }

    /// All bundles, by trust domain.
    pub fn iter(&self) -> impl Iterator<Item = &TrustBundle> {
        self.by_trust_domain.values()
    }
}
