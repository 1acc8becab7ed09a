use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::mpsc,
    time::Duration,
};

use kith_tests::{
    Agent, MeshFile, Net, Sidecar, spiffe_id,
    tcp::{self, Server},
};
use serde_json::{Value, json};

use crate::rig::{FRONT, WEB, assert_refused_by_reset};

const SERVICE: &str = "10.96.0.10:80";
/// More than is kept until the answer.
const LONG: usize = 300_000;

/// The mesh besides its workloads: a service of two endpoints, on two ports, of which the first endpoint denies one.
const REST: &str = "
services:
  - name: web
    addresses: [10.96.0.10]
    ports: [{port: 80, target_port: 7001}, {port: 81, target_port: 7002}, {port: 82, target_port: 7003}]
    endpoints: [{workload: first}, {workload: second}]
policies:
  - name: closed
    layer: {workloads: [first]}
    rules: [{name: nobody, action: deny, ports: [7002], from: [{namespace: shop}]}]
";

/// Says all of it at once, before anybody has answered, and reads the echo.
fn exchange(from: &kith_tests::Pod, to: SocketAddr, text: &[u8]) {
    let answer = tcp::exchange(tcp::connect(from, to).unwrap(), text).unwrap_or_else(|error| panic!("{to}: {error}"));
    assert!(answer == text, "{to}: {} of {} bytes came back, or others", answer.len(), text.len());
}

#[test]
fn when_one_refuses_and_what_was_said_early_arrives_once() {
    let net = Net::new();
    let (control, client, first, second) = (net.pod("control"), net.pod("client"), net.pod("first"), net.pod("second"));
    let agent = Agent::start(&control, &[]);
    let mesh = MeshFile::new(&net).meshed(&client, FRONT).meshed(&first, WEB).meshed(&second, WEB);
    mesh.set_rest(REST);
    let [outbound, one, _two] = [(&client, FRONT), (&first, WEB), (&second, WEB)]
        .map(|(pod, path)| Sidecar::of(pod, &agent, mesh.path(), path).ready());
    let _servers = [Server::echo(&second, second.at(7001)), Server::echo(&second, second.at(7002))];
    // It would take the connection, were it allowed.
    let denied = Server::echo(&first, first.at(7002));

    let texts = [b"".to_vec(), b"short".to_vec(), tcp::pattern(6, 60_000), tcp::pattern(7, LONG)];
    for (port, reason) in [(80, "dial_refused"), (81, "not_allowed")] {
        let service: SocketAddr = ([10, 96, 0, 10], port).into();
        for text in &texts {
            let retried = |record: &Value| {
                record["original_destination"] == service.to_string()
                    && record["bytes_sent"] == text.len()
                    && record["retries"] == 1
            };
            // Chance decides which endpoint is asked first.
            let found = (0..40).any(|_| {
                exchange(&client, service, text);
                outbound.wait_for_record(&json!({
                    "original_destination": service.to_string(), "bytes_sent": text.len(), "outcome": "closed",
                }));
                outbound.records().iter().any(retried)
            });
            assert!(found, "no connection to {service} had to be tried again: {:#?}", outbound.records());
        }
        one.wait_for_record(&json!({"direction": "inbound", "reason": reason}));
    }
    for record in outbound.records() {
        assert_eq!(record["outcome"], "closed", "{record}");
        assert_eq!(record["bytes_sent"], record["bytes_received"], "{record}");
        assert_eq!(record["peer_id"], *spiffe_id(WEB), "{record}");
        assert!(record["dialled"].as_str().unwrap().starts_with(&second.v4().to_string()), "{record}");
    }
    assert_eq!(denied.accepted(), 0, "the refused connections reached nobody");

    assert_refused_by_reset(&client, ([10, 96, 0, 10], 82).into(), "nobody listens at either endpoint");
    outbound.wait_for_record(&json!({
        "original_destination": "10.96.0.10:82", "outcome": "refused", "reason": "peer_application_unreachable", "retries": 1,
    }));
}

