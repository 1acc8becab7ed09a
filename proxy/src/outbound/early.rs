//! What the application says before the peer has answered: sent at once, and kept until an answer, so that after an
//! explicit refusal another endpoint can have it.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use kith_tls::{TlsStream, answer::Answer};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    time::timeout,
};
use tokio_util::io::poll_read_buf;

use crate::transport::socket::Socket;

/// The most that is kept; the application waits when it has said more.
const MOST: usize = 64 * 1024;
const CHUNK: usize = 16 * 1024;

/// What the application has said so far.
#[derive(Debug, Default)]
pub(super) struct Early {
    kept: BytesMut,
    /// How much of it the present endpoint has been sent.
    sent: usize,
    /// The application has closed its side.
    ended: bool,
}

/// What came of waiting.
#[derive(Debug)]
pub(super) enum Heard {
    /// The peer answered.
    Answer(Answer),
    /// The connection to the peer failed or ended without an answer.
    WireFailed(io::Error),
    /// The application's connection failed.
    ApplicationFailed(io::Error),
    /// Nothing, in all that time.
    Silence,
}

impl Early {
    /// Another endpoint is asked, which has been sent nothing yet.
    pub(super) fn begin_anew(&mut self) {
        self.sent = 0;
    }

    /// How much the application has said.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// What the present endpoint has not been sent.
    pub(super) fn unsent(mut self) -> BytesMut {
        self.kept.split_off(self.sent)
    }

    /// Sends what the application says until the peer answers.
    pub(super) async fn exchange(
        &mut self,
        application: &mut Socket,
        tls: &mut TlsStream<Socket>,
        deadline: Duration,
    ) -> Heard {
        let exchange = poll_fn(|cx| {
            if let Poll::Ready(heard) = poll_answer(cx, tls) {
                return Poll::Ready(heard);
            }
            match self.poll_send(cx, application, tls) {
                Poll::Ready(heard) => Poll::Ready(heard),
                Poll::Pending => Poll::Pending,
            }
        });
        timeout(deadline, exchange).await.unwrap_or(Heard::Silence)
    }

    /// Ready only when something has failed.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        application: &mut Socket,
        tls: &mut TlsStream<Socket>,
    ) -> Poll<Heard> {
        loop {
            while let Some(rest) = self.kept.get(self.sent..).filter(|rest| !rest.is_empty()) {
                match ready!(Pin::new(&mut *tls).poll_write(cx, rest)) {
                    Ok(written) => self.sent += written,
                    Err(error) => return poll_last_words(cx, tls, error),
                }
            }
            let read = self.poll_application(cx, application);
            match read {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Heard::ApplicationFailed(error)),
                Poll::Pending => {
                    return match ready!(Pin::new(&mut *tls).poll_flush(cx)) {
                        Ok(()) => Poll::Pending,
                        Err(error) => poll_last_words(cx, tls, error),
                    };
                }
            }
        }
    }

    /// Reads more from the application, as long as there is room and it has not ended.
    fn poll_application(&mut self, cx: &mut Context<'_>, application: &mut Socket) -> Poll<io::Result<()>> {
        let room = MOST.saturating_sub(self.kept.len());
        if self.ended || room == 0 {
            return Poll::Pending;
        }
        self.kept.reserve(room.min(CHUNK));
        let mut fresh = self.kept.split_off(self.kept.len());
        let read = poll_read_buf(Pin::new(application), cx, &mut fresh);
        self.kept.unsplit(fresh);
        // The end is passed on by whoever reads next: after an end, reading yields the end again.
        self.ended = ready!(read)? == 0;
        if self.ended { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

fn poll_answer(cx: &mut Context<'_>, tls: &mut TlsStream<Socket>) -> Poll<Heard> {
    let mut byte = [0; 1];
    let mut buffer = ReadBuf::new(&mut byte);
    let heard = match ready!(Pin::new(tls).poll_read(cx, &mut buffer)) {
        Err(error) => Heard::WireFailed(error),
        Ok(()) => match buffer.filled() {
            [code] => match Answer::from_code(*code) {
                Ok(answer) => Heard::Answer(answer),
                Err(error) => Heard::WireFailed(io::Error::new(io::ErrorKind::InvalidData, error)),
            },
            _ => Heard::WireFailed(io::ErrorKind::UnexpectedEof.into()),
        },
    };
    Poll::Ready(heard)
}

/// A write that failed because the peer has ended the connection: what it said last is the better reason.
fn poll_last_words(cx: &mut Context<'_>, tls: &mut TlsStream<Socket>, error: io::Error) -> Poll<Heard> {
    match poll_answer(cx, tls) {
        Poll::Ready(Heard::WireFailed(read)) if TlsStream::<Socket>::alert(&read).is_none() => {
            Poll::Ready(Heard::WireFailed(error))
        }
        Poll::Ready(heard) => Poll::Ready(heard),
        Poll::Pending => Poll::Ready(Heard::WireFailed(error)),
    }
}
