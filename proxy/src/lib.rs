//! The sidecar: takes a pod's TCP and upgrades it to mutual TLS 1.3 with SPIFFE identities.

pub mod access_log;
pub mod app;
pub mod config;
pub mod discovery;
pub mod identity;
pub mod inbound;
pub mod init;
pub mod load;
pub mod metrics;
pub mod outbound;
pub mod outcome;
pub mod policy;
pub mod redirect;
pub mod self_check;
pub mod sidecar;
pub mod status;
pub mod status_client;
pub mod svid;
pub mod termination;
pub mod transport;
