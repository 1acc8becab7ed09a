//! The gRPC servers: which services stand on which port, and their limits.

mod health;
mod lifetime;

use std::{io, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kith_proto::{
    ca::{administration_server::AdministrationServer, certificate_authority_server::CertificateAuthorityServer},
    status::mesh_status_server::MeshStatusServer,
};
use kith_runtime::{accept, clock::Clock, drain::DrainWatch, metrics::Counter};
use kith_tls::{
    AnyIdentity, CredentialsReader,
    grpc::{Acceptor, Security},
};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{
    server::NamedService,
    transport::{Server, server::Router},
};
use tracing::debug;

pub(crate) use self::health::Health;
use self::lifetime::WhileCertified;
use crate::{admin, issuance, status};

/// No request of ours is larger.
const LARGEST_REQUEST: usize = 64 * 1024;
const MOST_STREAMS_PER_CONNECTION: u32 = 64;
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long one answer may take; streams are answered at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

type CaServer = CertificateAuthorityServer<issuance::Service>;
type StatusServer = MeshStatusServer<status::Service>;
type AdminServer = AdministrationServer<admin::Service>;

/// The gRPC server can't be put together.
#[derive(Debug, thiserror::Error)]
#[error("gRPC reflection can't be set up: {0}")]
pub(crate) struct ReflectionError(#[from] tonic_reflection::server::Error);

/// What the attestation port serves, and nothing else.
pub(crate) fn attest_routes(ca: issuance::Service, health: &mut Health) -> Result<Router, ReflectionError> {
    let names = [CaServer::NAME];
    with_common(server().add_service(ca_server(ca)), &names, health)
}

/// What the mTLS port serves.
pub(crate) fn mutual_routes(
    ca: issuance::Service,
    status: status::Service,
    health: &mut Health,
) -> Result<Router, ReflectionError> {
    let names = [CaServer::NAME, StatusServer::NAME];
    with_common(server().add_service(ca_server(ca)).add_service(status_server(status)), &names, health)
}

/// What the agent's own socket serves.
pub(crate) fn socket_routes(
    admin: admin::Service,
    status: status::Service,
    health: &mut Health,
) -> Result<Router, ReflectionError> {
    let names = [AdminServer::NAME, StatusServer::NAME];
    let admin = AdminServer::new(admin).max_decoding_message_size(LARGEST_REQUEST);
    with_common(server().add_service(admin).add_service(status_server(status)), &names, health)
}

/// Serves a port over TLS until the drain has begun and what was being answered is.
pub(crate) async fn serve_tls(
    listeners: Vec<TcpListener>,
    routes: Router,
    acceptor: Acceptor,
    clock: Clock,
    accept_errors: Counter,
    drain: DrainWatch,
) -> Result<(), tonic::transport::Error> {
    let incoming = listeners.into_iter().map(|listener| accept::incoming(listener, accept_errors.clone()).boxed());
    let incoming = stream::select_all(incoming).take_until(drain.draining());
    let connections = acceptor.accept(incoming).map_ok(move |io| WhileCertified::new(io, &clock));
    routes.serve_with_incoming_shutdown(connections, drain.draining()).await
}

/// Serves the agent's own socket likewise.
pub(crate) async fn serve_socket(
    listener: UnixListener,
    routes: Router,
    drain: DrainWatch,
) -> Result<(), tonic::transport::Error> {
    let incoming = UnixListenerStream::new(listener).filter_map(|accepted: io::Result<_>| async move {
        match accepted {
            Ok(stream) => Some(Ok::<_, io::Error>(stream)),
            Err(error) => {
                debug!(%error, "A connection to the admin socket could not be accepted");
                // Want of descriptors passes; without a pause this would spin until then.
                tokio::time::sleep(Duration::from_millis(50)).await;
                None
            }
        }
    });
    routes.serve_with_incoming_shutdown(incoming.boxed(), drain.draining()).await
}

/// How a port takes its connections: with our serving SVID, asking for a client certificate or not.
pub(crate) fn acceptor(credentials: CredentialsReader, mutual: bool, clock: &Clock) -> Acceptor {
    let clock = clock.clone();
    Acceptor {
        credentials,
        security: if mutual { Security::Mutual(Arc::new(AnyIdentity)) } else { Security::ServerOnly },
        now: Arc::new(move || clock.now()),
        on_failure: Arc::new(|peer, error| debug!(%peer, reason = error.as_str(), %error, "A handshake failed")),
    }
}

fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(Some(MOST_STREAMS_PER_CONNECTION))
        .http2_max_header_list_size(Some(16 * 1024))
        .timeout(REQUEST_TIMEOUT)
}

fn ca_server(service: issuance::Service) -> CaServer {
    CaServer::new(service).max_decoding_message_size(LARGEST_REQUEST)
}

fn status_server(service: status::Service) -> StatusServer {
    StatusServer::new(service).max_decoding_message_size(LARGEST_REQUEST)
}

fn with_common(router: Router, names: &[&'static str], health: &mut Health) -> Result<Router, ReflectionError> {
    let reflection = || {
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(kith_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        for name in names {
            builder = builder.with_service_name(*name);
        }
        builder
    };
    Ok(router
        .add_service(health.service(names).max_decoding_message_size(LARGEST_REQUEST))
        .add_service(reflection().build_v1()?.max_decoding_message_size(LARGEST_REQUEST))
        .add_service(reflection().build_v1alpha()?.max_decoding_message_size(LARGEST_REQUEST)))
}
