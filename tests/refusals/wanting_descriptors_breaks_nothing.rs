use std::{net::TcpStream, time::Duration};

use kith_tests::{
    Sidecar,
    tcp::{self, Server},
    wait_until,
};

use crate::mesh::{Mesh, Settings, assert_echo, open};

const PORT: u16 = 7001;
const LIMIT: u64 = 128;
/// More than the limit allows, and than the listening socket's queue needs to hold.
const CROWD: usize = 400;
const PATIENCE: Duration = Duration::from_secs(30);
/// How the accept loop says it.
const EXHAUSTED: &str = "Can't accept connections for now";

#[test]
fn open_connections_go_on_without_descriptors_and_accepting_resumes_with_them() {
    // Silent clients stay as long as the test wants them to.
    let mesh = Mesh::start(&Settings { args: &["--hello-timeout", "120s"], open_files: Some(LIMIT) });
    let at = mesh.web.at(PORT);
    let _application = Server::echo(&mesh.web, at);
    let standing: Vec<_> = (0..10).map(|_| tcp::connect(&mesh.front, at).unwrap()).collect();
    all_echo(&standing, "before the shortage");

    // The inbound side runs out of them by strangers that say nothing.
    let strangers: Vec<_> = (0..CROWD).map(|_| tcp::connect(&mesh.stranger, at).unwrap()).collect();
    mesh.inbound.process().wait_for_log(EXHAUSTED, PATIENCE);
    all_echo(&standing, "while the inbound sidecar can't accept");
    drop(strangers);
    recovered(&mesh, &mesh.inbound);
    all_echo(&standing, "after the inbound sidecar could not accept");

    // The outbound side by its own application. Some are accepted by it and can't be dialled: a reset.
    let many: Vec<TcpStream> = (0..CROWD).filter_map(|_| tcp::connect(&mesh.front, at).ok()).collect();
    mesh.outbound.process().wait_for_log(EXHAUSTED, PATIENCE);
    all_echo(&standing, "while the outbound sidecar can't accept");
    drop(many);
    recovered(&mesh, &mesh.outbound);
    all_echo(&standing, "after the outbound sidecar could not accept");

    drop(standing);
    wait_until("every connection is over", PATIENCE, || {
        open(&mesh.outbound, "outbound") == 0.0 && open(&mesh.inbound, "inbound") == 0.0
    });
}

fn all_echo(standing: &[TcpStream], when: &str) {
    for stream in standing {
        assert_echo(stream, when.as_bytes(), when);
    }
}

/// New connections work, it says that it is ready, and the shortage was counted.
fn recovered(mesh: &Mesh, sidecar: &Sidecar) {
    let name = sidecar.pod().name();
    wait_until(&format!("the admin port of {name} answers again"), PATIENCE, || sidecar.readiness().0);
    assert!(sidecar.process().is_running(), "{name} lives");
    assert!(sidecar.metric("kith_accept_errors_total") > 0.0, "{name} counts what it could not accept");
    let new = tcp::connect(&mesh.front, mesh.web.at(PORT)).unwrap();
    assert_echo(&new, b"a new one", &format!("a new connection after the shortage in {name}"));
}
