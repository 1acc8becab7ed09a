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
