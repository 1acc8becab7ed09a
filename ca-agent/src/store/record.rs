use std::{net::IpAddr, time::SystemTime};

use kith_identity::{Serial, SpiffeId};

use crate::hash::Hash;

/// How a holder proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attestation {
    /// By a one-time token.
    JoinToken,
    /// By the SVID that it had.
    CurrentSvid,
    /// It is this agent itself.
    Own,
}

impl Attestation {
    /// The stable label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::JoinToken => "join_token",
            Self::CurrentSvid => "current_svid",
            Self::Own => "self",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::JoinToken, Self::CurrentSvid, Self::Own].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Where a holder runs, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Holder {
    pub(crate) host: String,
    pub(crate) pod_name: String,
    pub(crate) pod_uid: String,
    pub(crate) node_name: String,
    /// The version of the program that asked.
    pub(crate) version: String,
}

/// An issued certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateRecord {
    pub(crate) serial: Serial,
    pub(crate) spiffe_id: SpiffeId,
    /// The first serial number of this chain of renewals: what makes it one holder.
    pub(crate) holder: Serial,
    pub(crate) previous: Option<Serial>,
    /// DER, leaf first, without the root.
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) issuer: String,
    pub(crate) public_key_hash: Hash,
    pub(crate) instance: Holder,
    pub(crate) attestation: Attestation,
    pub(crate) attested_at: SystemTime,
    pub(crate) issued_at: SystemTime,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// A token to be stored.
#[derive(Debug, Clone)]
pub(crate) struct NewToken {
    pub(crate) id: String,
    pub(crate) hash: Hash,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) created_at: SystemTime,
    pub(crate) expires_at: SystemTime,
}

/// A stored token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenRecord {
    pub(crate) id: String,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) created_at: SystemTime,
    pub(crate) expires_at: SystemTime,
    pub(crate) spent: Option<Spent>,
}

/// What a token was spent on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) at: SystemTime,
    pub(crate) public_key_hash: Hash,
    pub(crate) serial: Serial,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuditEvent {
    /// A certificate was issued.
    Issued,
    /// A certificate that had been issued before was handed out again.
    Repeated,
    /// Nothing was issued.
    Refused {
        /// The stable reason.
        reason: &'static str,
    },
}

impl AuditEvent {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Repeated => "repeated",
            Self::Refused { .. } => "refused",
        }
    }

    pub(crate) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Refused { reason } => Some(reason),
            Self::Issued | Self::Repeated => None,
        }
    }
}

/// One line of the audit trail.
#[derive(Debug, Clone)]
pub(crate) struct AuditRecord {
    pub(crate) at: SystemTime,
    pub(crate) event: AuditEvent,
    pub(crate) attestation: Option<Attestation>,
    pub(crate) spiffe_id: Option<SpiffeId>,
    pub(crate) serial: Option<Serial>,
    pub(crate) public_key_hash: Option<Hash>,
    pub(crate) source: Option<IpAddr>,
}
