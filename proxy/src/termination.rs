//! The end: not ready at once, both directions still served, gone when nobody needs us any more.

use std::{collections::BTreeSet, time::Duration};

use kith_runtime::{drain::Drain, readiness::Readiness};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use crate::transport::listening::listening_besides;

const LOOK: Duration = Duration::from_millis(200);

/// Drains: resolves when no connection is left and nobody in this pod listens besides us, or at the bound.
pub async fn drain(drain: &Drain, readiness: &Readiness, own_ports: &BTreeSet<u16>, bound: Duration) {
    readiness.shutting_down();
    drain.begin();
    info!(?bound, "Draining: not ready any more, and still serving both directions");
    let deadline = Instant::now() + bound;
    match timeout_at(deadline, nobody_needs_us(drain, own_ports)).await {
        Ok(()) => info!("Drained: no connection is left and the application listens no more"),
        Err(_) => warn!(open = drain.open(), "The drain's bound is reached; what is still open is reset"),
    }
}

async fn nobody_needs_us(drain: &Drain, own_ports: &BTreeSet<u16>) {
    loop {
        match listening_besides(own_ports) {
            Ok(listening) if listening.is_empty() && drain.open() == 0 => return,
            Ok(_) => {}
            // Without the tables the connections alone decide.
            Err(error) if drain.open() == 0 => {
                warn!(%error, "Can't see whether the application still listens");
                return;
            }
            Err(_) => {}
        }
        sleep(LOOK).await;
    }
}
