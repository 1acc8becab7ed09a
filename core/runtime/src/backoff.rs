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
        let wait = self.ceiling.mul_f64(share);
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
