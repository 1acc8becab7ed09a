use std::{
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, ServerConfig,
    client::{ResolvesClientCert, Resumption},
    pki_types::ServerName,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

use crate::{
    HandshakeError, Material, PeerPolicy, Rejection, Roots, TlsStream, alpn, authorize::check_validity,
    provider::provider, verifier::PeerVerifier,
};

/// How to take one connection.
#[derive(Debug, Clone)]
pub struct Server {
    /// What to present, and whom to believe.
    pub material: Arc<Material>,
    /// Who may come in; `None` asks for no certificate at all.
    pub policy: Option<Arc<dyn PeerPolicy>>,
    /// ALPN protocol IDs to choose from, in our order. A client that offers none of them gets none.
    pub alpn: Vec<Vec<u8>>,
    /// How long the whole handshake may take, the wait for its first byte included.
    pub deadline: Duration,
}

/// How to make one connection.
#[derive(Debug, Clone)]
pub struct Client {
    /// What to present; `None` presents nothing.
    pub material: Option<Arc<Material>>,
    /// Whom to believe.
    pub roots: Roots,
    /// Who may answer.
    pub policy: Arc<dyn PeerPolicy>,
    /// ALPN protocol IDs to offer, in order.
    pub alpn: Vec<Vec<u8>>,
    /// How long the handshake may take.
    pub deadline: Duration,
}

/// A failed handshake, with the connection if it still stands: hand that to [`crate::linger()`], so that the alert
/// which was sent on it arrives.
#[derive(Debug)]
pub struct Failed<IO> {
    /// Why.
    pub error: HandshakeError,
    /// What is left.
    pub io: Option<IO>,
}

impl<IO> Failed<IO> {
    fn without_io(error: HandshakeError) -> Self {
        Self { error, io: None }
    }
}

/// Takes one connection: reads the ClientHello, chooses the ALPN for it, and proves the client.
///
/// # Errors
/// When the client is refused, breaks the protocol or is too slow, or when our own SVID has expired.
pub async fn accept<IO>(io: IO, server: Server, now: SystemTime) -> Result<TlsStream<IO>, Failed<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    if let Err(error) = check_own_svid(&server.material, now) {
        return Err(Failed { error, io: Some(io) });
    }
    let deadline = server.deadline;
    let handshake = accept_in_time(io, server, now);
    timeout(deadline, handshake).await.unwrap_or_else(|_| Err(Failed::without_io(HandshakeError::Timeout)))
}

async fn accept_in_time<IO>(io: IO, server: Server, now: SystemTime) -> Result<TlsStream<IO>, Failed<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io);
    let start = match (&mut acceptor).await {
        Ok(start) => start,
        Err(error) => return Err(Failed { error: HandshakeError::from_io(&error), io: acceptor.take_io() }),
    };
    let verifier = server.policy.map(|policy| {
        let roots = Roots::Trust(Arc::clone(server.material.trust()));
        Arc::new(PeerVerifier::new(roots, policy, now))
    });
    let offered: Vec<&[u8]> = start.client_hello().alpn().into_iter().flatten().collect();
    let chosen = alpn::choose(&offered, &server.alpn).map(<[u8]>::to_vec);
    let config = match server_config(&server.material, verifier.clone(), chosen) {
        Ok(config) => config,
        Err(error) => return Err(Failed { error: HandshakeError::Protocol(error.to_string()), io: Some(start.io) }),
    };
    match start.into_stream(Arc::new(config)).into_fallible().await {
        Ok(stream) => finish(stream.into(), verifier.as_deref()),
        Err((error, io)) => Err(Failed { error: explain(&error, verifier.as_deref()), io: Some(io) }),
    }
}

/// Makes one connection to a server at this address and proves it.
///
/// # Errors
/// When the server is refused, refuses us, breaks the protocol or is too slow, or when our own SVID has expired.
pub async fn connect<IO>(io: IO, address: IpAddr, client: Client, now: SystemTime) -> Result<TlsStream<IO>, Failed<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    if let Some(Err(error)) = client.material.as_ref().map(|material| check_own_svid(material, now)) {
        return Err(Failed { error, io: Some(io) });
    }
    let verifier = Arc::new(PeerVerifier::new(client.roots, client.policy, now));
    let config = match client_config(client.material.as_deref(), Arc::clone(&verifier), client.alpn) {
        Ok(config) => config,
        Err(error) => return Err(Failed { error: HandshakeError::Protocol(error.to_string()), io: Some(io) }),
    };
    // An IP address as the name: SPIFFE proves peers by ID, and no name leaks in an SNI.
    let name = ServerName::IpAddress(address.into());
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, io).into_fallible();
    match timeout(client.deadline, handshake).await {
        Err(_) => Err(Failed::without_io(HandshakeError::Timeout)),
        Ok(Ok(stream)) => finish(stream.into(), Some(&verifier)),
        Ok(Err((error, io))) => Err(Failed { error: explain(&error, Some(&verifier)), io: Some(io) }),
    }
}

fn check_own_svid(material: &Material, now: SystemTime) -> Result<(), HandshakeError> {
    match check_validity(material.svid().leaf(), now) {
        Err(Rejection::Expired) => Err(HandshakeError::OwnSvidExpired),
        // A clock that stepped back a little must not cut off a workload that the CA has just certified.
        _ => Ok(()),
    }
}

fn finish<IO>(
    stream: tokio_rustls::TlsStream<IO>,
    verifier: Option<&PeerVerifier>,
) -> Result<TlsStream<IO>, Failed<IO>> {
    let Some(verifier) = verifier else {
        return Ok(TlsStream::new(stream, None));
    };
    let verdict = verifier.verdict().unwrap_or(Err(Rejection::NoCertificate));
    let peer = verdict.and_then(|peer| verifier.authorize_again(&peer).map(|()| peer));
    match peer {
        Ok(peer) => Ok(TlsStream::new(stream, Some(peer))),
        Err(rejection) => Err(Failed::without_io(rejection.into())),
    }
}

fn explain(error: &io::Error, verifier: Option<&PeerVerifier>) -> HandshakeError {
    match verifier.and_then(PeerVerifier::verdict) {
        Some(Err(rejection)) => rejection.into(),
        _ => HandshakeError::from_io(error),
    }
}

/// Presents the one SVID to whoever asks.
#[derive(Debug)]
struct OneSvid(Arc<CertifiedKey>);

impl ResolvesServerCert for OneSvid {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl ResolvesClientCert for OneSvid {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn server_config(
    material: &Material,
    verifier: Option<Arc<PeerVerifier>>,
    alpn: Option<Vec<u8>>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(OneSvid(Arc::clone(material.certified_key()))));
    config.alpn_protocols = alpn.into_iter().collect();
    // Resumption is off: neither a session to remember nor a ticket to hand out.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(
    material: Option<&Material>,
    verifier: Arc<PeerVerifier>,
    alpn: Vec<Vec<u8>>,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match material {
        Some(material) => builder.with_client_cert_resolver(Arc::new(OneSvid(Arc::clone(material.certified_key())))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}
