use std::sync::Arc;

use kith_identity::X509Svid;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};

use crate::Trust;

/// Everything that one handshake needs, as one immutable snapshot: the SVID, whom we believe, and a generation that
/// grows with every change of either.
#[derive(Debug)]
pub struct Material {
    svid: Arc<X509Svid>,
    trust: Arc<Trust>,
    generation: u64,
    certified_key: Arc<CertifiedKey>,
}

/// Why an SVID can't be presented.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MaterialError {
    /// The private key is not of a supported kind.
    #[error("the SVID's private key is not usable: it must be a PKCS#8 key of P-256, P-384, Ed25519 or RSA")]
    Key,
    /// The private key belongs to another certificate.
    #[error("the SVID's private key does not fit its certificate")]
    KeyMismatch,
}

impl Material {
    /// Composes a snapshot. Whether a peer would believe the SVID is checked by [`crate::Credentials`].
    ///
    /// # Errors
    /// When the key is not usable or does not fit the leaf.
    pub fn new(svid: Arc<X509Svid>, trust: Arc<Trust>, generation: u64) -> Result<Self, MaterialError> {
        let chain = svid.chain().iter().map(|der| CertificateDer::from(der.clone())).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(svid.key().pkcs8()));
        let key = any_supported_type(&key).map_err(|_| MaterialError::Key)?;
        let certified_key = CertifiedKey::new(chain, key);
        certified_key.keys_match().map_err(|_| MaterialError::KeyMismatch)?;
        Ok(Self { svid, trust, generation, certified_key: Arc::new(certified_key) })
    }

    /// The same SVID under other trust.
    #[must_use]
    pub fn with_trust(&self, trust: Arc<Trust>, generation: u64) -> Self {
        Self { svid: Arc::clone(&self.svid), trust, generation, certified_key: Arc::clone(&self.certified_key) }
    }

    pub(crate) fn with_generation(self, generation: u64) -> Self {
        Self { generation, ..self }
    }

    /// What we present.
    #[must_use]
    pub fn svid(&self) -> &X509Svid {
        &self.svid
    }

    /// Whom we believe.
    #[must_use]
    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// Grows with every change.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified_key
    }
}
