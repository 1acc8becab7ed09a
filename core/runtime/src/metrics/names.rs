//! The one table of every metric of both programs. `METRICS.md` says the same to people; a test compares them.

use std::{fmt, ops::Deref};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It says something by its labels, and never changes.
    Info,
}

/// Which program has a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// kith-proxy.
    Proxy,
    /// kith-ca-agent.
    Agent,
    /// Both programs.
    Both,
}

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricInfo {
    /// The name of its samples, whole: with `kith_`, and with `_total` or `_info` where the kind demands it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it is counted in, where that is not things.
    pub unit: Option<&'static str>,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Who has it.
    pub program: Program,
    /// What it means: one sentence without its full stop.
    pub help: &'static str,
}

impl MetricInfo {
    /// The name of the metric's family, from which the encoding makes the names of its samples.
    pub(super) fn family(&self) -> &'static str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Info => "_info",
        };
        self.name.strip_suffix(suffix).unwrap_or(self.name)
    }
}

impl Kind {
    /// Its name in the docs and to Prometheus.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Info => "info",
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proxy => "proxy",
            Self::Agent => "agent",
            Self::Both => "both",
        })
    }
}

/// A row that is a counter with `N` labels. Only this table makes them, so nothing else can be registered.
#[derive(Debug)]
pub struct CounterInfo<const N: usize>(MetricInfo);

/// A row that is a gauge with `N` labels.
#[derive(Debug)]
pub struct GaugeInfo<const N: usize>(MetricInfo);

/// A row that is an info with `N` labels.
#[derive(Debug)]
pub struct InfoInfo<const N: usize>(MetricInfo);

macro_rules! kinds {
    ($($row:ident is $kind:ident;)*) => {$(
        impl<const N: usize> $row<N> {
            const fn row(
                name: &'static str,
                unit: Option<&'static str>,
                labels: &'static [&'static str; N],
                program: Program,
                help: &'static str,
            ) -> Self {
                Self(MetricInfo { name, kind: Kind::$kind, unit, labels, program, help })
            }
        }

        impl<const N: usize> Deref for $row<N> {
            type Target = MetricInfo;

            fn deref(&self) -> &MetricInfo {
                &self.0
            }
        }
    )*};
}

kinds! {
    CounterInfo is Counter;
    GaugeInfo is Gauge;
    InfoInfo is Info;
}

macro_rules! table {
    ($($constant:ident: $row:ident<$n:literal> = $name:literal, $unit:expr, $labels:expr, $program:ident, $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help, ".")]
            pub static $constant: $row<$n> = $row::row($name, $unit, &$labels, Program::$program, $help);
        )*

        /// Every row, in the order of the docs.
        pub static ALL: &[&MetricInfo] = &[$(&$constant.0),*];
    };
}

/// Times are since the epoch, so that an alert is a subtraction from `time()`.
const SECONDS: Option<&str> = Some("seconds");
const BYTES: Option<&str> = Some("bytes");

table! {
    BUILD: InfoInfo<1> = "kith_build_info", None, ["version"], Both,
        "The program that runs";
    ACCEPT_ERRORS: CounterInfo<0> = "kith_accept_errors_total", None, [], Both,
        "Failures to accept a connection, most of them for want of descriptors or memory";

    CONNECTIONS_OPENED: CounterInfo<1> = "kith_connections_opened_total", None, ["direction"], Proxy,
        "Connections that were taken from the application (outbound) or for it (inbound)";
    CONNECTIONS_CLOSED: CounterInfo<3> = "kith_connections_closed_total", None, ["direction", "outcome", "reason"], Proxy,
        "Connections that have ended, by how and why";
    CONNECTIONS_OPEN: GaugeInfo<1> = "kith_connections_open", None, ["direction"], Proxy,
        "Connections that are open now";
    BYTES_MOVED: CounterInfo<2> = "kith_bytes_total", BYTES, ["direction", "flow"], Proxy,
        "Bytes of the application that were moved, by whether the application sent or received them";
    HANDSHAKES: CounterInfo<3> = "kith_handshakes_total", None, ["direction", "result", "reason"], Proxy,
        "TLS handshakes with peers, by their result and, where refused or failed, why";
    TRUNCATIONS: CounterInfo<1> = "kith_truncations_total", None, ["direction"], Proxy,
        "Connections that a peer ended without close_notify, and that were reset towards the application";
    LOOPS: CounterInfo<1> = "kith_loops_total", None, ["direction"], Proxy,
        "Connections that had no original destination, or one of our own listeners, and were closed";
    POLICY_DECISIONS: CounterInfo<2> = "kith_policy_decisions_total", None, ["rule", "decision"], Proxy,
        "Inbound connections that policy decided on, by the rule that decided";
    INBOUND_LAST_CONNECTION: GaugeInfo<0> = "kith_inbound_last_connection_seconds", SECONDS, [], Proxy,
        "Unix time of the last connection that capture brought inbound, 0 before the first";
    CAPTURE_SELF_CHECK: GaugeInfo<0> = "kith_capture_self_check", None, [], Proxy,
        "Whether the last probe of outbound capture met our own listener (1) or not (0)";
    MESH_FILE_LOADS: CounterInfo<1> = "kith_mesh_file_loads_total", None, ["result"], Proxy,
        "Attempts to load the mesh file";
    SVID_EXPIRY: GaugeInfo<0> = "kith_svid_expiry_seconds", SECONDS, [], Proxy,
        "Unix time at which the current SVID expires, 0 while there is none";
    SVID_ROTATIONS: CounterInfo<1> = "kith_svid_rotations_total", None, ["result"], Proxy,
        "Attempts to obtain an SVID, the first one included";
    CA_STREAM_CONNECTED: GaugeInfo<0> = "kith_ca_stream_connected", None, [], Proxy,
        "Whether the stream of trust bundles from the CA is up (1) or not (0)";
    TRUST_BUNDLE_SEQUENCE: GaugeInfo<0> = "kith_trust_bundle_sequence", None, [], Proxy,
        "Sequence number of the trust bundle that was applied last";

    CA_ISSUED: CounterInfo<1> = "kith_ca_issued_total", None, ["attestation"], Agent,
        "Certificates that were issued, by how the workload was attested";
    CA_REFUSED: CounterInfo<1> = "kith_ca_refused_total", None, ["reason"], Agent,
        "Requests for a certificate that were refused";
    CA_ISSUING_AUTHORITY_EXPIRY: GaugeInfo<0> = "kith_ca_issuing_authority_expiry_seconds", SECONDS, [], Agent,
        "Unix time at which the active issuing authority expires";
    CA_ISSUING_ROTATIONS: CounterInfo<0> = "kith_ca_issuing_rotations_total", None, [], Agent,
        "Times that the issuing authority was replaced";
    CA_TRUST_BUNDLE_STREAMS: GaugeInfo<0> = "kith_ca_trust_bundle_streams", None, [], Agent,
        "Streams of trust bundles that are open now";
    CA_STORE_ERRORS: CounterInfo<0> = "kith_ca_store_errors_total", None, [], Agent,
        "Reads and writes that the store failed";
}
