//! The one accept loop. Whatever happens to a connection or to the machine, it goes on accepting.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use futures_util::{Stream, stream};
use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tracing::{debug, warn};

use crate::{backoff::Backoff, metrics::Counter};

/// Pressure passes in milliseconds or not for a while; a full second costs nobody more than a retransmitted SYN.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Errors that are closer together than this are one burst, and one line in the log.
const BURST: Duration = Duration::from_secs(10);

/// Hands over every connection until `shutdown` resolves, then closes the listening socket.
///
/// `errors` counts the failures to accept. `on_connection` must not block: it takes the connection and spawns.
pub async fn serve(
    listener: TcpListener,
    errors: Counter,
    shutdown: impl Future<Output = ()>,
    mut on_connection: impl FnMut(TcpStream, SocketAddr),
) {
    let mut shutdown = pin!(shutdown);
    let mut acceptor = Acceptor::new(listener, errors);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            (stream, peer) = acceptor.accept() => on_connection(stream, peer),
        }
    }
}

/// The connections of a listener as a stream for a server that wants one. It never ends and never holds an error.
pub fn incoming(listener: TcpListener, errors: Counter) -> impl Stream<Item = io::Result<TcpStream>> + Send + 'static {
    stream::unfold(Acceptor::new(listener, errors), |mut acceptor| async move {
        let (stream, _) = acceptor.accept().await;
        Some((Ok(stream), acceptor))
    })
}

struct Acceptor {
    listener: TcpListener,
    pressure: Pressure,
}

impl Acceptor {
    fn new(listener: TcpListener, errors: Counter) -> Self {
        Self { listener, pressure: Pressure::new(errors) }
    }

    /// The next connection, however long it takes. May be cancelled: no connection is lost.
    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        self.pressure.until_accepted(|| self.listener.accept()).await
    }
}

/// What a listener has been through.
struct Pressure {
    backoff: Backoff,
    errors: Counter,
    last_error: Option<Instant>,
}

impl Pressure {
    fn new(errors: Counter) -> Self {
        let (shortest, longest) = BACKOFF;
        Self { backoff: Backoff::new(shortest, longest), errors, last_error: None }
    }

    async fn until_accepted<T, A>(&mut self, accept: impl Fn() -> A) -> T
    where
        A: Future<Output = io::Result<T>>,
    {
        loop {
            match accept().await {
                Ok(accepted) => {
                    self.backoff.reset();
                    return accepted;
                }
                Err(error) if concerns_one_connection(&error) => {
                    self.errors.inc();
                    debug!(%error, "A connection was gone before it was accepted");
                }
                Err(error) => {
                    self.errors.inc();
                    self.log(&error);
                    // No jitter: nobody else waits for the same descriptors in step with us.
                    sleep(self.backoff.next(1.0)).await;
                }
            }
        }
    }

    fn log(&mut self, error: &io::Error) {
        if self.begins_a_burst(Instant::now()) {
            warn!(%error, "Can't accept connections for now; trying again until it works");
        }
    }

    fn begins_a_burst(&mut self, now: Instant) -> bool {
        let before = self.last_error.replace(now);
        before.is_none_or(|before| now.duration_since(before) >= BURST)
    }
}

/// Errors of the connection that was to be accepted, as accept(2) lists them: the next one may be fine.
/// All others (no descriptors, no memory, or what nobody foresaw) would come right back, so they are waited out.
fn concerns_one_connection(error: &io::Error) -> bool {
    let Some(errno) = Errno::from_io_error(error) else { return false };
    matches!(
        errno,
        Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::INTR
            | Errno::PERM
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::TIMEDOUT
    )
}

#[cfg(test)]
mod tests;
