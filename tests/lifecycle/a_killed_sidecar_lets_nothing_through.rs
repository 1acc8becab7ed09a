use std::{
    io::{self, Write},
    net::SocketAddr,
};

use kith_tests::{
    Pod, kith_proxy,
    tcp::{self, Server},
};
use serde_json::json;

use crate::rig::{Rig, assert_refused_by_reset, assert_reset, echo, ping};

fn assert_refused(from: &Pod, to: SocketAddr, what: &str) {
    match tcp::connect(from, to) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        other => panic!("{what} to {to}: expected a refusal, got {other:?}"),
    }
}

#[test]
fn connections_are_refused_both_ways_and_no_plaintext_leaves() {
    let rig = Rig::new();
    let (stranger, outside) = (rig.net.pod("stranger"), rig.net.outside("outside"));
    let peer = rig.front().ready();
    let killed = rig.web().ready();
    let everywhere = [(&rig.server, 7001), (&rig.client, 7002), (&outside, 7003)];
    let _echoes = everywhere.map(|(pod, port)| [pod.at(port), pod.at_v6(port)].map(|on| Server::echo(pod, on)));
    let secret = tcp::marker(8);
    let inbound = tcp::connect(&rig.client, rig.server.at(7001)).unwrap();
    let outbound = tcp::connect(&rig.server, rig.client.at(7002)).unwrap();
    for stream in [&inbound, &outbound] {
        ping(stream, b"before").unwrap();
    }

    let capture = rig.net.capture();
    killed.process().kill();
    // What was open is cut: nobody may take that for an end.
    assert_reset(&inbound, "the client of an open connection");
    peer.wait_for_record(&json!({"direction": "outbound", "outcome": "reset"}));
    peer.wait_for_record(&json!({"direction": "inbound", "outcome": "reset"}));
    assert_reset(&outbound, "the pod's own application");
    for _ in 0..3 {
        let _ = (&outbound).write_all(secret.as_bytes());
    }
    for to in [rig.client.at(7002), rig.client.at_v6(7002), outside.at(7003), outside.at_v6(7003)] {
        assert_refused(&rig.server, to, "out of the pod");
    }
    for to in [rig.server.at(7001), rig.server.at_v6(7001)] {
        assert_refused(&stranger, to, "from a pod without a sidecar");
        assert_refused_by_reset(&rig.client, to, "from a meshed pod");
    }
    peer.wait_for_record(&json!({"direction": "outbound", "outcome": "failed", "reason": "dial_refused"}));
    let captured = capture.stop();
    assert!(!captured.contains(secret.as_bytes()), "plaintext left the pod");
    let ports = captured.ports();
    assert!(ports.iter().all(|port| [15011, 15012, 7001, 7002].contains(port)), "bytes to {ports:?}");
    if captured.with_payload().next().is_some() {
        captured.assert_only_tls13();
    }

    // The same bytes are seen once the pod is not captured any more.
    rig.server.command(kith_proxy()).args(["init", "--undo"]).run();
    let capture = rig.net.capture();
    echo(&rig.server, outside.at(7003), secret.as_bytes()).unwrap();
    assert!(capture.stop().contains(secret.as_bytes()), "the capture would have seen them");

    let _next = rig.web().ready();
    echo(&rig.client, rig.server.at(7001), b"a new sidecar takes its place").unwrap();
}
