//! What the store needs done from time to time.

use std::{sync::Arc, time::Duration};

use kith_runtime::{clock::Clock, readiness::Readiness};
use tracing::{debug, warn};

use crate::store::Store;

const PRUNE_EVERY: Duration = Duration::from_secs(3600);
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// Forgets what ended longer ago than is to be kept; runs until it is dropped.
pub(crate) async fn prune(store: Arc<dyn Store>, clock: Clock, retention: Duration) {
    loop {
        // A clock near 1970 has nothing to forget.
        if let Some(before) = clock.now().checked_sub(retention) {
            match store.prune(before).await {
                Ok(0) => {}
                Ok(rows) => debug!(rows, "Forgot what had expired long ago"),
                Err(reason) => warn!(%reason, "What has expired could not be forgotten"),
            }
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}

/// Tries a store that has failed until it can be written to again; runs until it is dropped.
pub(crate) async fn probe(store: Arc<dyn Store>, readiness: Readiness) {
    loop {
        tokio::time::sleep(PROBE_EVERY).await;
        let failed = readiness.report().is_err_and(|gates| gates.iter().any(|(name, _)| *name == "store"));
        if failed {
            // Its outcome moves the gate.
            let _ = store.probe().await;
        }
    }
}
