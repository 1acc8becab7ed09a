use std::{
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
    sync::mpsc,
    task::JoinSet,
};
use tonic::transport::server::Connected;

use crate::{
    CredentialsReader, Failed, HandshakeError, PeerPolicy, Server, TlsStream, accept, alpn,
    grpc::{
        Now,
        crowd::{Crowd, Place},
    },
    linger,
};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of one port whose clients have proved nothing: handshakes, and what comes after them where no
/// certificate is asked for. Beyond, a new client takes an old one's place rather than wait: whoever opens connections
/// and says nothing must not keep the others from their certificates.
const MOST_UNPROVED: usize = 1024;

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
pub struct GrpcIo {
    io: Io,
    /// What the connection has to give up to others while its client has proved nothing.
    place: Option<Place>,
}

#[derive(Debug)]
enum Io {
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
        let mut crowd = Crowd::new(MOST_UNPROVED);
        loop {
            tokio::select! {
                biased;
                Some(ended) = handshakes.join_next() => {
                    // Nothing more is taken in while the server does not take out.
                    if let Ok(Some(io)) = ended && ready.send(Ok(io)).await.is_err() {
                        return;
                    }
                }
                Some(stream) = incoming.next() => {
                    // A failure to accept is the listener's to wait out and to count.
                    let Ok(Some((stream, remote))) = stream.map(|s| s.peer_addr().ok().map(|remote| (s, remote))) else {
                        continue;
                    };
                    let place = crowd.enter(remote.ip());
                    handshakes.spawn(self.clone().secure(stream, remote, place));
                }
                else => return,
            }
        }
    }

    async fn secure(self, stream: TcpStream, remote: SocketAddr, mut place: Place) -> Option<GrpcIo> {
        stream.set_nodelay(true).ok()?;
        let policy = match &self.security {
            Security::PlainOnLoopback(_) if remote.ip().to_canonical().is_loopback() => {
                return Some(GrpcIo { io: Io::Plain(stream), place: None });
            }
            Security::ServerOnly => None,
            Security::Mutual(policy) | Security::PlainOnLoopback(policy) => Some(Arc::clone(policy)),
        };
        // Without an SVID of our own there is nothing to say to anybody.
        let material = self.credentials.current()?;
        let server = Server { material, policy, alpn: vec![alpn::H2.to_vec()], deadline: HANDSHAKE_TIMEOUT };
        let handshake = tokio::select! {
            biased;
            () = &mut place => Err(Failed { error: HandshakeError::CrowdedOut, io: None }),
            handshake = accept(stream, server, (self.now)()) => handshake,
        };
        match handshake {
            Ok(stream) => {
                let place = stream.peer().is_none().then_some(place);
                Some(GrpcIo { io: Io::Tls(Box::new(stream)), place })
            }
            Err(failed) => {
                (self.on_failure)(remote, &failed.error);
                if let Some(io) = failed.io {
                    tokio::select! {
                        () = linger(io) => {}
                        () = place => {}
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
        match &self.io {
            Io::Plain(stream) => ConnectionInfo { remote_address: stream.peer_addr().ok(), peer: None },
            Io::Tls(stream) => ConnectionInfo {
                remote_address: stream.io().peer_addr().ok(),
                peer: stream.peer().cloned().map(Arc::new),
            },
        }
    }
}

impl AsyncRead for GrpcIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(place) = &mut this.place
            && Pin::new(place).poll(cx).is_ready()
        {
            this.place = None;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, HandshakeError::CrowdedOut)));
        }
        match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for GrpcIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
        }
    }
}
