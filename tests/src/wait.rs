//! Waiting for facts.

use std::{
    thread,
    time::{Duration, Instant},
};

const POLL: Duration = Duration::from_millis(10);

/// Waits until the condition holds.
///
/// # Panics
/// With the description when it does not within this time; the net then shows what its processes wrote.
#[track_caller]
pub fn wait_until(description: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(description, within, || condition().then_some(()));
}

/// Waits until there is a value, and returns it.
///
/// # Panics
/// With the description when there is none within this time.
#[track_caller]
pub fn wait_for<T>(description: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain: {description}");
        thread::sleep(POLL);
    }
}
