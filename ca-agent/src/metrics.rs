//! What the agent counts.

use kith_runtime::metrics::{Counter, Counters, Gauge, Registry, names};

/// The agent's metrics. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) accept_errors: Counter,
    pub(crate) issued: Counters<1>,
    pub(crate) refused: Counters<1>,
    pub(crate) issuing_expiry: Gauge,
    pub(crate) issuing_rotations: Counter,
    pub(crate) bundle_streams: Gauge,
    pub(crate) store_errors: Counter,
}

impl Metrics {
    /// Adds the agent's metrics to a registry.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        registry.info(&names::BUILD, [env!("CARGO_PKG_VERSION")]);
        Self {
            accept_errors: registry.counter(&names::ACCEPT_ERRORS),
            issued: registry.counters(&names::CA_ISSUED),
            refused: registry.counters(&names::CA_REFUSED),
            issuing_expiry: registry.gauge(&names::CA_ISSUING_AUTHORITY_EXPIRY),
            issuing_rotations: registry.counter(&names::CA_ISSUING_ROTATIONS),
            bundle_streams: registry.gauge(&names::CA_TRUST_BUNDLE_STREAMS),
            store_errors: registry.counter(&names::CA_STORE_ERRORS),
        }
    }
}
