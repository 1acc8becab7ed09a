//! From a request to a certificate: the name comes from the attestation, the key from the CSR, and nothing else from
//! the CSR.

mod audit;
mod bundle_stream;
mod csr;
mod issuer;
mod limit;
mod refusal;
mod service;

use std::time::Duration;

pub(crate) use self::{
    audit::log as log_audit,
    issuer::{Issuance, record},
    service::{Port, Service},
};

/// How certificates are issued.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// How long an SVID lives.
    pub(crate) svid_lifetime: Duration,
    /// Whether join tokens may name `/ns/*/sa/*`.
    pub(crate) token_workloads: bool,
    /// How long after its last attestation an SVID may be renewed.
    pub(crate) longest_since_attestation: Option<Duration>,
    /// Requests a minute from one address, and for one identity; 0 is without limit.
    pub(crate) requests_per_minute: u32,
}
