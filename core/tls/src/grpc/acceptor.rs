use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use kith_identity::Leaf;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::mpsc,
};
use tonic::transport::server::Connected;

use crate::{CredentialsReader, HandshakeError, PeerPolicy, Server, TlsStream, accept, alpn, grpc::Now, linger};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at once on one port; further clients wait in the listen queue.
const MOST_HANDSHAKES: usize = 256;

/// Told of a client by its address, and how its handshake failed.
pub type FailureObserver = Arc<dyn Fn(SocketAddr, &HandshakeError) + Send + Sync>;

/// What a gRPC port asks of its clients.
#[derive(Debug, Clone)]
pub enum Security {
    /// TLS, no client certificate.
    ServerOnly,
    /// Mutual TLS.
    Mutual(Arc<dyn PeerPolicy>),
    /// Plaintext from loopback, mutual TLS from elsewhere.
    PlainOnLoopback(Arc<dyn PeerPolicy>),
}

/// Turns TCP connections into gRPC connections whose peers are known.
#[derive(Clone)]
pub struct Acceptor {
    /// What to present, read anew for every connection.
    pub credentials: CredentialsReader,
    /// What to ask of clients.
    pub security: Security,
    /// Tells the time.
    pub now: Now,
    /// Told of every handshake that failed.
    pub on_failure: FailureObserver,
}

/// A connection for tonic.
#[derive(Debug)]
pub enum GrpcIo {
    /// From loopback.
    Plain(TcpStream),
    /// From anywhere.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Who is at the other end: an extension of every request.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// From where.
    pub remote_address: Option<SocketAddr>,
    /// The proved identity, where one was asked for.
    pub peer: Option<Arc<Leaf>>,
}

impl Acceptor {
    /// Runs handshakes beside each other and yields those that succeeded; ends with `incoming`.
    pub fn accept(
        self,
        incoming: impl Stream<Item = io::Result<TcpStream>> + Send + 'static,
    ) -> impl Stream<Item = io::Result<GrpcIo>> + Send {
        let (ready, accepted) = mpsc::channel(1);
        tokio::spawn(async move {
            let handshakes = incoming.for_each_concurrent(MOST_HANDSHAKES, |stream| {
                let (acceptor, ready) = (self.clone(), ready.clone());
                async move {
                    if let Some(io) = acceptor.secure(stream).await {
                        let _ = ready.send(Ok(io)).await;
                    }
                }
            });
            tokio::select! {
                () = handshakes => {}
                () = ready.closed() => {}
            }
        });
        tokio_stream::wrappers::ReceiverStream::new(accepted)
    }

    async fn secure(&self, stream: io::Result<TcpStream>) -> Option<GrpcIo> {
        let stream = stream.ok()?;
        let remote = stream.peer_addr().ok()?;
        stream.set_nodelay(true).ok()?;
        let policy = match &self.security {
            Security::PlainOnLoopback(_) if remote.ip().to_canonical().is_loopback() => {
                return Some(GrpcIo::Plain(stream));
            }
            Security::ServerOnly => None,
            Security::Mutual(policy) | Security::PlainOnLoopback(policy) => Some(Arc::clone(policy)),
        };
        // Without an SVID of our own there is nothing to say to anybody.
        let material = self.credentials.current()?;
        let server = Server { material, policy, alpn: vec![alpn::H2.to_vec()], deadline: HANDSHAKE_TIMEOUT };
        match accept(stream, server, (self.now)()).await {
            Ok(stream) => Some(GrpcIo::Tls(Box::new(stream))),
            Err(failed) => {
                (self.on_failure)(remote, &failed.error);
                if let Some(io) = failed.io {
                    linger(io).await;
                }
                None
            }
        }
    }
}

impl Connected for GrpcIo {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        match self {
            Self::Plain(stream) => ConnectionInfo { remote_address: stream.peer_addr().ok(), peer: None },
            Self::Tls(stream) => ConnectionInfo {
                remote_address: stream.io().peer_addr().ok(),
                peer: stream.peer().cloned().map(Arc::new),
            },
        }
    }
}

impl AsyncRead for GrpcIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for GrpcIo {
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
