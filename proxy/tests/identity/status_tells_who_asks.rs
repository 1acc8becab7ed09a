use std::{net::SocketAddr, process::Output, sync::Arc};

use futures_util::StreamExt as _;
use kith_identity::SpiffeId;
use kith_proto::status::{
    GetOwnIdentityRequest, ListConnectionsRequest, WatchIdentityRequest, connection::Direction,
    identity_status_client::IdentityStatusClient,
};
use kith_proxy::{
    metrics::Metrics,
    outcome::{self, Connections},
    status::{self, Sources},
};
use kith_runtime::{
    clock::Clock,
    drain,
    listen::{self, Reach},
    metrics::Registry,
    readiness::Gate,
};
use kith_tls::{Credentials, Revocations, Roots, Trust, grpc::Connector};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{
    ca::{Ca, WORKLOAD},
    workload::{Setup, Workload},
};

const ADMIN: &str = "spiffe://example.org/ops/alice";

/// A sidecar as far as its status goes.
struct Sidecar {
    workload: Workload,
    connections: Connections,
    mesh: Gate,
    port: u16,
    _end: tokio_util::sync::DropGuard,
    _drain: drain::Drain,
}

impl Sidecar {
    fn start(setup: &Setup) -> Self {
        let clock = Clock::system();
        let workload = Workload::start(setup, &clock);
        let mesh = workload.readiness.gate("mesh", "not read yet");
        let (drain, watch) = drain::channel();
        let metrics = Metrics::register(&mut Registry::new());
        let connections = Connections::new(clock.clone(), watch, vec![Box::new(metrics.clone())]);
        let bound = listen::bind_all(0, Reach::Any).unwrap();
        let port = bound.addresses[0].port();
        let sources = Sources {
            credentials: workload.identity.credentials.clone(),
            identity: workload.identity.state.clone(),
            connections: connections.clone(),
            readiness: workload.readiness.clone(),
            clock,
            accept_errors: metrics.accept_errors.clone(),
        };
        let config = status::Config { admin_ids: vec!["spiffe://example.org/ops/*".parse().unwrap()] };
        let end = CancellationToken::new();
        tokio::spawn(status::serve(bound.listeners, config, sources, end.clone()));
        Self { workload, connections, mesh, port, _end: end.drop_guard(), _drain: drain }
    }

    async fn dial(&self) -> Channel {
        Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port)).unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> IdentityStatusClient<Channel> {
        IdentityStatusClient::new(self.dial().await)
    }

    /// The program itself, asking.
    async fn ask(&self, words: &[&str]) -> Output {
        let address = format!("127.0.0.1:{}", self.port);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kith-proxy"));
        command.arg("status").args(["--address", &address]).args(words);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}

#[tokio::test]
async fn the_identity_is_told_at_once_and_at_every_change() {
    let ca = Ca::running(&Clock::system());
    ca.set_lifetime(std::time::Duration::from_secs(4));
    let setup = Setup::of(&ca).token_file();
    let mut sidecar = Sidecar::start(&setup);
    sidecar.workload.failing("join_token_unreadable").await;
    let mut client = sidecar.client().await;
    let status = client.get_identity(GetOwnIdentityRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("no SVID yet: the join token file"), "{}", status.message());

    let mut changes = client.watch_identity(WatchIdentityRequest {}).await.unwrap().into_inner();
    setup.write("token", &ca.token("t"));
    let first = changes.next().await.unwrap().unwrap();
    assert_eq!((first.spiffe_id.as_str(), first.attestation.as_str()), (WORKLOAD, "join_token"));
    assert_eq!(first.serial, ca.issued()[0].serial);
    assert_eq!((first.rotations, first.last_error, first.last_rotation), (Some(0), None, None));
    assert!(!first.holder.unwrap().host.is_empty());
    let second = changes.next().await.unwrap().unwrap();
    assert_eq!((second.rotations, second.attestation.as_str()), (Some(1), "current_svid"));
    assert!(second.last_rotation.is_some() && second.next_rotation.is_some());
}

#[tokio::test]
async fn connections_are_told_open_and_closed() {
    let ca = Ca::running(&Clock::system());
    let setup = Setup::of(&ca).token_file();
    let sidecar = Sidecar::start(&setup);
    let client_address: SocketAddr = "10.0.0.1:4000".parse().unwrap();
    let open = sidecar.connections.open(outcome::Direction::Inbound, client_address);
    let closed = sidecar.connections.open(outcome::Direction::Outbound, client_address);
    closed.note(|details| details.plaintext_reason = Some("outside_mesh"));
    closed.end(outcome::Reason::NO_ENDPOINT);

    let mut client = sidecar.client().await;
    let mut list = async |include_closed| {
        client.list_connections(ListConnectionsRequest { include_closed }).await.unwrap().into_inner().connections
    };
    let now = list(false).await;
    assert_eq!(now.len(), 1);
    assert_eq!((now[0].direction(), now[0].client_address.as_str()), (Direction::Inbound, "10.0.0.1:4000"));
    assert_eq!((now[0].outcome.as_str(), now[0].closed), ("", None));
    let all = list(true).await;
    assert_eq!(all.iter().map(|one| one.direction()).collect::<Vec<_>>(), [Direction::Inbound, Direction::Outbound]);
    assert_eq!((all[1].outcome.as_str(), all[1].reason.as_str()), ("failed", "no_endpoint"));
    assert_eq!(all[1].plaintext_reason, "outside_mesh");
    drop(open);
}

