use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use kith_identity::{Serial, SpiffeId};
use kith_runtime::drain::ConnectionGuard;
use kith_tls::Parameters;

use super::{Connections, Direction, Reason};

/// What is known of a connection, and grows while it lives.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// Where the client wanted to go.
    pub original_destination: Option<SocketAddr>,
    /// Whom we dialled.
    pub dialled: Option<SocketAddr>,
    /// The mutual TLS on the wire; `None` in plaintext.
    pub tls: Option<Tls>,
    /// Why the wire is in plaintext.
    pub plaintext_reason: Option<&'static str>,
    /// The rule that decided, inbound.
    pub rule: Option<Arc<str>>,
    /// The audit rules that matched, inbound.
    pub audits: Vec<Arc<str>>,
    /// How often another endpoint was tried before.
    pub retries: u32,
    /// Whom we expected or refused, before a handshake succeeded.
    pub expected: Vec<SpiffeId>,
    /// Why it ended, once that is known.
    pub reason: Option<Reason>,
}

/// One side's view of a mutual TLS connection.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Who we are.
    pub local_id: SpiffeId,
    /// Our leaf's serial number.
    pub local_serial: Serial,
    /// Who the peer proved to be.
    pub peer_id: SpiffeId,
    /// Its leaf's serial number.
    pub peer_serial: Serial,
    /// What the handshake agreed on.
    pub parameters: Parameters,
}

/// The application's bytes that were moved.
#[derive(Debug, Default)]
pub struct Bytes {
    /// What the application sent.
    pub sent: AtomicU64,
    /// What the application received.
    pub received: AtomicU64,
}

impl Bytes {
    /// Both counts: sent, received.
    pub fn load(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }
}

/// A connection as the registry shares it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) number: u64,
    pub(super) direction: Direction,
    pub(super) client: SocketAddr,
    pub(super) opened: SystemTime,
    pub(super) bytes: Bytes,
    pub(super) details: Mutex<Details>,
}

impl Shared {
    pub(super) fn details(&self) -> MutexGuard<'_, Details> {
        // A panic elsewhere leaves plain values behind, nothing half-done.
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one record of one connection. Dropping it ends the story: it is logged, counted and listed as closed.
#[derive(Debug)]
pub struct Record {
    shared: Arc<Shared>,
    connections: Connections,
    _guard: ConnectionGuard,
}

impl Record {
    pub(super) fn new(shared: Arc<Shared>, connections: Connections, guard: ConnectionGuard) -> Self {
        Self { shared, connections, _guard: guard }
    }

    /// Who dialled.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.shared.client
    }

    /// The counters of the application's bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.shared.bytes
    }

    /// Notes what has become known.
    pub fn note(&self, change: impl FnOnce(&mut Details)) {
        change(&mut self.shared.details());
    }

    /// Notes why it ends, and ends it.
    pub fn end(self, reason: Reason) {
        self.note(|details| details.reason = Some(reason));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.note(|details| {
            details.reason.get_or_insert(Reason::ABORTED);
        });
        self.connections.closed(&self.shared);
    }
}
