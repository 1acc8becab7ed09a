//! The composition of a running sidecar: bind early, serve when certified, drain at the end.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use kith_runtime::{
    accept, admin,
    clock::Clock,
    drain::{self, Drain},
    exit::Failure,
    listen::{self, Bound, Reach},
    metrics::Registry,
    process,
    readiness::Readiness,
    signals::Termination,
    telemetry,
};
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

use crate::{
    access_log::AccessLog,
    config::{AccessLogTarget, RunConfig, SvidConfig},
    discovery::StaticFile,
    identity, inbound,
    load::EndpointLoad,
    metrics::Metrics,
    outbound,
    outcome::Connections,
    self_check::{self, SelfCheck},
    sidecar::Sidecar,
    status, svid, termination,
    transport::addrs::OwnAddresses,
};

/// Runs the sidecar until it is told to end and has drained.
///
/// # Errors
/// When a setting is wrong, or a port is taken.
pub fn run(config: RunConfig) -> Result<(), Failure> {
    telemetry::init(&config.logs.log, config.logs.log_format).map_err(Failure::settings)?;
    config.capture.check().map_err(Failure::settings)?;
    config.identity.check().map_err(Failure::settings)?;
    process::harden().map_err(Failure::runtime)?;
    block_on(serve(config))
}

/// Obtains an SVID, writes it to files and keeps it renewed until told to end.
///
/// # Errors
/// When a setting is wrong, or the files can't be written.
pub fn svid(config: SvidConfig) -> Result<(), Failure> {
    telemetry::init(&config.logs.log, config.logs.log_format).map_err(Failure::settings)?;
    process::harden().map_err(Failure::runtime)?;
    block_on(svid::run(config.svid))
}

/// Runs a command on a runtime of its own.
///
/// # Errors
/// What the command yields.
pub fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::runtime)?;
    let result = runtime.block_on(command);
    // A name server that does not answer holds up nobody's end.
    runtime.shutdown_background();
    result
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Every listening socket of the process.
struct Ports {
    outbound: Bound,
    inbound: Bound,
    admin: Bound,
    status: Bound,
}

impl Ports {
    fn bind(config: &RunConfig) -> Result<Self, Failure> {
        let bind = |port, reach| listen::bind_all(port, reach).map_err(Failure::runtime);
        Ok(Self {
            outbound: bind(config.capture.outbound_port, Reach::LoopbackOnly)?,
            inbound: bind(config.capture.inbound_port, Reach::Any)?,
            admin: bind(config.capture.admin_port, Reach::Any)?,
            status: bind(config.capture.status_port, Reach::Any)?,
        })
    }

    fn numbers(&self) -> BTreeSet<u16> {
        let all = [&self.outbound, &self.inbound, &self.admin, &self.status];
        all.into_iter().flat_map(|bound| &bound.addresses).map(SocketAddr::port).collect()
    }
}

async fn serve(config: RunConfig) -> Result<(), Failure> {
    let mut termination = Termination::catch().map_err(Failure::runtime)?;
    let ports = Ports::bind(&config)?;
    let (own_ports, drain_bound) = (ports.numbers(), config.drain_bound);
    let app = App::start(config, ports)?;
    info!(version = VERSION, "The sidecar accepts connections");

    let signal = termination.requested().await;
    info!(signal, "Asked to end");
    termination::drain(&app.drain, &app.readiness, &own_ports, drain_bound).await;
    app.end().await;
    Ok(())
}

/// A sidecar that serves.
struct App {
    sidecar: Arc<Sidecar>,
    readiness: Readiness,
    drain: Drain,
    log: AccessLog,
    /// Cancelled when nothing is served any more.
    end: CancellationToken,
    servers: TaskTracker,
    handlers: TaskTracker,
}

