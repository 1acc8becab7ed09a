//! The signals that ask a process to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, caught from the moment this is made, so that none is lost before anybody waits.
#[derive(Debug)]
pub struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    /// Catches the signals from now on. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the handlers can't be installed.
    pub fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Resolves with the name of the next signal that asks to end. Can be awaited again: a second one is impatience.
    pub async fn requested(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn signals_that_came_before_anybody_waited_are_not_lost() {
        let mut termination = Termination::catch().unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        assert_eq!(termination.requested().await, "SIGTERM");
        kill_process(getpid(), Signal::INT).unwrap();
        assert_eq!(termination.requested().await, "SIGINT");
    }
}
