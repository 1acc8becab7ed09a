use tonic::{Code, Status};

use super::csr::CsrError;
use crate::{attest::AttestError, authority::IssueError, reply::refused, store::StoreError};

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Refusal {
    /// The CSR.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The attestation.
    #[error(transparent)]
    Attest(#[from] AttestError),
    /// What the caller says of itself.
    #[error("the instance and the version are texts of at most 253 printable characters each")]
    Instance,
    /// Too many requests from one address, or for one identity.
    #[error("too many requests; try again later")]
    RateLimited {
        /// Whether it is the first of a row.
        first: bool,
    },
    /// Nothing can be recorded.
    #[error("nothing can be recorded at the moment, so nothing was issued")]
    Store(#[from] StoreError),
    /// Nothing can be signed.
    #[error("nothing can be signed at the moment: {0}")]
    Issue(#[from] IssueError),
}

impl Refusal {
    /// The stable label.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Csr(error) => error.as_str(),
            Self::Attest(error) => error.as_str(),
            Self::Instance => "instance_invalid",
            Self::RateLimited { .. } => "rate_limited",
            Self::Store(_) => "store_unavailable",
            Self::Issue(IssueError::Sign(_)) => "authority_unavailable",
            Self::Issue(IssueError::Faulty(_)) => "certificate_faulty",
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Csr(_) | Self::Instance | Self::Attest(AttestError::Missing) => Code::InvalidArgument,
            Self::Attest(_) => Code::PermissionDenied,
            Self::RateLimited { .. } => Code::ResourceExhausted,
            Self::Store(_) | Self::Issue(IssueError::Sign(_)) => Code::Unavailable,
            Self::Issue(IssueError::Faulty(_)) => Code::Internal,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refused(refusal.code(), refusal.as_str(), &refusal)
    }
}
