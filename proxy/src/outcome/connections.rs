use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use kith_runtime::{clock::Clock, drain::DrainWatch};

use super::{
    Details, Direction, Record,
    record::{Bytes, Shared},
};

/// How many closed connections are remembered for the status service.
const REMEMBERED: usize = 256;

/// Told of every connection, as the metrics and the access log are.
pub trait Audience: fmt::Debug + Send + Sync {
    /// One has begun.
    fn opened(&self, _direction: Direction) {}
    /// One has ended.
    fn closed(&self, connection: &ConnectionView);
}

/// Every open connection, and the last closed ones. Clones are the same.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Mutex<Table>,
    clock: Clock,
    drain: DrainWatch,
    audience: Vec<Box<dyn Audience>>,
}

#[derive(Debug, Default)]
struct Table {
    last_number: u64,
    open: BTreeMap<u64, Arc<Shared>>,
    closed: VecDeque<ConnectionView>,
}

/// A connection at one moment.
#[derive(Debug, Clone)]
pub struct ConnectionView {
    /// Counts up from 1 in each process.
    pub number: u64,
    /// Seen from the pod.
    pub direction: Direction,
    /// Who dialled.
    pub client: SocketAddr,
    /// When it was accepted.
    pub opened: SystemTime,
    /// When it ended, if it has.
    pub closed: Option<SystemTime>,
    /// What the application sent, in bytes.
    pub sent: u64,
    /// What the application received, in bytes.
    pub received: u64,
    /// Everything else.
    pub details: Details,
}

impl ConnectionView {
    fn new(shared: &Shared, closed: Option<SystemTime>) -> Self {
        let (sent, received) = shared.bytes.load();
        Self {
            number: shared.number,
            direction: shared.direction,
            client: shared.client,
            opened: shared.opened,
            closed,
            sent,
            received,
            details: shared.details().clone(),
        }
    }
}

impl Connections {
    /// An empty registry, which tells every story to this audience.
    #[must_use]
    pub fn new(clock: Clock, drain: DrainWatch, audience: Vec<Box<dyn Audience>>) -> Self {
        Self(Arc::new(Inner { table: Mutex::default(), clock, drain, audience }))
    }

    /// Begins a connection's story.
    #[must_use]
    pub fn open(&self, direction: Direction, client: SocketAddr) -> Record {
        let mut table = self.table();
        table.last_number += 1;
        let shared = Arc::new(Shared {
            number: table.last_number,
            direction,
            client,
            opened: self.0.clock.now(),
            bytes: Bytes::default(),
            details: Mutex::default(),
        });
        table.open.insert(shared.number, Arc::clone(&shared));
        drop(table);
        self.0.audience.iter().for_each(|listener| listener.opened(direction));
        Record::new(shared, self.clone(), self.0.drain.guard())
    }

    /// The open connections, oldest first; before them the last closed ones, if asked for.
    #[must_use]
    pub fn snapshot(&self, include_closed: bool) -> Vec<ConnectionView> {
        let table = self.table();
        let closed = table.closed.iter().filter(|_| include_closed).cloned();
        closed.chain(table.open.values().map(|shared| ConnectionView::new(shared, None))).collect()
    }

    pub(super) fn closed(&self, shared: &Shared) {
        let view = ConnectionView::new(shared, Some(self.0.clock.now()));
        self.0.audience.iter().for_each(|listener| listener.closed(&view));
        let mut table = self.table();
        table.open.remove(&shared.number);
        if table.closed.len() == REMEMBERED {
            table.closed.pop_front();
        }
        table.closed.push_back(view);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
