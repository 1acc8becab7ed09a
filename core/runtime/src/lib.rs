//! What any process of Kith needs, whichever of the two programs it is: sockets that are bound early and accepted
//! from under pressure, a drain, readiness, the admin endpoint, metrics, logs, settings, signals, backoff, time, and
//! hardening.
//!
//! Nothing here knows what Kith is about, so that it depends on no other crate of ours.

pub mod accept;
pub mod admin;
pub mod backoff;
pub mod clock;
pub mod drain;
pub mod exit;
pub mod listen;
pub mod metrics;
pub mod process;
pub mod readiness;
pub mod settings;
pub mod signals;
pub mod telemetry;
