use kith_identity::PrivateKey;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use zeroize::Zeroize as _;

/// The kind of every key that we make, in the words of the status API.
pub(super) const KEY_TYPE: &str = "ECDSA P-256";

/// A fresh key and the request to certify it: one for each issuance, kept through its retries.
#[derive(Debug)]
pub(super) struct Request {
    key: PrivateKey,
    public_key: Vec<u8>,
    csr: Vec<u8>,
}

/// The system gave no key.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no key could be made: {0}")]
pub(super) struct KeyError(String);

impl Request {
    /// Makes a P-256 key and a CSR (RFC 2986) that says nothing but the key: the name comes from the attestation.
    pub(super) fn new() -> Result<Self, KeyError> {
        let failed = |error: rcgen::Error| KeyError(error.to_string());
        let mut pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&pair).map_err(failed)?;
        let request = Self {
            key: PrivateKey::from_pkcs8(pair.serialize_der()),
            public_key: pair.subject_public_key_info(),
            csr: csr.der().to_vec(),
        };
        // rcgen keeps a copy of its own and does not wipe it.
        pair.zeroize();
        Ok(request)
    }

    /// The private key.
    pub(super) fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The DER of the public key's SubjectPublicKeyInfo.
    pub(super) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The CSR's DER.
    pub(super) fn csr(&self) -> &[u8] {
        &self.csr
    }
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateSigningRequestParams;

    use super::*;

    #[test]
    fn a_request_names_nothing_but_its_key() {
        let request = Request::new().unwrap();
        let read = CertificateSigningRequestParams::from_der(&request.csr().to_vec().into()).unwrap();
        assert_eq!(read.public_key.subject_public_key_info(), request.public_key());
        assert!(read.params.subject_alt_names.is_empty());
        assert_eq!(read.params.distinguished_name.iter().count(), 0);
        assert!(!format!("{request:?}").contains(&format!("{:?}", request.key().pkcs8())));
    }

    #[test]
    fn no_key_is_made_twice() {
        let (one, other) = (Request::new().unwrap(), Request::new().unwrap());
        assert_ne!(one.public_key(), other.public_key());
        assert_ne!(one.key(), other.key());
    }
}
