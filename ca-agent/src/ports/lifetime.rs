use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use kith_runtime::clock::Clock;
use kith_tls::grpc::{ConnectionInfo, GrpcIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// Requests of an expired caller are refused with a reason; so long it may read that.
const FAREWELL: Duration = Duration::from_secs(3);

/// A connection that ends soon after the certificate that its client presented: its next one then uses the current.
pub(super) struct WhileCertified {
    io: GrpcIo,
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl WhileCertified {
    pub(super) fn new(io: GrpcIo, clock: &Clock) -> Self {
        let end = io.connect_info().peer.map(|leaf| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let clock = clock.clone();
            Box::pin(async move { clock.sleep_until_wall(leaf.not_after + FAREWELL).await })
        });
        Self { io, end }
    }
}

impl Connected for WhileCertified {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.io.connect_info()
    }
}

impl AsyncRead for WhileCertified {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(end) = &mut this.end
            && end.as_mut().poll(cx).is_ready()
        {
            // Read as if the client had gone: nothing that it says counts any more.
            this.end = Some(Box::pin(std::future::ready(())));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for WhileCertified {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
