//! The order in which the agent starts.

use std::{net::SocketAddr, sync::Arc};

use kith_identity::TrustDomain;
use kith_runtime::{
    admin as admin_http,
    clock::Clock,
    drain,
    listen::{self, BACKLOG, BindError, Bound, Reach},
    metrics::Registry,
    readiness::{Gate, Readiness},
};
use kith_tls::Credentials;
use rustix::fs::Mode;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{
    Addresses, Agent,
    state_dir::{StateDir, StateDirError},
};
use crate::{
    admin::{self, socket},
    authority::{Authorities, AuthorityError, rotator},
    bundles::{BundlePublisher, Bundles},
    config::{Config, Listen, SettingsError},
    issuance::{self, Issuance, Port},
    metrics::Metrics,
    ports::{self, Health},
    serving::Serving,
    status,
    store::{OpenError, SqliteStore, Store, StoreError},
    upkeep,
};

/// Why the agent does not start. Nothing was replaced.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] Reason);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Reason {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Socket(#[from] socket::SocketError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    OpenStore(#[from] OpenError),
    #[error("this state directory belongs to the trust domain {owner}, not {asked}; give it its own --state-dir")]
    TrustDomain { owner: TrustDomain, asked: TrustDomain },
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Reflection(#[from] ports::ReflectionError),
}

impl StartError {
    /// Whether only other settings can mend it.
    #[must_use]
    pub fn is_settings(&self) -> bool {
        matches!(self.0, Reason::Settings(_))
    }
}

impl From<SettingsError> for StartError {
    fn from(error: SettingsError) -> Self {
        Self(error.into())
    }
}

/// What several parts of the agent hold together.
#[derive(Clone)]
struct Shared {
    authorities: Arc<Authorities>,
    store: Arc<dyn Store>,
    bundles: Bundles,
    clock: Clock,
    metrics: Metrics,
}

pub(super) async fn start(config: Config, clock: Clock) -> Result<Agent, Reason> {
    // Whatever we make from now on is for our own eyes: keys, the store, the socket.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let state_dir = StateDir::open(&config.state_dir)?;
    let (attest, mutual, admin_bound) =
        (bind(config.listeners.attest)?, bind(config.listeners.mutual)?, bind(config.listeners.admin)?);
    let mut registry = Registry::new();
    let metrics = Metrics::register(&mut registry);
    let readiness = Readiness::new();
    let gates = Gates::new(&readiness);
    let (shared, publisher) = load(&config, &state_dir, &clock, metrics, gates.store).await?;
    let (socket_listener, socket_file) = socket::listen(&config.listeners.socket)?;

    let (drain, watch) = drain::channel();
    let credentials = Credentials::default();
    let reader = credentials.reader();
    let mut health = Health::default();
    let routes = Routes::new(&config, &shared, &watch, &mut health)?;
    let accept_errors = shared.metrics.accept_errors.clone();
    let tls = |bound: Bound, routes, mutual| {
        let acceptor = ports::acceptor(reader.clone(), mutual, &clock);
        ports::serve_tls(bound.listeners, routes, acceptor, clock.clone(), accept_errors.clone(), watch.clone())
    };
    let addresses = Addresses {
        attest: attest.addresses.clone(),
        mutual: mutual.addresses.clone(),
        admin: admin_bound.addresses,
        socket: config.listeners.socket.clone(),
    };
    let mut servers = JoinSet::new();
    servers.spawn(report("attestation", tls(attest, routes.attest, false)));
    servers.spawn(report("mTLS", tls(mutual, routes.mutual, true)));
    servers.spawn(report("admin socket", ports::serve_socket(socket_listener, routes.socket, watch.clone())));

    let mut background = JoinSet::new();
    background.spawn(health.follow(readiness.clone()));
    let Shared { authorities, store, bundles, clock, metrics } = shared;
    background.spawn(rotator::run(Arc::clone(&authorities), clock.clone(), metrics, gates.authority));
    background.spawn(upkeep::prune(Arc::clone(&store), clock.clone(), config.retention));
    background.spawn(upkeep::probe(Arc::clone(&store), readiness.clone()));
    let serving = Serving {
        config: config.serving,
        authorities,
        bundles,
        store: Arc::clone(&store),
        credentials,
        clock,
        gate: gates.serving,
    };
    background.spawn(async move {
        let _publisher = publisher;
        serving.run().await;
    });

    let admin_end = CancellationToken::new();
    let ended = admin_end.clone().cancelled_owned();
    let admin = admin_http::serve(admin_bound.listeners, readiness.clone(), Arc::new(registry), accept_errors, ended);
    Ok(Agent {
        addresses,
        readiness,
        drain,
        credentials: reader,
        store,
        servers,
        background,
        admin: tokio::spawn(admin),
        admin_end,
        _socket_file: socket_file,
        _state_dir: state_dir,
    })
}

