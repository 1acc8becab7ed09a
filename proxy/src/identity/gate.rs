use std::time::Duration;

use kith_runtime::{clock::Clock, readiness::Gate};
use tokio::sync::watch;

use super::IdentityState;

/// A clock that was set back can make an expired SVID valid again: look now and then without being told.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Keeps the gate `svid` true: at every change, and at the moment when the SVID expires. Ends with the state.
pub(super) async fn keep(mut state: watch::Receiver<IdentityState>, clock: Clock, gate: Gate) {
    loop {
        let seen = state.borrow_and_update().clone();
        let now = clock.now();
        match seen.unready(now) {
            None => gate.ready(),
            Some(reason) => gate.not_ready(reason),
        }
        let expiry = seen.svid.map(|svid| svid.expires()).filter(|expires| *expires > now);
        let next = async {
            match expiry {
                Some(expires) => clock.sleep_until_wall(expires).await,
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
        };
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            () = next => {}
        }
    }
}
