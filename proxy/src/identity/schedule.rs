//! When to renew, and how long to wait after a failure. Pure: time and chance are arguments.

use std::time::{Duration, SystemTime};

/// The first wait after a failure, and the longest while the SVID lasts.
pub(super) const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// How long a renewal that was not planned may be put off: the first time, and when it goes on so.
pub(super) const EARLY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest wait of a workload that has no SVID to show: everything of it stands still.
const LONGEST_WITHOUT_SVID: Duration = Duration::from_secs(10);
/// Jitter may draw nothing at all; a CA that refuses at once must not be asked in a tight loop.
const SHORTEST: Duration = Duration::from_millis(100);
/// How far around the half of its remaining life an SVID is renewed, so that a fleet that started together spreads.
const SPREAD: f64 = 0.1;

/// When to renew an SVID that was received at `now`: when half of what is left is over, ± 10 %.
/// `random` is from 0 to 1.
pub(super) fn renewal(now: SystemTime, expires: SystemTime, random: f64) -> SystemTime {
    let left = expires.duration_since(now).unwrap_or_default();
    let share = 0.5 * (1.0 + SPREAD * (2.0 * random.clamp(0.0, 1.0) - 1.0));
    now + left.mul_f64(share)
}

/// How long to wait before the next attempt, when backoff proposes `wait`: never so long that an SVID that still
/// lasts expires without another attempt.
pub(super) fn retry(wait: Duration, now: SystemTime, expires: Option<SystemTime>) -> Duration {
    let left = expires.and_then(|expires| expires.duration_since(now).ok()).unwrap_or_default();
    let longest = if left.is_zero() { LONGEST_WITHOUT_SVID } else { left / 2 };
    wait.min(longest).max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs_f64(1_800_000_000.0 + seconds)
    }

    #[test]
    fn renews_around_the_half_of_what_is_left() {
        // (received, expires, random, renewed)
        let table = [
            (0.0, 14_400.0, 0.5, 7200.0),
            (0.0, 14_400.0, 0.0, 6480.0),
            (0.0, 14_400.0, 1.0, 7920.0),
            // What is left counts, not the whole life: an authority near its end issues short SVIDs.
            (10_000.0, 14_400.0, 0.5, 12_200.0),
            (0.0, 30.0, 1.0, 16.5),
            (5.0, 5.0, 0.5, 5.0),
            (9.0, 5.0, 0.5, 9.0),
            // Chance outside its range is brought into it.
            (0.0, 100.0, 7.0, 55.0),
        ];
        for (now, expires, random, expected) in table {
            let renewal = renewal(at(now), at(expires), random);
            let off = renewal.duration_since(at(expected)).unwrap_or_else(|error| error.duration());
            assert!(off < Duration::from_millis(1), "{now} {expires} {random}: {off:?}");
        }
    }

    #[test]
    fn an_attempt_always_comes_before_the_expiry() {
        // (proposed wait, seconds left, wait); None: no SVID, or an expired one
        let table = [
            (60.0, Some(7200.0), 60.0),
            (60.0, Some(50.0), 25.0),
            (60.0, Some(1.0), 0.5),
            (0.0, Some(7200.0), 0.1),
            (0.0, None, 0.1),
            (60.0, None, 10.0),
            (60.0, Some(0.0), 10.0),
            (60.0, Some(-100.0), 10.0),
        ];
        for (proposed, left, expected) in table {
            let wait = retry(Duration::from_secs_f64(proposed), at(0.0), left.map(at));
            assert_eq!(wait.as_secs_f64(), expected, "{proposed} {left:?}");
        }
    }

    #[test]
    fn failing_from_the_half_to_the_end_asks_many_times_before_the_end() {
        let mut backoff = kith_runtime::backoff::Backoff::new(RETRY.0, RETRY.1);
        let (mut now, expires, mut attempts) = (at(15.0), at(30.0), 0);
        while now < expires {
            now += retry(backoff.next(1.0), now, Some(expires));
            attempts += 1;
        }
        assert!((5..40).contains(&attempts), "{attempts}");
    }
}
