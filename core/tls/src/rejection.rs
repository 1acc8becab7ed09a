use std::sync::Arc;

use kith_identity::LeafError;
use rustls::CertificateError;

/// Why we refuse a peer. Each reason has its own label in metrics and logs, and the alert that the peer is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// No certificate where one is required.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// The leaf is no X509-SVID.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// There is no trust bundle for the leaf's trust domain.
    #[error("no trust bundle for the peer's trust domain")]
    UnknownTrustDomain,
    /// No root of its trust domain vouches for the leaf.
    #[error("no root of the peer's trust domain signed this chain")]
    UnknownCa,
    /// Only a root outside its validity vouches for the leaf.
    #[error("the root that signed this chain is outside its validity")]
    ExpiredRoot,
    /// The leaf or an intermediate has expired.
    #[error("the peer's certificate chain has expired")]
    Expired,
    /// The leaf or an intermediate is not valid yet.
    #[error("the peer's certificate chain is not valid yet")]
    NotYetValid,
    /// Too many intermediates, or more than a CA in the chain permits.
    #[error("the peer's certificate chain is too long")]
    ChainTooLong,
    /// A CA in the chain is name-constrained in a way that excludes the leaf. URI constraints, which exclude every
    /// SPIFFE ID, are not supported.
    #[error("a CA in the chain has name constraints that exclude the leaf; URI constraints are not supported")]
    NameConstraints,
    /// An intermediate is malformed, no CA, may not sign certificates, or only for one purpose.
    #[error("an intermediate in the chain is no CA certificate")]
    BadIntermediate,
    /// A certificate or identity that was revoked.
    #[error("the peer's certificate is revoked")]
    Revoked,
    /// A proved identity, but not one that may answer at this address.
    #[error("the peer is not one of the identities expected here")]
    NotExpected,
    /// A proved identity that policy refuses.
    #[error("policy refuses the peer by rule {rule}")]
    NotAllowed {
        /// The rule that decided.
        rule: Arc<str>,
    },
}

impl Rejection {
    /// The stable label.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::Leaf(error) => error.as_str(),
            Self::UnknownTrustDomain => "unknown_trust_domain",
            Self::UnknownCa => "unknown_ca",
            Self::ExpiredRoot => "expired_root",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::ChainTooLong => "chain_too_long",
            Self::NameConstraints => "name_constraints",
            Self::BadIntermediate => "bad_intermediate",
            Self::Revoked => "revoked",
            Self::NotExpected => "not_expected",
            Self::NotAllowed { .. } => "not_allowed",
        }
    }

    /// The rustls error that makes rustls send the right alert (RFC 8446 §6.2).
    pub(crate) fn as_rustls(&self) -> rustls::Error {
        let error = match self {
            Self::NoCertificate => return rustls::Error::NoCertificatesPresented,
            Self::Leaf(LeafError::ExtKeyUsage) => CertificateError::InvalidPurpose,
            Self::UnknownTrustDomain | Self::UnknownCa | Self::ExpiredRoot => CertificateError::UnknownIssuer,
            Self::Expired => CertificateError::Expired,
            Self::NotYetValid => CertificateError::NotValidYet,
            Self::Leaf(_) | Self::ChainTooLong | Self::NameConstraints | Self::BadIntermediate => {
                CertificateError::BadEncoding
            }
            Self::Revoked => CertificateError::Revoked,
            Self::NotExpected | Self::NotAllowed { .. } => CertificateError::ApplicationVerificationFailure,
        };
        rustls::Error::InvalidCertificate(error)
    }
}
