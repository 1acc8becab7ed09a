use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use kith_identity::Leaf;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tonic::transport::server::Connected;

use crate::{
    CredentialsReader, Failed, HandshakeError, PeerPolicy, Server, TlsStream, accept, alpn,
    grpc::{Now, crowd::Crowd},
    linger,
};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at once on one port. Beyond, a new client takes an old one's place rather than wait: whoever
/// opens connections and says nothing must not keep the others from their certificates.
const MOST_HANDSHAKES: usize = 512;

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
            tokio::select! {
                () = self.run(incoming, &ready) => {}
                // The server has gone: so do the handshakes.
                () = ready.closed() => {}
            }
        });
        tokio_stream::wrappers::ReceiverStream::new(accepted)
    }

    async fn run(self, incoming: impl Stream<Item = io::Result<TcpStream>>, ready: &mpsc::Sender<io::Result<GrpcIo>>) {
        let mut incoming = pin!(incoming.fuse());
        let mut handshakes = JoinSet::new();
        let mut crowd = Crowd::new(MOST_HANDSHAKES);
        loop {
            tokio::select! {
                biased;
                Some(ended) = handshakes.join_next_with_id() => {
                    let (id, io) = ended.unwrap_or_else(|error| (error.id(), None));
                    crowd.leave(|(guest, _)| *guest == id);
                    // Nothing more is taken in while the server does not take out.
                    if let Some(io) = io && ready.send(Ok(io)).await.is_err() {
                        return;
                    }
                }
                Some(stream) = incoming.next() => {
                    // A failure to accept is the listener's to wait out and to count.
                    let Ok(Some((stream, remote))) = stream.map(|s| s.peer_addr().ok().map(|remote| (s, remote))) else {
                        continue;
                    };
                    let (stay, leave) = oneshot::channel();
                    let id = handshakes.spawn(self.clone().secure(stream, remote, leave)).id();
                    // Whoever is pushed out here is told by its channel's end.
                    drop(crowd.enter(remote.ip(), (id, stay)));
                }
                else => return,
            }
        }
    }

    async fn secure(
        self,
        stream: TcpStream,
        remote: SocketAddr,
        mut leave: oneshot::Receiver<Infallible>,
    ) -> Option<GrpcIo> {
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
        let handshake = tokio::select! {
            biased;
            _ = &mut leave => Err(Failed { error: HandshakeError::CrowdedOut, io: None }),
            handshake = accept(stream, server, (self.now)()) => handshake,
        };
        match handshake {
            Ok(stream) => Some(GrpcIo::Tls(Box::new(stream))),
            Err(failed) => {
                (self.on_failure)(remote, &failed.error);
                if let Some(io) = failed.io {
                    tokio::select! {
                        () = linger(io) => {}
                        _ = leave => {}
                    }
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
