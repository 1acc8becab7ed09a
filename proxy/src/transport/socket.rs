use std::{
    io,
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// A TCP connection that can be watched for a reset while somebody else reads and writes it, and whose first bytes can
/// be looked at and put back.
#[derive(Debug)]
pub struct Socket {
    tcp: Arc<TcpStream>,
    put_back: Option<u8>,
}

/// Notices a reset even while nobody reads.
#[derive(Debug, Clone)]
pub struct ResetWatch(Arc<TcpStream>);

/// Makes the end of a connection a reset, whoever drops its socket.
#[derive(Debug, Clone)]
pub struct Resetter(Arc<TcpStream>);

impl Socket {
    /// Takes over a connection.
    #[must_use]
    pub fn new(tcp: TcpStream) -> Self {
        Self { tcp: Arc::new(tcp), put_back: None }
    }

    /// The connection itself, for addresses and options.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Puts back a byte that was read; it is read again first.
    pub fn put_back(&mut self, byte: u8) {
        self.put_back = Some(byte);
    }

    /// A watch for resets.
    #[must_use]
    pub fn reset_watch(&self) -> ResetWatch {
        ResetWatch(Arc::clone(&self.tcp))
    }

    /// Where to say that the end is to be a reset.
    #[must_use]
    pub fn resetter(&self) -> Resetter {
        Resetter(Arc::clone(&self.tcp))
    }
}

impl Resetter {
    /// From now on closing the socket sends RST, and what is not acknowledged yet is thrown away.
    pub fn arm(&self) {
        // Fails only on a connection that is gone, and then there is nobody to tell.
        let _ = SockRef::from(&*self.0).set_linger(Some(std::time::Duration::ZERO));
    }

    /// From now on closing the socket is an orderly end again.
    pub fn disarm(&self) {
        let _ = SockRef::from(&*self.0).set_linger(None);
    }
}

impl ResetWatch {
    /// Resolves when the connection has failed: a reset, or a timeout of the kernel's.
    pub async fn failed(&self) {
        if self.0.ready(Interest::ERROR).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The error that the connection failed with, if nobody took it.
    pub fn error(&self) -> Option<io::Error> {
        self.0.take_error().ok().flatten()
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() > 0
            && let Some(byte) = this.put_back.take()
        {
            buf.put_slice(&[byte]);
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(this.tcp.poll_read_ready(cx))?;
            match this.tcp.try_read_buf(buf) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_write(buf) {
                Ok(n) => return Poll::Ready(Ok(n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// TLS hands over several records at once. A handshake that fails is written to once more and no second time: were
    /// this not vectored, the alert behind another record would be lost.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_write_vectored(bufs) {
                Ok(n) => return Poll::Ready(Ok(n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match SockRef::from(&*self.tcp).shutdown(Shutdown::Write) {
            // The peer has already reset or closed: there is nobody left to tell.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}