impl App {
    fn start(config: RunConfig, ports: Ports) -> Result<Self, Failure> {
        let (clock, readiness, end) = (Clock::system(), Readiness::new(), CancellationToken::new());
        let mut registry = Registry::new();
        let metrics = Metrics::register(&mut registry);
        let (drain, draining) = drain::channel();
        let log = access_log(config.access_log);
        let own = OwnAddresses::default();
        own.refresh();
        let gate = readiness.gate("mesh", "the mesh file has not been read yet");
        let trust_domain = config.identity.trust_domain.clone();
        let (file, discovery) = StaticFile::new(config.mesh_file, trust_domain, own.clone(), metrics.clone(), gate);
        let file = read_first(file)?;
        let surroundings = identity::Surroundings {
            clock: clock.clone(),
            metrics: identity::Metrics::register(&mut registry),
            gate: readiness.gate("svid", "no SVID yet"),
            shutdown: end.clone(),
            version: VERSION,
        };
        let identity = identity::start(config.identity, surroundings).map_err(Failure::settings)?;
        let sidecar = Arc::new(Sidecar {
            credentials: identity.credentials.clone(),
            discovery,
            own,
            load: EndpointLoad::default(),
            connections: Connections::new(
                clock.clone(),
                draining,
                vec![Box::new(metrics.clone()), Box::new(log.clone())],
            ),
            metrics: metrics.clone(),
            self_check: SelfCheck::new(config.capture.self_check_port),
            settings: config.connections,
            patience: config.patience,
            transport: config.transport,
            capture_ports: [config.capture.outbound_port, config.capture.inbound_port],
            clock: clock.clone(),
            abort: CancellationToken::new(),
        });
        let sources = status::Sources {
            credentials: identity.credentials,
            identity: identity.state,
            connections: sidecar.connections.clone(),
            readiness: readiness.clone(),
            clock,
            accept_errors: metrics.accept_errors.clone(),
        };
        let (servers, handlers) = (TaskTracker::new(), TaskTracker::new());
        let app = Self { sidecar, readiness, drain, log, end, servers, handlers };
        app.serve_admin(ports.admin, registry);
        app.servers.spawn(log_end(status::serve(ports.status.listeners, config.status, sources, app.end.clone())));
        app.probe_capture(&ports.outbound);
        tokio::spawn(file.keep_current());
        app.accept(ports.outbound, outbound::handle);
        app.accept(ports.inbound, inbound::handle);
        Ok(app)
    }

    fn serve_admin(&self, bound: Bound, registry: Registry) {
        let errors = self.sidecar.metrics.accept_errors.clone();
        let end = self.end.clone().cancelled_owned();
        self.servers.spawn(admin::serve(bound.listeners, self.readiness.clone(), Arc::new(registry), errors, end));
    }

    fn probe_capture(&self, outbound: &Bound) {
        let gate = self.readiness.gate("capture", "capture has not been probed yet");
        let families = self_check::families(&outbound.addresses);
        tokio::spawn(self.sidecar.self_check.clone().run(families, gate, self.sidecar.metrics.clone()));
    }

    /// The accept loops of one direction. Both directions are served until the very end, draining or not.
    fn accept<H, F>(&self, bound: Bound, handle: H)
    where
        H: Fn(Arc<Sidecar>, TcpStream, SocketAddr) -> F + Copy + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        for listener in bound.listeners {
            let (sidecar, handlers) = (Arc::clone(&self.sidecar), self.handlers.clone());
            let (errors, end) = (sidecar.metrics.accept_errors.clone(), self.end.clone().cancelled_owned());
            tokio::spawn(accept::serve(listener, errors, end, move |stream, client| {
                handlers.spawn(handle(Arc::clone(&sidecar), stream, client));
            }));
        }
    }

    /// Resets what is still open, and waits until every story is told.
    async fn end(self) {
        self.end.cancel();
        self.sidecar.abort.cancel();
        self.handlers.close();
        self.servers.close();
        self.handlers.wait().await;
        self.servers.wait().await;
        self.log.finish();
    }
}

fn access_log(target: AccessLogTarget) -> AccessLog {
    match target {
        AccessLogTarget::Stdout => AccessLog::to(std::io::stdout()),
        AccessLogTarget::Off => AccessLog::off(),
    }
}

fn read_first(mut file: StaticFile) -> Result<StaticFile, Failure> {
    match file.read_first() {
        // Without mesh networks nothing would be ours: that is a setting, and no later edit should be waited for.
        Err(error) if error.is_about_mesh_networks() => Err(Failure::settings(error)),
        // Else a file that is not there or wrong makes us not ready, and is read again.
        _ => Ok(file),
    }
}

/// The sidecar's job is connections: it does not end because nobody can ask about them any more.
async fn log_end(status: impl Future<Output = Result<(), status::ServeError>>) {
    if let Err(error) = status.await {
        error!(%error, "The status service has ended; connections go on");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn work_that_does_not_end_holds_up_no_ones_end() {
        let began = Instant::now();
        let command = async {
            tokio::task::spawn_blocking(|| thread::sleep(Duration::from_secs(20)));
            tokio::task::yield_now().await;
            Ok(())
        };
        block_on(command).unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
