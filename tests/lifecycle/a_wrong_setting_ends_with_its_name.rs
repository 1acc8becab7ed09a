use std::{fs, time::Duration};

use kith_tests::{Finished, Net, Pod, PodCommand, kith_ca_agent, kith_proxy};

fn run(pod: &Pod) -> PodCommand {
    let mesh = pod.dir().join("mesh.yaml");
    fs::write(&mesh, format!("{MESH}mesh_networks: [10.88.0.0/16]\n")).unwrap();
    let command = pod.command(kith_proxy()).arg("run").arg("--mesh-file").arg(mesh);
    command.args([
        "--trust-domain",
        "example.org",
        "--ca-address",
        "10.88.0.9:15011",
        "--ca-bundle",
        "/b",
        "--join-token",
        "t",
    ])
}

const MESH: &str = "trust_domain: example.org\nworkloads: [{name: pod, addresses: [10.88.0.1], kind: meshed, \
                    spiffe_id: \"spiffe://example.org/ns/a/sa/b\"}]\n";

#[track_caller]
fn assert_says(finished: &Finished, parts: &[&str]) {
    assert_eq!(finished.code(), Some(2), "{parts:?}: {}", finished.stderr);
    for part in parts {
        assert!(finished.stderr.contains(part), "no {part} in {}", finished.stderr);
    }
}

#[test]
fn of_the_sidecar() {
    let net = Net::new();
    let pod = net.pod("pod");
    for (flag, variable, value, expected) in [
        ("--trust-domain", "KITH_TRUST_DOMAIN", "Not_A/Domain", "trust domain"),
        ("--ca-address", "KITH_CA_ADDRESS", "nowhere", "HOST:PORT"),
        ("--drain-bound", "KITH_DRAIN_BOUND", "soon", "expected a duration"),
        ("--first-answer-timeout", "KITH_FIRST_ANSWER_TIMEOUT", "10", "expected a duration"),
        ("--admin-id", "KITH_ADMIN_IDS", "alice", "spiffe://"),
        ("--status-port", "KITH_STATUS_PORT", "0", "1..=65535"),
        ("--access-log", "KITH_ACCESS_LOG", "everywhere", "stdout"),
        ("--log-format", "KITH_LOG_FORMAT", "xml", "json"),
        ("--keepalive-probes", "KITH_KEEPALIVE_PROBES", "128", "1..=127"),
        ("--keepalive-idle", "KITH_KEEPALIVE_IDLE", "10h", "from 1s to 32767s"),
        ("--user-timeout", "KITH_USER_TIMEOUT", "1year", "24 days"),
    ] {
        let by_flag = pod.command(kith_proxy()).args(["run", &format!("{flag}={value}")]).output();
        assert_says(&by_flag, &[flag, value, expected]);
        let by_variable = pod.command(kith_proxy()).arg("run").env(variable, value).output();
        assert_says(&by_variable, &[flag, variable, value, expected]);
    }
    for (variable, value, parts) in [
        ("KITH_LOG", "kith_proxy=loud", ["KITH_LOG", "kith_proxy=loud", "level"]),
        ("KITH_STATUS_PORT", "15020", ["--status-port", "15020", "--admin-port"]),
    ] {
        assert_says(&run(&pod).env(variable, value).output(), &parts);
    }
    let missing = pod.command(kith_proxy()).arg("run").output();
    assert_says(&missing, &["--mesh-file", "--trust-domain", "--ca-address"]);
    let token = pod.command(kith_proxy()).args(["run", "--mesh-file", "/m", "--trust-domain", "example.org"]);
    let token = token.args(["--ca-address", "10.88.0.9:15011"]).output();
    assert_says(&token, &["--join-token-file", "KITH_JOIN_TOKEN"]);
}

#[test]
fn of_the_mesh_file_where_it_leaves_the_mesh_networks_empty() {
    let net = Net::new();
    let pod = net.pod("pod");
    for networks in ["mesh_networks: []\n", "mesh_networks:\n", ""] {
        let command = run(&pod);
        fs::write(pod.dir().join("mesh.yaml"), format!("{MESH}{networks}")).unwrap();
        let finished = command.timeout(Duration::from_secs(20)).output();
        assert_says(&finished, &["mesh.yaml", "mesh_networks"]);
    }
}

#[test]
fn of_the_agent() {
    let net = Net::new();
    let pod = net.pod("pod");
    let state = pod.dir_of("state", 0);
    for (flag, variable, value, expected) in [
        ("--trust-domain", "KITH_TRUST_DOMAIN", "Not_A/Domain", "trust domain"),
        ("--listen-attest", "KITH_LISTEN_ATTEST", "http", "port"),
        ("--svid-lifetime", "KITH_SVID_LIFETIME", "long", "expected a duration"),
        ("--admin-id", "KITH_ADMIN_ID", "alice", "spiffe://"),
        ("--log-format", "KITH_LOG_FORMAT", "xml", "json"),
    ] {
        let serve = || pod.command(kith_ca_agent()).arg("serve").arg("--state-dir").arg(&state);
        assert_says(&serve().arg(format!("{flag}={value}")).output(), &[flag, value, expected]);
        assert_says(&serve().env(variable, value).output(), &[flag, variable, value, expected]);
    }
    let missing = pod.command(kith_ca_agent()).arg("serve").output();
    assert_says(&missing, &["--trust-domain"]);
}