#[test]
fn also_one_without_a_sidecar_hears_everything_from_the_first_byte() {
    let net = Net::new();
    let (control, client, first, second) = (net.pod("control"), net.pod("client"), net.pod("first"), net.pod("second"));
    let agent = Agent::start(&control, &[]);
    let mesh = MeshFile::new(&net).meshed(&client, FRONT).meshed(&first, WEB).workload(&second, "plain", None, "");
    mesh.set_rest(REST);
    let [outbound, _one] =
        [(&client, FRONT), (&first, WEB)].map(|(pod, path)| Sidecar::of(pod, &agent, mesh.path(), path).ready());
    let _server = Server::echo(&second, second.at(7001));
    let text = tcp::pattern(8, 60_000);
    let retried = (0..40).any(|round| {
        exchange(&client, SERVICE.parse().unwrap(), &text);
        outbound.wait_for_record(&json!({"connection": round + 1, "outcome": "closed", "bytes_sent": text.len()}));
        outbound.records().iter().any(|record| record["retries"] == 1)
    });
    assert!(retried, "the endpoint where nobody listens was never asked first: {:#?}", outbound.records());
}

#[test]
fn but_not_in_plaintext_where_somebody_on_the_path_may_have_broken_the_proof() {
    let net = Net::new();
    let (control, client, first, second) = (net.pod("control"), net.pod("client"), net.pod("first"), net.pod("second"));
    let agent = Agent::start(&control, &[]);
    let mesh = MeshFile::new(&net).meshed(&client, FRONT).meshed(&first, WEB).workload(&second, "plain", None, "");
    mesh.set_rest(REST);
    let outbound = Sidecar::of(&client, &agent, mesh.path(), FRONT).ready();
    // What stands in for an attacker: it takes the connection to the meshed endpoint and answers no TLS.
    let _broken = Server::start(&first, first.at(7001), |mut stream| _ = stream.write_all(b"no TLS"));
    let plain = Server::echo(&second, second.at(7001));
    let (mut refused, mut passed) = (0, 0);
    while refused < 5 || passed < 1 {
        // The reset may come before `connect` has returned.
        let connected = tcp::connect(&client, SERVICE.parse().unwrap());
        match connected.and_then(|stream| tcp::exchange(stream, b"secret")) {
            Ok(_) => passed += 1,
            Err(_) => refused += 1,
        }
        assert!(refused + passed < 100, "chance asks both endpoints first now and then: {refused} {passed}");
    }
    assert_eq!(plain.accepted(), passed, "only connections for which chance had asked the plain endpoint first");
    outbound
        .wait_for_record(&json!({"outcome": "refused", "reason": "protocol", "dialled": first.at(7001).to_string()}));
    for record in outbound.records() {
        assert!(record["plaintext_reason"].is_null() || record["retries"] == 0, "{record}");
    }
}

#[test]
fn and_not_when_one_was_cut_after_it_may_have_delivered_something() {
    let net = Net::new();
    let (control, client, first, second) = (net.pod("control"), net.pod("client"), net.pod("first"), net.pod("second"));
    let agent = Agent::start(&control, &[]);
    let mesh = MeshFile::new(&net).meshed(&client, FRONT).meshed(&first, WEB).meshed(&second, WEB);
    mesh.set_rest(REST);
    let [outbound, _one, _two] = [(&client, FRONT), (&first, WEB), (&second, WEB)]
        .map(|(pod, path)| Sidecar::of(pod, &agent, mesh.path(), path).ready());
    // Both take a connection, hear it, and cut it.
    let (tell, told) = mpsc::channel();
    let _servers = [&first, &second].map(|pod| {
        let tell = std::sync::Mutex::new(tell.clone());
        Server::start(pod, pod.at(7001), move |mut stream: TcpStream| {
            let mut heard = [0; 4];
            stream.read_exact(&mut heard).unwrap();
            tell.lock().unwrap().send(heard).unwrap();
            tcp::reset(stream);
        })
    });
    let mut stream = tcp::connect(&client, SERVICE.parse().unwrap()).unwrap();
    stream.write_all(b"once").unwrap();
    let _ = stream.shutdown(Shutdown::Write);
    assert_eq!(stream.read(&mut [0; 1]).map_err(|e| e.kind()), Err(std::io::ErrorKind::ConnectionReset));
    assert_eq!(told.recv_timeout(Duration::from_secs(5)).unwrap(), *b"once");
    outbound.wait_for_record(&json!({"original_destination": SERVICE, "outcome": "reset", "retries": 0}));
    assert!(told.recv_timeout(Duration::from_secs(1)).is_err(), "another endpoint has heard it too");
}
