//! Moving bytes between the application and the wire, and ending one as the other ended.
//!
//! A FIN becomes close_notify and FIN while the other direction stays open; a reset becomes a reset; a FIN without
//! close_notify is truncation and becomes a reset towards the application.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use kith_runtime::metrics::Counter;
use kith_tls::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::{io::poll_read_buf, sync::CancellationToken};

use super::{
    socket::{ResetWatch, Resetter, Socket},
    stream::Stream,
};
use crate::outcome::{Bytes, Outcome, Reason};

/// How much one direction reads at a time: two TLS records. It is held only while bytes are in flight.
const CHUNK: usize = 32 * 1024;

/// Which leg something happened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    Application,
    Wire,
}

#[derive(Debug)]
struct Failure {
    leg: Leg,
    error: io::Error,
}

/// Moves bytes both ways until both directions have ended or one leg has failed, and ends both legs accordingly.
/// `unsent` is what was read from the application before and goes first; `abort` resets both legs.
pub async fn relay(
    mut application: Stream,
    mut wire: Stream,
    unsent: BytesMut,
    bytes: &Bytes,
    counters: &[Counter; 2],
    abort: &CancellationToken,
) -> Reason {
    let resetters = [application.resetter(), wire.resetter()];
    // Should this process die, the kernel closes both legs: nobody is to take that for an end.
    resetters.iter().for_each(Resetter::arm);
    let watches = [(Leg::Application, application.reset_watch()), (Leg::Wire, wire.reset_watch())];
    let ended = {
        let [sent, received] = counters;
        let mut out = Pump::new(Leg::Application, Leg::Wire, unsent, &bytes.sent, sent);
        let mut back = Pump::new(Leg::Wire, Leg::Application, BytesMut::new(), &bytes.received, received);
        let both = std::future::poll_fn(|cx| {
            let out = out.poll(cx, &mut application, &mut wire)?;
            let back = back.poll(cx, &mut wire, &mut application)?;
            if out.is_ready() && back.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
        });
        tokio::select! {
            // Bytes that came before a reset are delivered first, as far as the other side takes them.
            biased;
            ended = both => ended.map_err(Some),
            failure = reset_of(&watches) => Err(Some(failure)),
            () = abort.cancelled() => Err(None),
        }
    };
    match ended {
        Ok(()) => {
            resetters.iter().for_each(Resetter::disarm);
            Reason::CLOSED
        }
        Err(failure) => failure.map_or(Reason::ABORTED, Failure::into_reason),
    }
}

/// A reset is noticed even while nobody reads from that leg because the other one takes nothing.
async fn reset_of([application, wire]: &[(Leg, ResetWatch); 2]) -> Failure {
    let (leg, watch) = tokio::select! {
        () = application.1.failed() => application,
        () = wire.1.failed() => wire,
    };
    Failure { leg: *leg, error: watch.error().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()) }
}

/// One direction.
struct Pump<'a> {
    from: Leg,
    to: Leg,
    buffer: BytesMut,
    state: State,
    unflushed: bool,
    bytes: &'a AtomicU64,
    counter: &'a Counter,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ending,
    Ended,
}

impl<'a> Pump<'a> {
    fn new(from: Leg, to: Leg, buffer: BytesMut, bytes: &'a AtomicU64, counter: &'a Counter) -> Self {
        Self { from, to, buffer, state: State::Open, unflushed: true, bytes, counter }
    }

    fn poll<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (from, to) = (self.from, self.to);
        let reading = |error| Failure { leg: from, error };
        let writing = |error| Failure { leg: to, error };
        loop {
            while !self.buffer.is_empty() {
                let written = ready!(Pin::new(&mut *writer).poll_write(cx, &self.buffer)).map_err(writing)?;
                if written == 0 {
                    return Poll::Ready(Err(writing(io::ErrorKind::WriteZero.into())));
                }
                self.buffer.advance(written);
                self.unflushed = true;
            }
            match self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(writing)?;
                    self.state = State::Ended;
                }
                State::Open => {
                    self.buffer.reserve(CHUNK);
                    match poll_read_buf(Pin::new(&mut *reader), cx, &mut self.buffer).map_err(reading)? {
                        Poll::Ready(0) => self.state = State::Ending,
                        Poll::Ready(read) => self.count(read),
                        Poll::Pending => {
                            // An idle connection holds no buffer.
                            self.buffer = BytesMut::new();
                            if self.unflushed {
                                ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(writing)?;
                                self.unflushed = false;
                            }
                            return Poll::Pending;
                        }
                    }
                }
            }
        }
    }

    fn count(&self, read: usize) {
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        self.bytes.fetch_add(read, Ordering::Relaxed);
        self.counter.inc_by(read);
    }
}

impl Failure {
    fn into_reason(self) -> Reason {
        use io::ErrorKind as K;
        let Self { leg, error } = self;
        let alert = TlsStream::<Socket>::alert(&error);
        let label = match (leg, error.kind()) {
            (Leg::Application, K::TimedOut | K::HostUnreachable) => "application_timeout",
            (Leg::Application, _) => "application_reset",
            (Leg::Wire, _) if alert.is_some() => alert.unwrap_or_default(),
            (Leg::Wire, K::UnexpectedEof) => "truncated",
            (Leg::Wire, K::TimedOut | K::HostUnreachable) => "wire_timeout",
            (Leg::Wire, K::InvalidData) => "wire_protocol",
            (Leg::Wire, _) => "wire_reset",
        };
        Reason::new(Outcome::Reset, label, error.to_string())
    }
}

#[cfg(test)]
mod tests;
