use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use kith_tls::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::{ResetWatch, Resetter, Socket};

/// One leg of a connection.
#[derive(Debug)]
pub enum Stream {
    /// In clear: towards the application, or on the wire where that is right.
    Plain(Socket),
    /// Mutual TLS on the wire.
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.io(),
        }
    }

    /// Whether a FIN alone is no proper end here.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// A watch for resets.
    #[must_use]
    pub fn reset_watch(&self) -> ResetWatch {
        self.socket().reset_watch()
    }

    /// Where to say that the end is to be a reset.
    #[must_use]
    pub fn resetter(&self) -> Resetter {
        self.socket().resetter()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
        }
    }
}
