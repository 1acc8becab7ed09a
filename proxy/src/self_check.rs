//! Capture proves itself: we dial a port of loopback on which nothing listens, and must meet our own outbound listener.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kith_runtime::readiness::Gate;
use tokio::{
    net::TcpSocket,
    sync::oneshot,
    time::{sleep, timeout},
};
use tracing::{error, info};

use crate::{metrics::Metrics, transport::addrs::OrigDst};

const EVERY: Duration = Duration::from_secs(30);
/// While capture does not work it is looked at more often, so that a repair shows at once.
const WHILE_BROKEN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);

/// The probes that are under way. Clones are the same.
#[derive(Debug, Clone)]
pub struct SelfCheck {
    port: u16,
    expected: Arc<Mutex<HashMap<SocketAddr, oneshot::Sender<()>>>>,
}

/// Why a probe met nobody.
#[derive(Debug, thiserror::Error)]
enum Missed {
    #[error("the connection was not led to this sidecar: {0}")]
    Dial(#[from] io::Error),
    #[error("the connection was led elsewhere or nowhere")]
    Elsewhere,
}

impl SelfCheck {
    /// Probes this port.
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self { port, expected: Arc::default() }
    }

    /// Whether a connection on the outbound listener is one of our own probes; it has then done its work.
    #[must_use]
    pub fn is_probe(&self, destination: OrigDst, client: SocketAddr) -> bool {
        let is_probe = destination.ip().is_loopback() && destination.port() == self.port;
        is_probe && self.expected().remove(&client).is_some_and(|met| met.send(()).is_ok())
    }

    /// Probes again and again, in each family that has a listener, and keeps the gate and the gauge right.
    pub async fn run(self, families: Vec<IpAddr>, gate: Gate, metrics: Metrics) {
        let mut was_well = None;
        loop {
            let result = self.probe_all(&families).await;
            metrics.self_check.set(i64::from(result.is_ok()));
            match &result {
                Ok(()) => gate.ready(),
                Err((family, missed)) => gate.not_ready(format!(
                    "capture does not work for {family}: {missed}; run `kith-proxy init` in this network namespace"
                )),
            }
            if was_well != Some(result.is_ok()) {
                match &result {
                    Ok(()) => info!("Capture works: the probe met this sidecar"),
                    Err((family, missed)) => error!(%family, %missed, "Capture does not work; run `kith-proxy init`"),
                }
            }
            was_well = Some(result.is_ok());
            sleep(if result.is_ok() { EVERY } else { WHILE_BROKEN }).await;
        }
    }

    async fn probe_all(&self, families: &[IpAddr]) -> Result<(), (IpAddr, Missed)> {
        for family in families {
            self.probe(*family).await.map_err(|missed| (*family, missed))?;
        }
        Ok(())
    }

    async fn probe(&self, loopback: IpAddr) -> Result<(), Missed> {
        let socket = match loopback {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // The own address is known before the connection is made, so that nobody else can pass for the probe.
        socket.bind(SocketAddr::new(loopback, 0))?;
        let own = socket.local_addr()?;
        let (met, meeting) = oneshot::channel();
        self.expected().insert(own, met);
        let dialled = timeout(PATIENCE, socket.connect(SocketAddr::new(loopback, self.port))).await;
        let result = match dialled {
            Ok(Ok(_open)) => timeout(PATIENCE, meeting).await.ok().and_then(Result::ok).ok_or(Missed::Elsewhere),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Missed::Elsewhere),
        };
        self.expected().remove(&own);
        result
    }

    fn expected(&self) -> MutexGuard<'_, HashMap<SocketAddr, oneshot::Sender<()>>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loopback address of each family that these listeners are of.
#[must_use]
pub fn families(listeners: &[SocketAddr]) -> Vec<IpAddr> {
    let loopback = |address: &SocketAddr| match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    listeners.iter().map(loopback).collect()
}
