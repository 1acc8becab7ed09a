use std::{fmt, time::SystemTime};

use zeroize::Zeroizing;

use crate::{Leaf, LeafError, Serial, SpiffeId};

/// A private key as PKCS#8 DER. It is wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Zeroizing<Vec<u8>>);

impl PrivateKey {
    /// Takes over the DER of a PKCS#8 PrivateKeyInfo.
    #[must_use]
    pub fn from_pkcs8(der: Vec<u8>) -> Self {
        Self(Zeroizing::new(der))
    }

    /// The PKCS#8 DER: secret.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(secret)")
    }
}

/// An X.509-SVID: a leaf certificate, the intermediates that lead towards its root, and the leaf's private key.
#[derive(Debug, Clone)]
pub struct X509Svid {
    leaf: Leaf,
    chain: Vec<Vec<u8>>,
    key: PrivateKey,
}

/// Why a chain and a key are no X.509-SVID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SvidError {
    /// There is no certificate.
    #[error("the certificate chain is empty")]
    Empty,
    /// The first certificate is no leaf of an SVID.
    #[error(transparent)]
    Leaf(#[from] LeafError),
}

impl X509Svid {
    /// Composes an SVID of DER certificates, leaf first, and its key.
    /// Whether the key fits the leaf is checked where the key is used: when credentials are published.
    ///
    /// # Errors
    /// When the chain is empty or its first certificate is no leaf X509-SVID.
    pub fn new(chain: Vec<Vec<u8>>, key: PrivateKey) -> Result<Self, SvidError> {
        let leaf = Leaf::parse(chain.first().ok_or(SvidError::Empty)?)?;
        Ok(Self { leaf, chain, key })
    }

    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// The leaf's serial number.
    #[must_use]
    pub fn serial(&self) -> &Serial {
        &self.leaf.serial
    }

    /// The first second of the leaf's validity.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.leaf.not_before
    }

    /// The last second of the leaf's validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.leaf.not_after
    }

    /// What the leaf says.
    #[must_use]
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// The DER certificates, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The leaf's private key.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }
}
