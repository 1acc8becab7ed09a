use kith_tests::{
    Agent, MeshFile, Net, Pod, Sidecar,
    tcp::{self, Server},
};
use serde_json::json;

use crate::rig::{FRONT, WEB, echo};

const POLICIES: &str = "
policies:
  - name: scraping
    layer: {workloads: [server]}
    ports: {9100: {mode: DISABLE}}
";

#[test]
fn by_mode_and_by_skipped_port_and_their_neighbours_do_not() {
    let net = Net::new();
    let (control, client, server, stranger) =
        (net.pod("control"), net.pod("client"), net.pod("server"), net.pod("stranger"));
    let agent = Agent::start(&control, &[]);
    let mesh = MeshFile::new(&net)
        .meshed(&client, FRONT)
        .workload(&server, "meshed", Some(WEB), "skip_ports: [9200, 9300]")
        .workload(&stranger, "plain", None, "");
    mesh.set_rest(POLICIES);
    // One of the skipped ports is not even captured.
    server.command(kith_tests::kith_proxy()).args(["init", "--skip-inbound-ports", "9300"]).run();
    let inbound = Sidecar::of(&server, &agent, mesh.path(), WEB)
        .without_capture()
        .args(&["--skip-inbound-ports", "9300"])
        .ready();
    let outbound = Sidecar::of(&client, &agent, mesh.path(), FRONT).ready();
    let ports = [9100, 9200, 9300, 9400];
    let _echoes = ports.map(|port| [server.at(port), server.at_v6(port)].map(|on| Server::echo(&server, on)));
    let _plain = Server::echo(&stranger, stranger.at(9500));

    for (port, client_says, server_says) in [
        (9100, Some("mode_disable"), Some("mode_disable")),
        (9200, Some("skipped_port"), Some("skipped_port")),
        (9300, Some("skipped_port"), None),
        (9400, None, None),
    ] {
        for at in [Pod::at, Pod::at_v6] {
            let to = at(&server, port);
            let text = format!("{} to {to}", tcp::marker(5));
            let capture = net.capture();
            echo(&client, to, text.as_bytes()).unwrap_or_else(|error| panic!("{to}: {error}"));
            let captured = capture.stop();
            assert_eq!(captured.contains(text.as_bytes()), client_says.is_some(), "{to} in plaintext");
            let said = outbound.wait_for_record(&json!({"original_destination": to.to_string(), "outcome": "closed"}));
            assert_eq!(said["plaintext_reason"].as_str(), client_says, "{said}");
            assert_eq!(said["peer_id"].is_string(), client_says.is_none(), "{said}");
            if port != 9300 {
                let said =
                    inbound.wait_for_record(&json!({"original_destination": to.to_string(), "outcome": "closed"}));
                assert_eq!(said["plaintext_reason"].as_str(), server_says, "{said}");
            }
            // Whoever has no sidecar reaches just these.
            let reached = echo(&stranger, to, b"no sidecar here").is_ok();
            assert_eq!(reached, client_says.is_some(), "{to} from a pod without a sidecar");
        }
    }
    echo(&client, stranger.at(9500), b"to a plain workload").unwrap();
    outbound.wait_for_record(&json!({
        "original_destination": stranger.at(9500).to_string(), "plaintext_reason": "plain_workload", "outcome": "closed",
    }));
    assert!(inbound.records().iter().all(|record| record["original_destination"] != server.at(9300).to_string()));
}
