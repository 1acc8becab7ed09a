//! How long to wait before the next attempt: doubling up to a cap, with full jitter. It sleeps for nobody and
//! asks for no randomness, so that schedules can be tested as tables.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The waits between attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    initial: Duration,
    cap: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// The first wait is at most `initial`, each later one at most twice the one before it, none longer than `cap`.
    #[must_use]
    pub fn new(initial: Duration, cap: Duration) -> Self {
        Self { initial, cap, ceiling: initial.min(cap) }
    }

    /// The next wait: the share `random` (from 0 to 1; anything else is brought into it) of the present ceiling.
    /// One is the ceiling itself, for whoever wants no jitter.
    pub fn next(&mut self, random: f64) -> Duration {
        let share = if random.is_nan() { 1.0 } else { random.clamp(0.0, 1.0) };
        // At the very end of its range a f64 rounds to more than a Duration holds.
        let wait = Duration::try_from_secs_f64(self.ceiling.as_secs_f64() * share).unwrap_or(self.ceiling);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.cap);
        wait
    }

    /// After a success: the next wait is as short as the first.
    pub fn reset(&mut self) {
        self.ceiling = self.initial.min(self.cap);
    }
}

/// A number from 0 up to, but never, 1: good enough to spread retries, not to keep secrets.
#[must_use]
pub fn random() -> f64 {
    // The standard library seeds every hasher's state afresh; the upper 53 bits are what a f64 holds exactly.
    let bits = RandomState::new().hash_one(()) >> 11;
    #[expect(clippy::cast_precision_loss, reason = "both are at most 2^53")]
    let share = bits as f64 / (1_u64 << 53) as f64;
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(backoff: &mut Backoff, random: f64) -> u128 {
        backoff.next(random).as_millis()
    }

    #[test]
    fn doubles_up_to_the_cap_and_begins_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
        let waits: Vec<u128> = (0..10).map(|_| millis(&mut backoff, 1.0)).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.reset();
        assert_eq!(millis(&mut backoff, 1.0), 5);
    }

    #[test]
    fn jitter_is_a_share_of_the_whole_wait_and_does_not_slow_the_doubling() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        assert_eq!(millis(&mut backoff, 0.0), 0);
        assert_eq!(millis(&mut backoff, 0.5), 100);
        assert_eq!(millis(&mut backoff, 0.25), 100);
        assert_eq!(millis(&mut backoff, 1.0), 800);
    }

    #[test]
    fn strange_arguments_stay_within_bounds() {
        let mut backoff = Backoff::new(Duration::from_secs(9), Duration::from_secs(4));
        for random in [2.0, f64::INFINITY, f64::NAN] {
            assert_eq!(millis(&mut backoff, random), 4000);
        }
        for random in [-1.0, f64::NEG_INFINITY] {
            assert_eq!(millis(&mut backoff, random), 0);
        }
        let mut endless = Backoff::new(Duration::from_secs(1), Duration::MAX);
        let last = (0..200).map(|_| endless.next(1.0)).last();
        assert_eq!(last, Some(Duration::MAX));
    }

    #[test]
    fn random_shares_are_spread_over_the_whole_range() {
        let shares: Vec<f64> = (0..4000).map(|_| random()).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
        for quarter in 0..4 {
            let (from, to) = (f64::from(quarter) / 4.0, f64::from(quarter + 1) / 4.0);
            let within = shares.iter().filter(|share| (from..to).contains(*share)).count();
            // A thousand are expected; this is more than ten standard deviations away.
            assert!((700..1300).contains(&within), "{within} of 4000 between {from} and {to}");
        }
    }
}
