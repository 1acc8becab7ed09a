use std::{
    io::{self, Read},
    net::SocketAddr,
    time::{Duration, Instant},
};

use kith_tests::{
    Agent, MeshFile, Net, Pod, Sidecar,
    peers::s_client,
    tcp::{self, Server},
};
use serde_json::json;

use crate::rig::{FRONT, WEB, assert_reset, echo};

/// Inside the mesh networks, and nobody's.
const UNKNOWN: &str = "10.88.200.200:80";

/// How long it takes until a connection is reset.
fn reset_after(from: &Pod, to: SocketAddr) -> Duration {
    let began = Instant::now();
    let mut stream = tcp::connect(from, to).unwrap();
    let ended = stream.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(ended, Err(io::ErrorKind::ConnectionReset), "{to}");
    began.elapsed()
}

#[test]
fn outside_passes_at_once_inside_waits_and_is_reset_and_unknown_stays_unknown() {
    let net = Net::new();
    let (control, client, server, outside) =
        (net.pod("control"), net.pod("client"), net.pod("server"), net.outside("outside"));
    let _echoes = [Server::echo(&outside, outside.at(7003)), Server::echo(&outside, outside.at_v6(7003))];
    let _inside = Server::echo(&client, client.at(7002));
    let application = Server::echo(&server, server.at(7001));
    let mesh = MeshFile::new(&net).meshed(&client, FRONT).meshed(&server, WEB);
    // The CA agent is down.
    let agent = Agent::start(&control, &[]);
    let token = agent.token(WEB);
    let _client = Sidecar::of(&client, &agent, mesh.path(), FRONT).ready();
    agent.kill();
    let first = Duration::from_millis(1500);
    let later = Duration::from_millis(300);
    let sidecar = Sidecar::of(&server, &agent, mesh.path(), WEB)
        .token(token)
        .args(&["--first-answer-timeout", "1500ms", "--unknown-timeout", "300ms"])
        .begin();
    sidecar.process().wait_for_log("The sidecar accepts connections", Duration::from_secs(20));
    let (ready, reason) = sidecar.readiness();
    assert!(!ready && reason.contains("svid:"), "{reason}");

    let capture = net.capture();
    for to in [outside.at(7003), outside.at_v6(7003)] {
        echo(&server, to, b"outside is not ours").unwrap();
        sidecar.wait_for_record(&json!({
            "direction": "outbound", "original_destination": to.to_string(), "outcome": "closed",
            "plaintext_reason": "outside",
        }));
    }
    let unknown = UNKNOWN.parse().unwrap();
    for (to, outcome, reason) in [(client.at(7002), "failed", "no_svid"), (unknown, "refused", "unknown_destination")] {
        let waited = reset_after(&server, to);
        assert!(waited >= first && waited < 10 * first, "{to}: reset after {waited:?}");
        sidecar.wait_for_record(&json!({
            "original_destination": to.to_string(), "outcome": outcome, "reason": reason, "bytes_received": 0,
        }));
    }
    // Inbound: a TLS client waits as long, a plaintext client not at all.
    let hello = s_client(&client, server.at(7001), None).uid(5484).stdin_piped().spawn();
    hello.wait_for_exit(10 * first);
    sidecar.wait_for_record(&json!({"direction": "inbound", "outcome": "failed", "reason": "no_svid"}));
    let by_its_sidecar = tcp::connect(&client, server.at(7001)).unwrap();
    assert_reset(&by_its_sidecar, "a meshed client");
    assert_eq!(application.accepted(), 0, "nobody reaches the application");
    let captured = capture.stop();
    assert!(captured.contains(b"outside is not ours"));
    assert!(!captured.ports().contains(&7002), "not a byte inside the mesh");

    agent.launch();
    sidecar.wait_ready();
    echo(&server, client.at(7002), b"it has healed").unwrap();
    let waited = reset_after(&server, unknown);
    assert!(waited >= later && waited < 10 * later, "unknown, later: reset after {waited:?}");
}

#[test]
fn a_connection_that_waits_is_served_when_the_answers_come() {
    let net = Net::new();
    let (control, client, server, outside) =
        (net.pod("control"), net.pod("client"), net.pod("server"), net.outside("outside"));
    let _echoes = [Server::echo(&outside, outside.at(7003)), Server::echo(&client, client.at(7002))];
    let agent = Agent::start(&control, &[]);
    let mesh = MeshFile::new(&net).meshed(&client, FRONT).meshed(&server, WEB);
    let _client = Sidecar::of(&client, &agent, mesh.path(), FRONT).ready();
    let later = net.dir_of("later", 0).join("mesh.yaml");
    let sidecar = Sidecar::of(&server, &agent, &later, WEB).args(&["--first-answer-timeout", "60s"]).begin();
    sidecar.process().wait_for_log("The sidecar accepts connections", Duration::from_secs(20));
    let (ready, reason) = sidecar.readiness();
    assert!(!ready && reason.contains("mesh:") && reason.contains("mesh.yaml"), "{reason}");

    let waiting = [outside.at(7003), client.at(7002)].map(|to| tcp::connect(&server, to).unwrap());
    std::fs::copy(mesh.path(), &later).unwrap();
    for stream in waiting {
        assert_eq!(tcp::exchange(stream, b"was patient").unwrap(), b"was patient");
    }
    sidecar.wait_ready();
    sidecar
        .wait_for_record(&json!({"original_destination": outside.at(7003).to_string(), "plaintext_reason": "outside"}));
    sidecar.wait_for_record(&json!({"original_destination": client.at(7002).to_string(), "alpn": "kith/1"}));
}
