//! Puts the agent together: what it owns, in what order it starts, and how it leaves.

mod start;
mod state_dir;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use kith_runtime::{clock::Clock, drain::Drain, readiness::Readiness};
use kith_tls::CredentialsReader;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::state_dir::StateDir;
pub use self::{start::StartError, state_dir::StateDirError};
use crate::{admin::socket::SocketFile, config::Serve, store::Store};

/// How long requests that are being answered may take once the agent is asked to stop.
const DRAIN_BOUND: Duration = Duration::from_secs(10);

/// Where the agent can be reached, with the true ports.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Attestation: gRPC over server-authenticated TLS.
    pub attest: Vec<SocketAddr>,
    /// Renewal and status: gRPC over mutual TLS.
    pub mutual: Vec<SocketAddr>,
    /// HTTP: liveness, readiness, metrics.
    pub admin: Vec<SocketAddr>,
    /// Local administration: gRPC without TLS.
    pub socket: PathBuf,
}

/// A running agent.
pub struct Agent {
    addresses: Addresses,
    readiness: Readiness,
    drain: Drain,
    credentials: CredentialsReader,
    store: Arc<dyn Store>,
    /// End by themselves once the drain has begun.
    servers: JoinSet<()>,
    /// Run until they are dropped.
    background: JoinSet<()>,
    admin: tokio::task::JoinHandle<()>,
    admin_end: CancellationToken,
    _socket_file: SocketFile,
    _state_dir: StateDir,
}

impl Agent {
    /// Starts an agent: everything is loaded or made, and the ports are bound, when this returns.
    ///
    /// # Errors
    /// When the settings contradict each other, or a port, the state directory, a key or the store can't be used.
    pub async fn start(settings: Serve, clock: Clock) -> Result<Self, StartError> {
        let agent = start::start(settings.into_config()?, clock).await?;
        let at = &agent.addresses;
        info!(attest = ?at.attest, mutual = ?at.mutual, admin = ?at.admin, socket = %at.socket.display(), "Listening");
        Ok(agent)
    }

    /// Where it can be reached.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Whether it is ready, as `/readyz` says it.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Waits for the first serving SVID: from then on connections are answered.
    pub async fn certified(&mut self) {
        let _ = self.credentials.first().await;
    }

    /// Ends in order: not ready at once, streams told, what is being answered finished within a bound.
    pub async fn stop(mut self) {
        self.readiness.shutting_down();
        self.drain.begin();
        let finished = timeout(DRAIN_BOUND, async {
            while self.servers.join_next().await.is_some() {}
            self.drain.idle().await;
        });
        if finished.await.is_err() {
            warn!(bound = ?DRAIN_BOUND, "Some connections did not end in time and are cut");
        }
        self.servers.shutdown().await;
        self.background.shutdown().await;
        self.store.close().await;
        // Last, so that /readyz can say that we are stopping as long as we are.
        self.admin_end.cancel();
        if let Err(reason) = self.admin.await {
            error!(%reason, "The admin endpoint did not end in order");
        }
        info!("Stopped");
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}
