use std::time::{SystemTime, UNIX_EPOCH};

use kith_runtime::metrics::{Counters, Gauge, Registry, names};

/// What is counted about the identity.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(super) expiry: Gauge,
    pub(super) rotations: Counters<1>,
    pub(super) stream_connected: Gauge,
    pub(super) bundle_sequence: Gauge,
}

impl Metrics {
    /// Adds them to the process's metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            expiry: registry.gauge(&names::SVID_EXPIRY),
            rotations: registry.counters(&names::SVID_ROTATIONS),
            stream_connected: registry.gauge(&names::CA_STREAM_CONNECTED),
            bundle_sequence: registry.gauge(&names::TRUST_BUNDLE_SEQUENCE),
        };
        // An alert on a series that does not exist yet never fires.
        let _ = metrics.rotations.with(["success"]);
        metrics
    }

    pub(super) fn set_expiry(&self, not_after: SystemTime) {
        let since = not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.expiry.set(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    }

    pub(super) fn set_sequence(&self, sequence: u64) {
        self.bundle_sequence.set(i64::try_from(sequence).unwrap_or(i64::MAX));
    }
}