/// Opens the store, then the authorities that it remembers, then the trust bundles that these make.
async fn load(
    config: &Config,
    state_dir: &StateDir,
    clock: &Clock,
    metrics: Metrics,
    gate: Gate,
) -> Result<(Shared, BundlePublisher), Reason> {
    let path = state_dir.path().join("kith.db");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, metrics.store_errors.clone(), gate).await?);
    let owner = store.claim(&config.trust_domain).await?;
    if owner != config.trust_domain {
        return Err(Reason::TrustDomain { owner, asked: config.trust_domain.clone() });
    }
    let known_root = store.known_root().await?;
    let now = clock.now();
    let authorities = Authorities::open(&config.authority, state_dir.path(), known_root.as_deref(), now)?;
    if let (None, Some(root)) = (known_root, authorities.own_root()) {
        store.remember_root(root).await?;
    }
    let bundle = authorities.snapshot().bundle(&config.trust_domain).map_err(AuthorityError::from)?;
    let publisher = BundlePublisher::open(&*store, bundle, now).await?;
    let bundles = publisher.reader();
    let shared = Shared { authorities: Arc::new(authorities), store, bundles, clock: clock.clone(), metrics };
    Ok((shared, publisher))
}

struct Gates {
    store: Gate,
    authority: Gate,
    serving: Gate,
}

impl Gates {
    fn new(readiness: &Readiness) -> Self {
        Self {
            store: readiness.gate("store", "not opened yet"),
            authority: readiness.gate("authority", "not loaded yet"),
            serving: readiness.gate("serving_svid", "not issued yet"),
        }
    }
}

struct Routes {
    attest: tonic::transport::server::Router,
    mutual: tonic::transport::server::Router,
    socket: tonic::transport::server::Router,
}

impl Routes {
    fn new(
        config: &Config,
        shared: &Shared,
        drain: &drain::DrainWatch,
        health: &mut Health,
    ) -> Result<Self, ports::ReflectionError> {
        let Shared { authorities, store, bundles, clock, metrics } = shared.clone();
        let issuance = Arc::new(Issuance::new(
            config.issuance.clone(),
            config.trust_domain.clone(),
            Arc::clone(&authorities),
            Arc::clone(&store),
            clock.clone(),
            metrics.clone(),
        ));
        let ca = |port| issuance::Service {
            port,
            issuance: Arc::clone(&issuance),
            authorities: Arc::clone(&authorities),
            bundles: bundles.clone(),
            store: Arc::clone(&store),
            clock: clock.clone(),
            metrics: metrics.clone(),
            drain: drain.clone(),
        };
        let status = |access| status::Service {
            access,
            store: Arc::clone(&store),
            authorities: Arc::clone(&authorities),
            clock: clock.clone(),
        };
        let admin = admin::Service {
            trust_domain: config.trust_domain.clone(),
            token_workloads: config.issuance.token_workloads,
            authorities: Arc::clone(&authorities),
            bundles: bundles.clone(),
            store: Arc::clone(&store),
            clock: clock.clone(),
        };
        let admins = status::Access::Admins(config.admin_ids.clone());
        Ok(Self {
            attest: ports::attest_routes(ca(Port::Attest), health)?,
            mutual: ports::mutual_routes(ca(Port::Mutual), status(admins), health)?,
            socket: ports::socket_routes(admin, status(status::Access::Everybody), health)?,
        })
    }
}

fn bind(listen: Listen) -> Result<Bound, BindError> {
    match listen {
        Listen::Port(port) => listen::bind_all(port, Reach::Any),
        Listen::Address(address) => {
            let listener = listen::bind(address, BACKLOG)?;
            let bound: SocketAddr = listener.local_addr().map_err(|source| BindError { address, source })?;
            Ok(Bound { listeners: vec![listener], addresses: vec![bound] })
        }
    }
}

async fn report(name: &'static str, server: impl Future<Output = Result<(), tonic::transport::Error>>) {
    if let Err(reason) = server.await {
        error!(%reason, server = name, "A server ended");
    }
}
