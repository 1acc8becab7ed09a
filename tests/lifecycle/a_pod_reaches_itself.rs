use std::{net::SocketAddr, sync::mpsc};

use kith_tests::tcp::{self, Server};
use serde_json::json;

use crate::rig::{Rig, assert_refused_by_reset, echo};

const SERVICES: &str = "
services:
  - name: web
    addresses: [10.96.0.10, \"fd96::10\"]
    ports: [{port: 80, target_port: 7001}, {port: 81, target_port: 7009}]
    endpoints: [{workload: server}]
";

#[test]
fn at_its_own_address_and_at_its_own_service_and_nothing_of_it_leaves() {
    let rig = Rig::new();
    rig.mesh.set_rest(SERVICES);
    let (sidecar, _other) = (rig.web().ready(), rig.front().ready());
    let (told, seen) = mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let greets = move |stream: std::net::TcpStream| {
        told.lock().unwrap().send(stream.peer_addr().unwrap().ip()).unwrap();
        let _ = std::io::copy(&mut &stream, &mut &stream);
        let _ = stream.shutdown(std::net::Shutdown::Write);
    };
    let greets = std::sync::Arc::new(greets);
    let _servers = [rig.server.at(7001), rig.server.at_v6(7001)].map(|on| {
        let greets = std::sync::Arc::clone(&greets);
        Server::start(&rig.server, on, move |stream| greets(stream))
    });
    let capture = rig.net.capture();
    let secret = tcp::marker(4);
    let own = [rig.server.at(7001), rig.server.at_v6(7001)];
    let service: [SocketAddr; 2] = ["10.96.0.10:80".parse().unwrap(), "[fd96::10]:80".parse().unwrap()];
    for (own, service) in own.into_iter().zip(service) {
        for to in [own, service] {
            echo(&rig.server, to, secret.as_bytes()).unwrap_or_else(|error| panic!("{to}: {error}"));
            assert_eq!(seen.recv().unwrap(), own.ip(), "{to}: never from loopback");
        }
        sidecar.wait_for_record(&json!({
            "direction": "outbound", "original_destination": service.to_string(), "dialled": own.to_string(),
            "plaintext_reason": "local", "outcome": "closed", "bytes_sent": secret.len(), "bytes_received": secret.len(),
        }));
    }
    assert_refused_by_reset(&rig.server, "10.96.0.10:81".parse().unwrap(), "nothing listens there");
    // From elsewhere the same service is mutual TLS.
    echo(&rig.client, service[0], secret.as_bytes()).unwrap();
    let captured = capture.stop();
    assert!(!captured.contains(secret.as_bytes()), "what stays in the pod was on the wire");
    assert!(captured.assert_only_tls13() > 0);
}
