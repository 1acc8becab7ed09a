//! Replaces the issuing authority in time, and forgets those that have expired.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use kith_runtime::{
    backoff::{self, Backoff},
    clock::Clock,
    readiness::Gate,
};
use tracing::{error, info};

use super::{Authorities, slot::until};
use crate::{metrics::Metrics, time};

/// A look at least so often: nothing depends on it but what nobody foresaw.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long an expired authority of the operator's waits for its restart between two looks.
const EXPIRED_SLEEP: Duration = Duration::from_secs(60);

/// Runs until it is dropped. The gate is open as long as there is an authority that may sign.
pub(crate) async fn run(authorities: Arc<Authorities>, clock: Clock, metrics: Metrics, gate: Gate) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        let now = clock.now();
        let attempt = look(&authorities, &metrics, now).await;
        show(&authorities, &metrics, &gate, clock.now());
        match attempt {
            Ok(()) => {
                backoff.reset();
                clock.sleep_until_wall(next_look(&authorities, now)).await;
            }
            Err(reason) => {
                let wait = backoff.next(backoff::random());
                error!(%reason, again_in = ?wait, "The authorities could not be looked after");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn look(authorities: &Arc<Authorities>, metrics: &Metrics, now: SystemTime) -> Result<(), String> {
    let worker = Arc::clone(authorities);
    let work = move || -> Result<bool, super::AuthorityError> {
        let due = worker.should_replace(now);
        if due {
            worker.replace(now)?;
        }
        worker.prune(now)?;
        Ok(due)
    };
    // It writes key files and waits for the disk.
    let replaced = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
    if replaced.map_err(|error| error.to_string())? {
        metrics.issuing_rotations.inc();
        let active = authorities.snapshot();
        let facts = &active.active.facts;
        info!(serial = %facts.serial, not_after = %time::text(facts.not_after), "Replaced the issuing authority");
    }
    Ok(())
}

fn show(authorities: &Authorities, metrics: &Metrics, gate: &Gate, now: SystemTime) {
    let snapshot = authorities.snapshot();
    let active = &snapshot.active.facts;
    metrics.issuing_expiry.set(time::seconds(active.not_after));
    if active.has_expired(now) {
        gate.not_ready(format!("the issuing authority expired at {}", time::text(active.not_after)));
    } else {
        gate.ready();
    }
}

fn next_look(authorities: &Authorities, now: SystemTime) -> SystemTime {
    let snapshot = authorities.snapshot();
    // A certificate counts through its last second.
    let expiries = snapshot.old.iter().chain([&snapshot.active.facts]).map(|ca| ca.not_after + Duration::from_secs(1));
    let soonest = expiries.chain(authorities.replace_at()).min();
    match soonest.map(|then| until(then, now)) {
        Some(Duration::ZERO) => now + EXPIRED_SLEEP,
        Some(wait) => now + wait.min(LONGEST_SLEEP),
        None => now + LONGEST_SLEEP,
    }
}
