//! What every connection of this sidecar shares.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use kith_runtime::{clock::Clock, settings::duration};
use kith_tls::{CredentialsReader, Material, TlsStream};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    discovery::{Discovery, Patience},
    load::EndpointLoad,
    metrics::Metrics,
    outcome::{Connections, Tls},
    self_check::SelfCheck,
    transport::{
        Options,
        addrs::{OrigDst, OwnAddresses},
        socket::Socket,
    },
};

/// How long things may take. A shorter bound refuses slow clients, a longer one keeps their sockets.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Connections")]
#[group(id = "connections")]
pub struct Settings {
    /// How long a client may take to say its first byte, and again to finish its TLS handshake.
    #[arg(long, env = "KITH_HELLO_TIMEOUT", default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub hello_timeout: Duration,
    /// How long dialling may take.
    #[arg(long, env = "KITH_CONNECT_TIMEOUT", default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub connect_timeout: Duration,
    /// How long a peer's sidecar may take to answer once TLS stands; it dials its application meanwhile.
    #[arg(long, env = "KITH_ANSWER_TIMEOUT", default_value = "15s", value_name = "DURATION", value_parser = duration)]
    pub answer_timeout: Duration,
}

/// What every connection of this sidecar shares; immutable, or safe to share.
#[derive(Debug)]
pub struct Sidecar {
    /// Who we are and whom we believe.
    pub credentials: CredentialsReader,
    /// Who is behind an address.
    pub discovery: Discovery,
    /// The pod's own addresses.
    pub own: OwnAddresses,
    /// Open connections by endpoint.
    pub load: EndpointLoad,
    /// Every connection's story.
    pub connections: Connections,
    /// Counters.
    pub metrics: Metrics,
    /// The probe of our own capture.
    pub self_check: SelfCheck,
    /// Bounds on time.
    pub settings: Settings,
    /// Bounds on waiting.
    pub patience: Patience,
    /// Socket options.
    pub transport: Options,
    /// The ports of our own redirected listeners.
    pub capture_ports: [u16; 2],
    /// Tells the time.
    pub clock: Clock,
    /// Cancelled when what is still open must end now.
    pub abort: CancellationToken,
}

impl Sidecar {
    /// Until when a connection that begins now may wait for what is not known.
    #[must_use]
    pub fn patience_from_now(&self) -> Instant {
        let has_started = self.discovery.has_started() && self.credentials.current().is_some();
        let Patience { first_answer_timeout, unknown_timeout } = self.patience;
        Instant::now() + if has_started { unknown_timeout } else { first_answer_timeout }
    }

    /// The SVID and trust to use now; the first one is waited for until then.
    pub async fn material_by(&self, deadline: Instant) -> Option<Arc<Material>> {
        match self.credentials.current() {
            Some(material) => Some(material),
            None => timeout_at(deadline, self.credentials.clone().first()).await.ok()?,
        }
    }

    /// Whether a destination is one of our own redirected listeners, or no destination outside this very sidecar.
    #[must_use]
    pub fn is_own_listener(&self, destination: OrigDst) -> bool {
        let is_own = self.own.contains(destination.ip()) && self.capture_ports.contains(&destination.port());
        is_own || destination.ip().is_loopback() || destination.ip().is_unspecified()
    }

    pub(crate) fn unix_now(&self) -> i64 {
        let since = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }
}

impl Tls {
    /// What the record keeps of a handshake.
    pub(crate) fn of(material: &Material, tls: &TlsStream<Socket>) -> Option<Self> {
        let peer = tls.peer()?;
        Some(Self {
            local_id: material.svid().id().clone(),
            local_serial: material.svid().serial().clone(),
            peer_id: peer.id.clone(),
            peer_serial: peer.serial.clone(),
            parameters: tls.parameters().clone(),
        })
    }
}
