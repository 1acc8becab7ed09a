use std::time::Duration;

use kith_tests::{Agent, MeshFile, Net, Sidecar, tcp::Server};
use serde_json::json;

use crate::rig::{FRONT, WEB, echo};

#[test]
fn as_client_as_server_and_for_the_agent() {
    let net = Net::new();
    let control = net.pod_without_ipv6("control");
    let (client, server, both) = (net.pod_without_ipv6("client"), net.pod_without_ipv6("server"), net.pod("both"));
    let agent = Agent::start(&control, &[]);
    let mesh = MeshFile::new(&net).meshed(&client, FRONT).meshed(&server, WEB).meshed(&both, "/ns/shop/sa/both");
    let sidecars = [(&client, FRONT), (&server, WEB), (&both, "/ns/shop/sa/both")]
        .map(|(pod, path)| Sidecar::of(pod, &agent, mesh.path(), path).ready());
    let _echoes = [&server, &both].map(|pod| Server::echo(pod, pod.at(7001)));
    for (from, to) in [(&client, &server), (&client, &both), (&both, &server)] {
        echo(from, to.at(7001), b"over IPv4")
            .unwrap_or_else(|error| panic!("{} to {}: {error}", from.name(), to.name()));
    }
    sidecars[1].wait_for_record(&json!({"direction": "inbound", "outcome": "closed", "tls_version": "TLSv1.3"}));
    // The client's pod has no listener left, and so no reason to stay.
    let [outbound, ..] = sidecars;
    let ended = outbound.stop(Duration::from_secs(10));
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
}
