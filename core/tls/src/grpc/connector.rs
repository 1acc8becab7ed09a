use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use kith_identity::SpiffeId;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::{
    Client, CredentialsReader, ExpectedIds, HandshakeError, Roots, TlsStream, alpn, connect, grpc::Now, linger,
};

const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Where to find whom to believe: asked anew for every connection, so that a replaced bundle file counts at once.
pub type RootsSource = Arc<dyn Fn() -> Result<Roots, String> + Send + Sync>;

/// Connects to one gRPC server and proves who it is.
#[derive(Clone)]
pub struct Connector {
    /// `host:port` of the server; names are resolved for every connection.
    pub address: String,
    /// Who may answer.
    pub expected: SpiffeId,
    /// Whom to believe.
    pub roots: RootsSource,
    /// What to present, read anew for every connection; `None` presents nothing.
    pub credentials: Option<CredentialsReader>,
    /// Tells the time.
    pub now: Now,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The trust bundle is not there or not usable.
    #[error("no trust bundle to prove {address} with: {reason}")]
    Roots {
        /// The server's address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no SVID to present yet.
    #[error("no SVID to present to {address} yet")]
    NoSvid {
        /// The server's address.
        address: String,
    },
    /// Nobody answers at the address.
    #[error("{address} can't be reached: {source}")]
    Dial {
        /// The server's address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody answered who is not the expected server, or who refused us.
    #[error("the handshake with {address} failed ({}): {source}; expected {expected}", source.as_str())]
    Handshake {
        /// The server's address.
        address: String,
        /// Who should have answered.
        expected: SpiffeId,
        /// What went wrong.
        source: HandshakeError,
    },
}

impl Connector {
    /// A channel that connects when it is first used, and again whenever its connection has ended.
    #[must_use]
    pub fn channel(self) -> Channel {
        // The connector dials its own address and does its own TLS: the URI only fills the :authority header.
        Endpoint::from_static("http://kith.internal")
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                let connector = self.clone();
                let connected: BoxFuture<'static, Result<_, ConnectError>> =
                    Box::pin(async move { connector.connect().await.map(TokioIo::new) });
                connected
            }))
    }

    /// One connection.
    ///
    /// # Errors
    /// As [`ConnectError`] says.
    pub async fn connect(&self) -> Result<TlsStream<TcpStream>, ConnectError> {
        let address = || self.address.clone();
        let roots = (self.roots)().map_err(|reason| ConnectError::Roots { address: address(), reason })?;
        let material = match &self.credentials {
            None => None,
            Some(reader) => Some(reader.current().ok_or_else(|| ConnectError::NoSvid { address: address() })?),
        };
        let dialled = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(&self.address)).await;
        let stream = dialled
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| ConnectError::Dial { address: address(), source })?;
        let peer: SocketAddr =
            stream.peer_addr().map_err(|source| ConnectError::Dial { address: address(), source })?;
        let client = Client {
            material,
            roots,
            policy: Arc::new(ExpectedIds(vec![self.expected.clone()])),
            alpn: vec![alpn::H2.to_vec()],
            deadline: HANDSHAKE_TIMEOUT,
        };
        match connect(stream, peer.ip(), client, (self.now)()).await {
            Ok(stream) => Ok(stream),
            Err(failed) => {
                if let Some(io) = failed.io {
                    linger(io).await;
                }
                Err(ConnectError::Handshake {
                    address: address(),
                    expected: self.expected.clone(),
                    source: failed.error,
                })
            }
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({} as {})", self.address, self.expected)
    }
}
