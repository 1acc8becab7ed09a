//! Certificate signing requests (RFC 2986): a key and the proof of holding it. Names in them are not even looked at.

use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::hash::Hash;

/// A CSR with a P-256 key is a few hundred bytes; nobody needs this much.
const LARGEST: usize = 16 * 1024;

/// The DER of a P-256 key's SubjectPublicKeyInfo up to its uncompressed point (RFC 5480 §2).
const P256_SPKI: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
const P256_SPKI_LEN: usize = P256_SPKI.len() + 64;

/// A key whose holder has proved that it is theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProvedKey {
    /// The DER of its SubjectPublicKeyInfo.
    pub(crate) spki: Vec<u8>,
    pub(crate) hash: Hash,
}

/// Why a CSR is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CsrError {
    /// Far more than any CSR.
    #[error("the CSR is larger than {LARGEST} bytes")]
    TooLarge,
    /// Not exactly one DER PKCS#10 request.
    #[error("the CSR is not one DER-encoded PKCS#10 request")]
    Malformed,
    /// Another kind of key or curve.
    #[error("the CSR's key is not an EC key on the curve P-256, uncompressed")]
    Key,
    /// Not signed with its own key.
    #[error("the CSR's signature is not of its own key")]
    Signature,
}

impl CsrError {
    /// The stable label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "csr_too_large",
            Self::Malformed => "csr_malformed",
            Self::Key => "csr_key",
            Self::Signature => "csr_signature",
        }
    }
}

/// Takes the key out of a CSR.
pub(crate) fn read(der: &[u8]) -> Result<ProvedKey, CsrError> {
    if der.len() > LARGEST {
        return Err(CsrError::TooLarge);
    }
    let Ok(([], csr)) = X509CertificationRequest::from_der(der) else {
        return Err(CsrError::Malformed);
    };
    // One encoding only: what the certificate will hold is byte for byte what was asked for.
    let spki = csr.certification_request_info.subject_pki.raw;
    if spki.len() != P256_SPKI_LEN || !spki.starts_with(&P256_SPKI) {
        return Err(CsrError::Key);
    }
    csr.verify_signature().map_err(|_| CsrError::Signature)?;
    Ok(ProvedKey { spki: spki.to_vec(), hash: Hash::of(spki) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;

    fn csr(algorithm: &'static SignatureAlgorithm) -> (KeyPair, Vec<u8>) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let der = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        (key, der)
    }

    #[test]
    fn takes_the_key_as_it_is() {
        let (key, der) = csr(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(read(&der).unwrap().spki, crate::authority::ca::public_key_der(&key));
    }

    #[test]
    fn other_keys_are_refused() {
        for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256] {
            assert_eq!(read(&csr(algorithm).1), Err(CsrError::Key), "{algorithm:?}");
        }
    }

    #[test]
    fn no_changed_byte_makes_another_key_of_it() {
        let (_, der) = csr(&rcgen::PKCS_ECDSA_P256_SHA256);
        let key = read(&der).unwrap();
        let mut refused = 0;
        for position in 0..der.len() {
            let mut changed = der.clone();
            changed[position] ^= 0x01;
            // The name of the signature's algorithm is not signed itself: a parser may overlook a bit of it.
            match read(&changed) {
                Ok(same) => assert_eq!(same, key, "byte {position}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused >= der.len() - 2, "{refused} of {}", der.len());
    }

    #[test]
    fn garbage_tails_and_floods_are_refused() {
        let (_, der) = csr(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(read(&[]), Err(CsrError::Malformed));
        assert_eq!(read(b"garbage"), Err(CsrError::Malformed));
        assert_eq!(read(&[der.as_slice(), &[0]].concat()), Err(CsrError::Malformed));
        assert_eq!(read(&der[..der.len() - 1]), Err(CsrError::Malformed));
        assert_eq!(read(&vec![0x30; LARGEST + 1]), Err(CsrError::TooLarge));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(read(&bytes).is_err());
        }
    }
}
