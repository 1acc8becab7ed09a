//! How often somebody may ask: a token bucket each, in bounded memory.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Whom we count at once; strangers beyond that share one bucket.
const MOST_BUCKETS: usize = 16 * 1024;

/// The requests of each key within a minute.
#[derive(Debug)]
pub(crate) struct Limit<K> {
    per_minute: u32,
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    buckets: HashMap<K, Bucket>,
    shared: Option<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
    refused: bool,
}

/// Too many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limited {
    /// The first one that was refused since the last that was not: worth a line.
    pub(crate) first: bool,
}

impl<K: Hash + Eq> Limit<K> {
    /// So many requests a minute, all at once or spread; 0 is without limit.
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute, state: Mutex::new(State { buckets: HashMap::new(), shared: None }) }
    }

    /// Takes one request into account.
    pub(crate) fn take(&self, key: K, now: Instant) -> Result<(), Limited> {
        if self.per_minute == 0 {
            return Ok(());
        }
        let full = Bucket { tokens: f64::from(self.per_minute), at: now, refused: false };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.buckets.len() >= MOST_BUCKETS && !state.buckets.contains_key(&key) {
            // Whoever has been quiet for a minute has a full bucket again, and needs none.
            state.buckets.retain(|_, bucket| now.duration_since(bucket.at) < Duration::from_secs(60));
        }
        let bucket = if state.buckets.len() < MOST_BUCKETS || state.buckets.contains_key(&key) {
            state.buckets.entry(key).or_insert(full)
        } else {
            state.shared.get_or_insert(full)
        };
        bucket.take(self.per_minute, now)
    }
}

impl Bucket {
    fn take(&mut self, per_minute: u32, now: Instant) -> Result<(), Limited> {
        let size = f64::from(per_minute);
        let gained = now.duration_since(self.at).as_secs_f64() * size / 60.0;
        self.tokens = (self.tokens + gained).min(size);
        self.at = now;
        if self.tokens < 1.0 {
            let first = !std::mem::replace(&mut self.refused, true);
            return Err(Limited { first });
        }
        self.tokens -= 1.0;
        self.refused = false;
        Ok(())
    }
}

/// What counts as one address: an IPv6 host owns its whole /64.
pub(crate) fn source_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_at_once_then_as_time_gives() {
        let limit = Limit::new(60);
        let start = Instant::now();
        for _ in 0..60 {
            assert_eq!(limit.take("a", start), Ok(()));
        }
        assert_eq!(limit.take("a", start), Err(Limited { first: true }));
        assert_eq!(limit.take("a", start), Err(Limited { first: false }));
        assert_eq!(limit.take("b", start), Ok(()));
        assert_eq!(limit.take("a", start + Duration::from_millis(1001)), Ok(()));
        assert_eq!(limit.take("a", start + Duration::from_millis(1002)), Err(Limited { first: true }));
    }

    #[test]
    fn zero_is_without_limit() {
        let limit = Limit::new(0);
        assert!((0..10_000).all(|_| limit.take(1, Instant::now()).is_ok()));
    }

    #[test]
    fn memory_is_bounded_and_strangers_share_then() {
        let limit = Limit::new(2);
        let start = Instant::now();
        let keys = MOST_BUCKETS + 10;
        let taken = (0..keys).filter(|key| limit.take(*key, start).is_ok()).count();
        assert_eq!(taken, MOST_BUCKETS + 2);
        assert_eq!(limit.state.lock().unwrap().buckets.len(), MOST_BUCKETS);
        // After a quiet minute there is room again.
        assert_eq!(limit.take(keys, start + Duration::from_secs(61)), Ok(()));
        assert_eq!(limit.state.lock().unwrap().buckets.len(), 1);
    }

    #[test]
    fn an_ipv6_host_can_not_hide_in_its_network() {
        let key = |text: &str| source_key(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    }
}
