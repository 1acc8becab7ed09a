use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use kith_tests::{Finished, Pod, grpcurl, spiffe_id, tcp, wait_until};

use crate::rig::{Rig, Svid, WEB};

const GET_IDENTITY: &str = "kith.status.v1alpha1.IdentityStatus/GetIdentity";

/// What is heard there before the end, however that comes.
fn heard(from: &Pod, to: SocketAddr, said: &[u8]) -> Vec<u8> {
    let mut stream = match tcp::connect(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Vec::new(),
        connected => connected.unwrap_or_else(|error| panic!("{to}: {error}")),
    };
    let _ = stream.write_all(said);
    let mut heard = Vec::new();
    if let Err(error) = stream.read_to_end(&mut heard) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{to} is not closed");
    }
    heard
}

#[test]
fn the_captured_ports_close_without_a_byte_whoever_dials_them() {
    let rig = Rig::new();
    let stranger = rig.net.pod("stranger");
    let (sidecar, _peer) = (rig.web().ready(), rig.front().ready());
    let loops = |direction: &str| sidecar.metric(&format!("kith_loops_total{{direction=\"{direction}\"}}"));
    assert_eq!((loops("outbound"), loops("inbound")), (0.0, 0.0));

    let loopback = |port| [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()];
    let own = |port| [rig.server.at(port), rig.server.at_v6(port)];
    let both = [own(15001), own(15006)].concat();
    // The last is where the sidecar probes its own capture.
    let outbound = [loopback(15001), loopback(15009)].concat();
    let inbound = [loopback(15006), own(15006)].concat();
    // A meshed client's own sidecar is what hears nothing.
    let from_everybody = [
        (&rig.server, outbound, "outbound"),
        (&rig.server, inbound, "inbound"),
        (&stranger, both.clone(), "inbound"),
        (&rig.client, both, "inbound"),
    ];
    let mut expected = (0.0, 0.0);
    for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", b""] {
        for (from, ports, direction) in &from_everybody {
            for to in ports {
                // Without a word from us a meshed client's sidecar speaks all the same.
                assert_eq!(heard(from, *to, said), b"", "{to} from {} answers {said:?}", from.name());
                let count = if *direction == "outbound" { &mut expected.0 } else { &mut expected.1 };
                *count += 1.0;
                wait_until(&format!("{to} from {} counts as a loop", from.name()), Duration::from_secs(5), || {
                    (loops("outbound"), loops("inbound")) == expected
                });
            }
        }
    }
}

#[test]
fn the_admin_port_answers_health_and_metrics_and_nothing_else() {
    let rig = Rig::new();
    let stranger = rig.net.pod("stranger");
    let sidecar = rig.web().ready();
    let agent_at = rig.agent.pod().at(15020);
    let ask = |from: &Pod, to: SocketAddr, request: &str| {
        let request = format!("{request} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        String::from_utf8(heard(from, to, request.as_bytes())).unwrap()
    };
    let from_anywhere = [
        (&rig.server, SocketAddr::from((Ipv4Addr::LOCALHOST, 15020))),
        (&rig.server, rig.server.at(15020)),
        (&stranger, rig.server.at(15020)),
        (&stranger, rig.server.at_v6(15020)),
        (&stranger, agent_at),
    ];
    for (from, to) in from_anywhere {
        for path in ["/livez", "/readyz", "/metrics"] {
            let answer = ask(from, to, &format!("GET {path}"));
            assert!(answer.starts_with("HTTP/1.1 200 "), "{to}{path}: {answer}");
            let refused = ask(from, to, &format!("POST {path}"));
            assert!(refused.starts_with("HTTP/1.1 405 "), "{to}{path}: {refused}");
        }
        let others =
            ["/", "/metrics/", "/config_dump", "/debug/pprof/", "/quitquitquit", "/../livez", "/status", "/logging"];
        for path in others {
            let answer = ask(from, to, &format!("GET {path}"));
            assert!(answer.starts_with("HTTP/1.1 404 "), "{to}{path}: {answer}");
        }
    }
    let metrics = ask(&stranger, rig.server.at(15020), "GET /metrics");
    for secret in ["spiffe://", "BEGIN", "ns/shop"] {
        assert!(!metrics.contains(secret), "{secret} is in the metrics");
    }
    drop(sidecar);
}

/// Asks the status service, without proof of the server's name: an SVID has none that this client knows.
fn ask_status(from: &Pod, to: SocketAddr, svid: Option<&Svid>) -> Finished {
    let command = from.command(grpcurl()).args(["-max-time", "5", "-connect-timeout", "2", "-insecure"]);
    let command = match svid {
        Some(svid) => command.arg("-cert").arg(svid.chain()).arg("-key").arg(svid.key()),
        None => command,
    };
    command.arg(to.to_string()).arg(GET_IDENTITY).output()
}

#[test]
fn the_status_port_demands_an_admins_svid_off_loopback() {
    let rig = Rig::new();
    let stranger = rig.net.pod("stranger");
    let admin_ids = format!("{},{}", spiffe_id("/ns/ops/sa/*"), spiffe_id("/ns/platform/**"));
    let sidecar = rig.web().args(&["--admin-id", &admin_ids]).ready();
    let unnamed = rig.front().ready();
    let (admin, workload) = (rig.svid(&stranger, "/ns/ops/sa/alice"), rig.svid(&stranger, "/ns/shop/sa/other"));

    for to in [rig.server.at(15022), rig.server.at_v6(15022)] {
        let answer = ask_status(&stranger, to, Some(&admin)).success();
        assert!(answer.contains(&spiffe_id(WEB)), "{answer}");
        for (name, svid, reason) in [("nobody", None, "no_certificate"), ("a workload", Some(&workload), "not_allowed")]
        {
            let refused = ask_status(&stranger, to, svid);
            assert!(!refused.status.success(), "{name} at {to} is told {}", refused.text());
            sidecar.process().wait_for_log(reason, Duration::from_secs(5));
        }
        let plaintext = stranger
            .command(grpcurl())
            .args(["-plaintext", "-max-time", "5", "-connect-timeout", "2"])
            .arg(to.to_string())
            .arg("list");
        let refused = plaintext.output();
        assert!(!refused.status.success(), "in plaintext from elsewhere: {}", refused.text());
        let said = heard(&stranger, to, b"GET / HTTP/1.1\r\n\r\n");
        assert!(said.len() == 7 && said.starts_with(&[21, 3, 3, 0, 2, 2]), "more than an alert: {said:?}");
    }
    // Also of the pod's own programs, if they come by the pod's address.
    let plaintext = rig.server.command(grpcurl()).args(["-plaintext", "-max-time", "5", "-connect-timeout", "2"]);
    let refused = plaintext.arg(rig.server.at(15022).to_string()).arg("list").output();
    assert!(!refused.status.success(), "in plaintext by the pod's own address: {}", refused.text());
    // Where no admin is named, nobody is one.
    let refused = ask_status(&stranger, rig.client.at(15022), Some(&admin));
    assert!(!refused.status.success(), "no admin is named there: {}", refused.text());
    unnamed.process().wait_for_log("not_allowed", Duration::from_secs(5));
    let through_a_sidecar = ask_status(&rig.client, rig.server.at(15022), None);
    assert!(!through_a_sidecar.status.success(), "a pod's own sidecar lends nobody its identity");
}
