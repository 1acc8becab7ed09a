//! The sidecar's own metrics, as the one table of `kith_runtime::metrics::names` has them.

use kith_runtime::metrics::{Counter, Counters, Gauge, Gauges, Registry, names};

use crate::outcome::{Audience, ConnectionView, Direction};

/// Handles to every metric of the byte path. Clones are the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    opened: Counters<1>,
    closed: Counters<3>,
    open: Gauges<1>,
    bytes: Counters<2>,
    handshakes: Counters<3>,
    truncations: Counters<1>,
    loops: Counters<1>,
    decisions: Counters<2>,
    last_inbound: Gauge,
    /// Whether the last probe of outbound capture met our own listener.
    pub self_check: Gauge,
    /// Attempts to load the mesh file.
    pub mesh_file_loads: Counters<1>,
    /// Failures to accept.
    pub accept_errors: Counter,
}

impl Metrics {
    /// Registers them; once in a process.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        registry.info(&names::BUILD, [env!("CARGO_PKG_VERSION")]);
        let metrics = Self {
            opened: registry.counters(&names::CONNECTIONS_OPENED),
            closed: registry.counters(&names::CONNECTIONS_CLOSED),
            open: registry.gauges(&names::CONNECTIONS_OPEN),
            bytes: registry.counters(&names::BYTES_MOVED),
            handshakes: registry.counters(&names::HANDSHAKES),
            truncations: registry.counters(&names::TRUNCATIONS),
            loops: registry.counters(&names::LOOPS),
            decisions: registry.counters(&names::POLICY_DECISIONS),
            last_inbound: registry.gauge(&names::INBOUND_LAST_CONNECTION),
            self_check: registry.gauge(&names::CAPTURE_SELF_CHECK),
            mesh_file_loads: registry.counters(&names::MESH_FILE_LOADS),
            accept_errors: registry.counter(&names::ACCEPT_ERRORS),
        };
        metrics.show_zeros();
        metrics
    }

    /// An alert on a series that does not exist yet never fires.
    fn show_zeros(&self) {
        for direction in [Direction::Inbound, Direction::Outbound].map(Direction::as_str) {
            let _ = (self.opened.with([direction]), self.open.with([direction]));
            let _ = (self.truncations.with([direction]), self.loops.with([direction]));
            let _ = (self.bytes.with([direction, "sent"]), self.bytes.with([direction, "received"]));
        }
    }

    /// Counts the application's bytes as they are moved, so that a long connection is seen while it lasts.
    #[must_use]
    pub fn bytes(&self, direction: Direction) -> [Counter; 2] {
        [self.bytes.with([direction.as_str(), "sent"]), self.bytes.with([direction.as_str(), "received"])]
    }

    pub(crate) fn handshake(&self, direction: Direction, result: Result<(), &'static str>) {
        let (result, reason) = result.map_or_else(|reason| ("failed", reason), |()| ("succeeded", ""));
        self.handshakes.with([direction.as_str(), result, reason]).inc();
    }

    pub(crate) fn decision(&self, rule: &str, allowed: bool) {
        self.decisions.with([rule, if allowed { "allowed" } else { "refused" }]).inc();
    }

    pub(crate) fn inbound_seen(&self, unix_seconds: i64) {
        self.last_inbound.set(unix_seconds);
    }
}

impl Audience for Metrics {
    fn opened(&self, direction: Direction) {
        self.opened.with([direction.as_str()]).inc();
        self.open.with([direction.as_str()]).inc();
    }

    fn closed(&self, view: &ConnectionView) {
        let direction = view.direction.as_str();
        self.open.with([direction]).dec();
        let Some(reason) = &view.details.reason else { return };
        self.closed.with([direction, reason.outcome.as_str(), reason.label]).inc();
        match reason.label {
            "truncated" => _ = self.truncations.with([direction]).inc(),
            "loop" => _ = self.loops.with([direction]).inc(),
            _ => {}
        }
    }
}
