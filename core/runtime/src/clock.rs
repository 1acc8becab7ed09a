//! The time of day, as an argument. Only loops ask a clock; what decides takes `now`.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep};

/// The shortest and the longest time for which a sleeper trusts that the clock on the wall goes on as before.
const TICK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Where a process reads the time of day. Clones are the same clock.
#[derive(Clone)]
pub struct Clock {
    source: Source,
}

#[derive(Clone)]
enum Source {
    System,
    Manual(ManualClock),
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { source: Source::System }
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        match &self.source {
            Source::System => SystemTime::now(),
            Source::Manual(manual) => manual.now(),
        }
    }

    /// Sleeps until the time of day is `deadline`; not at all when it is already.
    ///
    /// Timers stand still while a machine is suspended, and know nothing of a clock that is set. So the time of day
    /// is read again at ticks of at most 30 s, finer as the deadline nears: either is noticed by the next tick.
    pub async fn sleep_until_wall(&self, deadline: SystemTime) {
        // An error is a deadline that has passed.
        while let Ok(left) = deadline.duration_since(self.now()) {
            if left.is_zero() {
                break;
            }
            sleep(tick(left)).await;
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            Source::System => "Clock(system)",
            Source::Manual(_) => "Clock(manual)",
        })
    }
}

fn tick(left: Duration) -> Duration {
    let (shortest, longest) = TICK;
    // A timer's millisecond is rounded up, so the last tick ends at or just after the deadline.
    left.min((left / 10).clamp(shortest, longest))
}

/// A clock for tests. It can be set, and clones are the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock {
    state: Arc<Mutex<ManualState>>,
}

#[derive(Debug)]
struct ManualState {
    at: SystemTime,
    /// Since when it has been running; None for a clock that stands still.
    since: Option<Instant>,
}

impl ManualClock {
    /// A clock that stands at a time until it is moved.
    #[must_use]
    pub fn new(at: SystemTime) -> Self {
        Self { state: Arc::new(Mutex::new(ManualState { at, since: None })) }
    }

    /// A clock that goes with tokio's time from now on, also when that is paused and advanced.
    /// Moving it is then what a suspended machine or a clock that is set looks like.
    #[must_use]
    pub fn running(at: SystemTime) -> Self {
        Self { state: Arc::new(Mutex::new(ManualState { at, since: Some(Instant::now()) })) }
    }

    /// The same as the [`Clock`] that the code under test takes.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock { source: Source::Manual(self.clone()) }
    }

    /// The time it shows.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.with(|state| state.now())
    }

    /// Shows another time, before or after.
    pub fn set(&self, at: SystemTime) {
        self.with(|state| {
            state.at = at;
            state.since = state.since.map(|_| Instant::now());
        });
    }

    /// Moves ahead.
    pub fn advance(&self, by: Duration) {
        self.with(|state| state.at += by);
    }

    fn with<T>(&self, work: impl FnOnce(&mut ManualState) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ManualState {
    fn now(&self) -> SystemTime {
        self.at + self.since.map(|since| since.elapsed()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn after(seconds: u64) -> SystemTime {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn the_system_clock_is_the_systems() {
        let (before, now, later) = (SystemTime::now(), Clock::system().now(), SystemTime::now());
        assert!(before <= now && now <= later);
    }

    #[test]
    fn a_manual_clock_stands_until_it_is_moved() {
        let manual = ManualClock::new(after(10));
        let clock = manual.clock();
        assert_eq!(clock.now(), after(10));
        manual.advance(Duration::from_secs(5));
        assert_eq!(clock.clone().now(), after(15));
        manual.clone().set(after(3));
        assert_eq!(clock.now(), after(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_clock_goes_with_tokios_time() {
        let manual = ManualClock::running(after(10));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(manual.now(), after(70));
        manual.set(after(5));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(manual.clock().now(), after(6));
    }

    #[test]
    fn ticks_are_coarse_far_away_and_end_at_the_deadline() {
        let tick = |seconds: f64| tick(Duration::from_secs_f64(seconds)).as_secs_f64();
        for (left, expected) in [(86_400.0, 30.0), (300.0, 30.0), (100.0, 10.0), (5.0, 1.0), (1.0, 1.0), (0.25, 0.25)] {
            assert!((tick(left) - expected).abs() < 1e-9, "{left}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sleeps_until_the_deadline_and_no_longer() {
        let clock = ManualClock::running(START).clock();
        clock.sleep_until_wall(after(4 * 3600)).await;
        let late = clock.now().duration_since(after(4 * 3600)).unwrap();
        assert!(late < Duration::from_millis(10), "{late:?}");

        let before = Instant::now();
        clock.sleep_until_wall(after(3600)).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leap_of_the_clock_is_noticed_at_the_next_tick() {
        let manual = ManualClock::running(START);
        let clock = manual.clock();
        let sleeper = tokio::spawn(async move { clock.sleep_until_wall(after(4 * 3600)).await });
        tokio::time::sleep(Duration::from_secs(60)).await;

        // The machine was suspended for a night: timers have not moved.
        manual.advance(Duration::from_secs(8 * 3600));
        let woken = Instant::now();
        sleeper.await.unwrap();
        assert!(woken.elapsed() <= Duration::from_secs(31), "{:?}", woken.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_makes_the_sleep_longer() {
        let manual = ManualClock::running(after(600));
        let clock = manual.clock();
        let begun = Instant::now();
        let sleeper = tokio::spawn(async move { clock.sleep_until_wall(after(1200)).await });
        tokio::time::sleep(Duration::from_secs(100)).await;
        manual.set(START);
        sleeper.await.unwrap();
        assert!(manual.now() >= after(1200));
        assert!(begun.elapsed() >= Duration::from_secs(1300));
    }
}
