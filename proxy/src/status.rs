//! The status service: who this sidecar is and whom it talks to, in plaintext on loopback, and elsewhere over mutual
//! TLS for the identities that an operator named.

mod health;
mod service;
mod wire;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::stream;
use kith_identity::{IdPattern, SpiffeId};
use kith_proto::status::identity_status_server::IdentityStatusServer;
use kith_runtime::{accept, clock::Clock, metrics::Counter, readiness::Readiness};
use kith_tls::{
    CredentialsReader, HandshakeError, PeerPolicy, Rejection,
    grpc::{Acceptor, Security},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;
use tracing::info;

use crate::{identity::IdentityState, outcome::Connections};

use self::{health::Health, service::Service};

/// The names under which the services are listed and asked for.
const STATUS_SERVICE: &str = "kith.status.v1alpha1.IdentityStatus";
const HEALTH_SERVICE: &str = "grpc.health.v1.Health";

/// No request of anybody's is larger.
const LARGEST_REQUEST: usize = 64 * 1024;
/// A client that has vanished without a word must not hold its connection for ever.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long answers under way may take once the process ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Who may ask from elsewhere.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Status")]
#[group(id = "status")]
pub struct Config {
    /// SPIFFE IDs that may ask for this sidecar's status from other hosts; '*' stands for one segment of the path, a
    /// last '**' for the rest.
    #[arg(long = "admin-id", env = "KITH_ADMIN_IDS", value_delimiter = ',', value_name = "PATTERN,…")]
    pub admin_ids: Vec<IdPattern>,
}

/// What the answers are made of.
#[derive(Debug, Clone)]
pub struct Sources {
    /// What to present to clients from elsewhere, and whom to believe.
    pub credentials: CredentialsReader,
    /// Who we are.
    pub identity: watch::Receiver<IdentityState>,
    /// Whom we talk to.
    pub connections: Connections,
    /// What the health service says.
    pub readiness: Readiness,
    /// The time of day.
    pub clock: Clock,
    /// Failures to accept.
    pub accept_errors: Counter,
}

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The descriptors of our own contracts are broken.
    #[error("gRPC reflection has no descriptors")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server failed.
    #[error("the status service failed")]
    Server(#[from] tonic::transport::Error),
}

/// Answers on these sockets until the shutdown.
///
/// # Errors
/// When the server can't be set up or fails.
pub async fn serve(
    listeners: Vec<TcpListener>,
    config: Config,
    sources: Sources,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let clock = sources.clock.clone();
    let acceptor = Acceptor {
        credentials: sources.credentials.clone(),
        security: Security::PlainOnLoopback(Arc::new(Admins(config.admin_ids))),
        now: Arc::new(move || clock.now()),
        on_failure: Arc::new(log_refusal),
    };
    let errors = sources.accept_errors.clone();
    let incoming =
        stream::select_all(listeners.into_iter().map(|listener| Box::pin(accept::incoming(listener, errors.clone()))));
    let health = Health::new(sources.readiness.clone(), shutdown.clone());
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .add_service(
            IdentityStatusServer::new(Service::new(sources, shutdown.clone()))
                .max_decoding_message_size(LARGEST_REQUEST),
        )
        .add_service(HealthServer::new(health).max_decoding_message_size(LARGEST_REQUEST))
        .add_service(reflection().build_v1()?.max_decoding_message_size(LARGEST_REQUEST))
        // Older clients, grpcurl among them, ask for this one.
        .add_service(reflection().build_v1alpha()?.max_decoding_message_size(LARGEST_REQUEST))
        .serve_with_incoming_shutdown(acceptor.accept(incoming), shutdown.clone().cancelled_owned());
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        ended = server => Ok(ended?),
        () = patience => Ok(()),
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(kith_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(STATUS_SERVICE)
        .with_service_name(HEALTH_SERVICE)
}

fn log_refusal(client: SocketAddr, error: &HandshakeError) {
    info!(%client, reason = error.as_str(), %error, "Refused a client of the status service");
}

/// The identities that may ask from elsewhere; nobody when none is named.
#[derive(Debug)]
struct Admins(Vec<IdPattern>);

impl PeerPolicy for Admins {
    fn check(&self, peer: &SpiffeId) -> Result<(), Rejection> {
        if self.0.iter().any(|pattern| pattern.matches(peer)) {
            Ok(())
        } else {
            Err(Rejection::NotAllowed { rule: "admin-id".into() })
        }
    }
}
