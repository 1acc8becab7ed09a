use std::time::SystemTime;

use kith_identity::{Serial, SpiffeId, TrustDomain};

use crate::store::Attestation;

/// A workload that has proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) id: SpiffeId,
    pub(crate) attestation: Attestation,
    /// When it was proved anew for the last time: renewals carry it along.
    pub(crate) attested_at: SystemTime,
    /// The certificate that is renewed, and the holder that it belongs to.
    pub(crate) renews: Option<Renewed>,
}

/// The certificate that is to be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Renewed {
    pub(crate) serial: Serial,
    pub(crate) holder: Serial,
}

/// The certificate with this serial number, of this holder.
pub(crate) fn renewed(serial: &Serial, holder: &Serial) -> Renewed {
    Renewed { serial: serial.clone(), holder: holder.clone() }
}

/// Why somebody has proved nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AttestError {
    /// No attestation in the request.
    #[error("the request holds no attestation")]
    Missing,
    /// The attestation belongs to the other port.
    #[error(
        "this port does not accept that attestation: join tokens go to the attestation port, current SVIDs to the mTLS port"
    )]
    NotHere,
    /// No such token.
    #[error("the join token is unknown: mistyped, deleted, or of another agent")]
    TokenUnknown,
    /// The token waited too long.
    #[error("the join token has expired; create a new one")]
    TokenExpired,
    /// The token was used for another key, or for a certificate that has expired since.
    #[error("the join token was spent before; a token works for one key")]
    TokenSpent,
    /// `/kith/*` is nobody's.
    #[error("identities under /kith/ are Kith's own; no attestation of a workload obtains them")]
    Reserved,
    /// `/ns/*/sa/*` by a token needs a setting.
    #[error("join tokens for /ns/*/sa/* are off; start the agent with --join-tokens-for-workloads to allow them")]
    WorkloadsOff,
    /// Another trust domain.
    #[error("the SPIFFE ID belongs to another trust domain than this agent's")]
    TrustDomain,
    /// No client certificate.
    #[error("the connection presented no SVID")]
    SvidMissing,
    /// The connection's certificate is no longer good, though it was when the connection was made.
    #[error("the SVID of this connection is no longer valid")]
    SvidExpired,
    /// Not one that this agent has issued, or recorded.
    #[error("the SVID of this connection is not one that this agent has issued")]
    SvidUnknown,
    /// Renewed for too long.
    #[error("the last attestation is too long ago to be renewed; attest anew")]
    TooOld,
}

impl AttestError {
    /// The stable label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "attestation_missing",
            Self::NotHere => "attestation_not_accepted_here",
            Self::TokenUnknown => "token_unknown",
            Self::TokenExpired => "token_expired",
            Self::TokenSpent => "token_spent",
            Self::Reserved => "reserved_identity",
            Self::WorkloadsOff => "token_workloads_off",
            Self::TrustDomain => "other_trust_domain",
            Self::SvidMissing => "svid_missing",
            Self::SvidExpired => "svid_expired",
            Self::SvidUnknown => "svid_unknown",
            Self::TooOld => "attestation_too_old",
        }
    }
}

/// Whether a join token may name this identity.
pub(crate) fn check_token_subject(
    id: &SpiffeId,
    trust_domain: &TrustDomain,
    workloads: bool,
) -> Result<(), AttestError> {
    if id.trust_domain() != trust_domain {
        return Err(AttestError::TrustDomain);
    }
    if id.is_reserved() {
        return Err(AttestError::Reserved);
    }
    if id.namespace_and_service_account().is_some() && !workloads {
        return Err(AttestError::WorkloadsOff);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_any_path_but_kiths_own_and_workloads_by_a_setting() {
        let cases = [
            ("spiffe://td/web", false, Ok(())),
            ("spiffe://td/ns/a/sa/b/c", false, Ok(())),
            ("spiffe://td/ns/a/sa/b", false, Err(AttestError::WorkloadsOff)),
            ("spiffe://td/ns/a/sa/b", true, Ok(())),
            ("spiffe://td/kith/ca", true, Err(AttestError::Reserved)),
            ("spiffe://td/kith", true, Err(AttestError::Reserved)),
            ("spiffe://td/kithy", true, Ok(())),
            ("spiffe://other/web", true, Err(AttestError::TrustDomain)),
        ];
        for (id, workloads, expected) in cases {
            let domain = "td".parse().unwrap();
            assert_eq!(check_token_subject(&id.parse().unwrap(), &domain, workloads), expected, "{id}");
        }
    }
}
