use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use kith_tls::TlsStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A TLS connection that remembers the alert with which its peer ended it. In TLS 1.3 a server refuses a client's
/// certificate after the client's handshake is done, and HTTP/2 passes on no more than that the connection broke.
#[derive(Debug)]
pub(super) struct Observed {
    inner: TlsStream<TcpStream>,
    alert: Arc<OnceLock<&'static str>>,
}

impl Observed {
    pub(super) fn new(inner: TlsStream<TcpStream>, alert: Arc<OnceLock<&'static str>>) -> Self {
        Self { inner, alert }
    }

    fn watch<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled
            && let Some(alert) = TlsStream::<TcpStream>::alert(error)
        {
            self.alert.get_or_init(|| alert);
        }
        polled
    }
}

impl AsyncRead for Observed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.watch(polled)
    }
}

impl AsyncWrite for Observed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watch(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(polled)
    }
}
