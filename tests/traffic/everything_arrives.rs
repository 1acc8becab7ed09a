use std::collections::BTreeSet;

use kith_tests::{Agent, MeshFile, Net, Pod, Sidecar};

use crate::applications::{Sizes, known_plaintexts, run};

const CAPTURED: Sizes = Sizes { file: 64 << 20, answer: 8 << 20, flood: 8 << 20, scale: 1 };

struct Mesh {
    agent: Agent,
    client: Pod,
    server: Pod,
    sidecars: [Sidecar; 2],
}

fn mesh(net: &Net) -> Mesh {
    let (control, client, server) = (net.pod("control"), net.pod("client"), net.pod("server"));
    let agent = Agent::start(&control, &[]);
    let mesh = MeshFile::new(net).meshed(&client, "/ns/shop/sa/front").meshed(&server, "/ns/shop/sa/web");
    let sidecars = [(&client, "/ns/shop/sa/front"), (&server, "/ns/shop/sa/web")]
        .map(|(pod, path)| Sidecar::of(pod, &agent, mesh.path(), path).ready());
    Mesh { agent, client, server, sidecars }
}

#[test]
fn a_gibibyte_a_database_and_every_kind_of_end_pass_two_sidecars() {
    let net = Net::new();
    let mesh = mesh(&net);
    let sizes = Sizes { file: 1 << 30, answer: 100 << 20, flood: 64 << 20, scale: 1 };
    run(&mesh.client, &mesh.server, sizes);
    for sidecar in &mesh.sidecars {
        assert_eq!(sidecar.metric("kith_truncations_total{direction=\"inbound\"}"), 0.0);
        assert_eq!(sidecar.metric("kith_truncations_total{direction=\"outbound\"}"), 0.0);
    }
}

#[test]
fn the_wire_holds_nothing_but_tls_13() {
    let net = Net::new();
    let capture = net.capture();
    // Bootstrap, issuance and trust bundles are on the wire too.
    let mesh = mesh(&net);
    let moved = run(&mesh.client, &mesh.server, CAPTURED);
    let captured = capture.stop();

    assert!(captured.assert_only_tls13() > 20, "the connections are there");
    let application: BTreeSet<u16> = [80, 5432, 7001, 7002, 7003, 7004, 7005, 7006].into();
    let control: BTreeSet<u16> = [15011, 15012].into();
    let ports = captured.ports();
    assert!(ports.is_subset(&(&application | &control)), "unexpected ports: {ports:?}");
    assert!(ports.is_superset(&application), "every application was on the wire: {ports:?}");
    captured.assert_nothing_beyond_tcp();
    for plaintext in known_plaintexts() {
        assert!(!captured.contains(&plaintext), "on the wire: {}", String::from_utf8_lossy(&plaintext));
    }
    assert!(captured.payload_len() > moved, "the TLS bytes are at least the payload");
    drop(mesh.agent);
}

#[test]
fn without_sidecars_the_same_run_is_readable_on_the_wire() {
    let net = Net::new();
    let (client, server) = (net.pod("client"), net.pod("server"));
    let capture = net.capture();
    run(&client, &server, CAPTURED);
    let captured = capture.stop();
    for plaintext in known_plaintexts() {
        assert!(captured.contains(&plaintext), "not on the wire: {}", String::from_utf8_lossy(&plaintext));
    }
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| captured.assert_only_tls13()));
    assert!(read.is_err(), "plaintext must not pass for TLS");
}
