//! How many connections each endpoint has from here: what the choice between endpoints goes by.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kith_mesh::{Destination, Endpoint};
use kith_runtime::backoff::random;

type Counts = Arc<Mutex<HashMap<SocketAddr, usize>>>;

/// Open connections by endpoint. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct EndpointLoad(Counts);

/// One connection, counted until this is dropped.
#[derive(Debug)]
pub struct Counted {
    counts: Counts,
    endpoint: SocketAddr,
}

impl EndpointLoad {
    /// The endpoint for a new connection of this client, if one is left that was not tried.
    #[must_use]
    pub fn choose<'a>(
        &self,
        destination: &'a Destination,
        client: IpAddr,
        tried: &[SocketAddr],
    ) -> Option<&'a Endpoint> {
        let counts = lock(&self.0);
        let open = |address| counts.get(&address).copied().unwrap_or_default();
        destination.choose(client, tried, open, below)
    }

    /// Counts a connection to this endpoint.
    #[must_use]
    pub fn count(&self, endpoint: SocketAddr) -> Counted {
        *lock(&self.0).entry(endpoint).or_default() += 1;
        Counted { counts: Arc::clone(&self.0), endpoint }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(open) = counts.get_mut(&self.endpoint) {
            *open -= 1;
            if *open == 0 {
                counts.remove(&self.endpoint);
            }
        }
    }
}

fn lock(counts: &Counts) -> MutexGuard<'_, HashMap<SocketAddr, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a random number in 0..1 times a small count is a small count"
)]
fn below(count: usize) -> usize {
    (random() * count as f64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_until_it_is_dropped() {
        let load = EndpointLoad::default();
        let endpoint = "192.0.2.1:80".parse().unwrap();
        let first = load.count(endpoint);
        let second = load.count(endpoint);
        assert_eq!(lock(&load.0).get(&endpoint), Some(&2));
        drop(first);
        drop(second);
        assert!(lock(&load.0).is_empty());
    }
}
