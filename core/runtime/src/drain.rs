//! Leaving in order: who drains says so once, everybody else notices, and the open connections are counted.
//!
//! A drain refuses nothing by itself. Whether new connections are still taken meanwhile is for the one who takes them.

use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Makes a drain and the side of it that connections and loops hold.
#[must_use]
pub fn channel() -> (Drain, DrainWatch) {
    let connections = TaskTracker::new();
    // A closed tracker still counts; it only says that waiting for zero may end.
    connections.close();
    let watch = DrainWatch { begun: CancellationToken::new(), connections };
    (Drain { watch: watch.clone() }, watch)
}

/// The side that begins the drain and waits for its end.
#[derive(Debug)]
pub struct Drain {
    watch: DrainWatch,
}

/// The side that notices the drain and counts its connections. Dropping the [`Drain`] begins nothing.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    begun: CancellationToken,
    connections: TaskTracker,
}

/// One open connection, from when it was taken until this is dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    _counted: TaskTrackerToken,
}

impl Drain {
    /// Begins the drain. Beginning twice is beginning once.
    pub fn begin(&self) {
        self.watch.begun.cancel();
    }

    /// How many guards are held now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.watch.connections.len()
    }

    /// Resolves at a moment when no guard is held, whether a drain has begun or not.
    /// Another connection may come afterwards; then this can be awaited again.
    pub async fn idle(&self) {
        while self.open() > 0 {
            self.watch.connections.wait().await;
        }
    }

    /// Another watch of this drain.
    #[must_use]
    pub fn watch(&self) -> DrainWatch {
        self.watch.clone()
    }
}

impl DrainWatch {
    /// Resolves when the drain begins; at once when it has begun already.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.begun.clone().cancelled_owned()
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Counts one more connection until the guard is dropped. Also while draining.
    #[must_use]
    pub fn guard(&self) -> ConnectionGuard {
        ConnectionGuard { _counted: self.connections.token() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn is_pending(future: impl Future) -> bool {
        timeout(Duration::from_secs(3600), future).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_notices_the_beginning_also_who_comes_late() {
        let (drain, watch) = channel();
        let other = watch.clone();
        assert!(!watch.is_draining());
        assert!(is_pending(watch.draining()).await);

        let waiting = tokio::spawn(watch.draining());
        drain.begin();
        drain.begin();
        waiting.await.unwrap();
        other.draining().await;
        drain.watch().draining().await;
        assert!(other.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_that_is_dropped_has_not_begun() {
        let (drain, watch) = channel();
        drop(drain);
        assert!(is_pending(watch.draining()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn guards_are_counted_until_they_are_dropped() {
        let (drain, watch) = channel();
        drain.idle().await;
        let (first, second) = (watch.guard(), watch.clone().guard());
        assert_eq!(drain.open(), 2);
        drop(first);
        assert_eq!(drain.open(), 1);
        assert!(is_pending(drain.idle()).await);
        drop(second);
        drain.idle().await;
        assert_eq!(drain.open(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_taken_while_draining_is_waited_for_too() {
        let (drain, watch) = channel();
        let first = watch.guard();
        drain.begin();
        let mut idle = std::pin::pin!(drain.idle());
        assert!(is_pending(idle.as_mut()).await);
        // The first ends and the next begins before the one who waits has had its turn.
        drop(first);
        let second = watch.guard();
        assert!(is_pending(idle.as_mut()).await);
        drop(second);
        idle.await;
    }
}