#[tokio::test]
async fn health_is_readiness_and_reflection_lists_what_is_there() {
    let ca = Ca::running(&Clock::system());
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t"));
    let sidecar = Sidecar::start(&setup);
    sidecar.mesh.ready();
    sidecar.workload.until_ready().await;
    let mut health = HealthClient::new(sidecar.dial().await);
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health.check(request).await.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
    };
    assert_eq!(check("").await, Ok(ServingStatus::Serving));
    assert_eq!(check("kith.status.v1alpha1.IdentityStatus").await, Ok(ServingStatus::Serving));
    assert_eq!(check("kith.status.v1alpha1.MeshStatus").await, Err(Code::NotFound));
    sidecar.mesh.not_ready("gone");
    assert_eq!(check("").await, Ok(ServingStatus::NotServing));

    let mut watch = HealthClient::new(sidecar.dial().await);
    let mut changes = watch.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(changes.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    sidecar.mesh.ready();
    assert_eq!(changes.next().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let mut reflection = ServerReflectionClient::new(sidecar.dial().await);
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let question = tokio_stream::iter([question]);
    let answer = reflection.server_reflection_info(question).await.unwrap().into_inner().next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert_eq!(names, ["kith.status.v1alpha1.IdentityStatus", "grpc.health.v1.Health"]);
}

#[tokio::test]
async fn off_loopback_only_an_admin_is_answered() {
    let ca = Ca::running(&Clock::system());
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t"));
    let mut sidecar = Sidecar::start(&setup);
    sidecar.workload.certified().await;
    let address = if_addrs::get_if_addrs().unwrap().into_iter().map(|interface| interface.ip());
    let address = address.into_iter().find(|ip| ip.is_ipv4() && !ip.is_loopback()).expect("an address off loopback");
    let ask = async |id: Option<&str>| {
        let credentials = Credentials::default();
        if let Some(id) = id {
            credentials.publish(ca.svid(id), ca.bundles(), Clock::system().now()).unwrap();
        }
        let trust = Arc::new(Trust::new(ca.bundles(), Revocations::default()).unwrap());
        let connector = Connector {
            address: SocketAddr::new(address, sidecar.port).to_string(),
            expected: WORKLOAD.parse::<SpiffeId>().unwrap(),
            roots: Arc::new(move || Ok(Roots::Trust(Arc::clone(&trust)))),
            credentials: id.map(|_| credentials.reader()),
            now: Arc::new(|| Clock::system().now()),
        };
        let mut client = IdentityStatusClient::new(connector.channel());
        client.get_identity(GetOwnIdentityRequest {}).await
    };
    assert_eq!(ask(Some(ADMIN)).await.unwrap().into_inner().spiffe_id, WORKLOAD);
    assert!(ask(Some("spiffe://example.org/ns/shop/sa/web")).await.is_err());
    assert!(ask(None).await.is_err());
    let plain = Endpoint::from_shared(format!("http://{address}:{}", sidecar.port)).unwrap();
    let mut plain = IdentityStatusClient::new(plain.connect_lazy());
    assert!(plain.get_identity(GetOwnIdentityRequest {}).await.is_err());
}

#[tokio::test]
async fn the_status_command_prints_for_people_and_for_programs() {
    let ca = Ca::running(&Clock::system());
    let setup = Setup::of(&ca).token_file();
    let mut sidecar = Sidecar::start(&setup);
    sidecar.workload.failing("join_token_unreadable").await;
    let text = |output: Output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let before = text(sidecar.ask(&[]).await);
    assert!(before.starts_with("no identity: no SVID yet: the join token file"), "{before}");
    let alone = sidecar.ask(&["identity"]).await;
    assert_eq!(alone.status.code(), Some(1), "{alone:?}");

    setup.write("token", &ca.token("t"));
    let serial = sidecar.workload.certified().await;
    let table = text(sidecar.ask(&[]).await);
    for part in [WORKLOAD, &serial, "valid until", "no connections"] {
        assert!(table.contains(part), "{part} is not in {table}");
    }
    let open = sidecar.connections.open(outcome::Direction::Outbound, "10.0.0.1:4000".parse().unwrap());
    let everything: serde_json::Value = serde_json::from_str(&text(sidecar.ask(&["-o", "json"]).await)).unwrap();
    assert_eq!(everything["identity"]["serial"], serial.as_str());
    assert_eq!(everything["connections"][0]["direction"], "outbound");
    let connections = text(sidecar.ask(&["connections", "-o", "json"]).await);
    let connections: serde_json::Value = serde_json::from_str(&connections).unwrap();
    assert_eq!(connections[0]["client_address"], "10.0.0.1:4000");
    drop(open);
}

#[tokio::test]
async fn the_status_command_says_when_nobody_answers() {
    let free = listen::bind_all(0, Reach::LoopbackOnly).unwrap().addresses[0];
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kith-proxy"));
    command.args(["status", "--address", &free.to_string()]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&format!("no sidecar answers at {free}")), "{text}");
    assert!(text.to_lowercase().contains("refused"), "{text}");
}
