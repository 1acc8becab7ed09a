use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use kith_tests::{
    Pod,
    peers::{Postgres, postgres_client},
    tcp::Server,
};
use serde_json::json;

use crate::rig::{Rig, assert_refused_by_reset, echo};

#[test]
fn what_listens_on_loopback_only_is_reached_by_nobody_else() {
    let rig = Rig::new();
    let (inbound, outbound) = (rig.web().ready(), rig.front().ready());
    let loopback: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, 7001).into(), (Ipv6Addr::LOCALHOST, 7001).into()];
    let private = loopback.map(|on| Server::echo(&rig.server, on));
    let public: [SocketAddr; 2] = [rig.server.at(7002), rig.server.at_v6(7002)];
    let _public = public.map(|on| Server::echo(&rig.server, on));
    for at in [Pod::at, Pod::at_v6] {
        let private = at(&rig.server, 7001);
        assert_refused_by_reset(&rig.client, private, "bound to loopback");
        outbound.wait_for_record(&json!({
            "direction": "outbound", "original_destination": private.to_string(),
            "outcome": "refused", "reason": "peer_application_unreachable", "bytes_received": 0,
        }));
        inbound.wait_for_record(&json!({
            "direction": "inbound", "original_destination": private.to_string(),
            "outcome": "failed", "reason": "dial_refused",
        }));
        echo(&rig.client, at(&rig.server, 7002), b"bound to the pod's address").unwrap();
    }
    for (server, on) in private.iter().zip(loopback) {
        assert_eq!(server.accepted(), 0, "{on} was reached");
        echo(&rig.server, on, b"the pod's own programs reach it").unwrap();
    }
}

#[test]
fn postgresql_that_trusts_loopback_asks_the_mesh_for_the_password() {
    let rig = Rig::new();
    let (_inbound, _outbound) = (rig.web().ready(), rig.front().ready());
    let _postgres = Postgres::start(&rig.server, "*");
    let query = "select inet_client_addr()";
    let psql = |pod: &Pod, host: &str| postgres_client(pod, "psql", host).args(["-w", "-Atc", query]);
    for (local, remote) in [("127.0.0.1", rig.server.v4().to_string()), ("::1", rig.server.v6().to_string())] {
        let trusted = psql(&rig.server, local).env("PGPASSWORD", "").run();
        assert_eq!(trusted.trim(), local, "loopback is trusted");
        for (password, complaint) in [("", "no password supplied"), ("wrong", "password authentication failed")] {
            let refused = psql(&rig.client, &remote).env("PGPASSWORD", password).output();
            assert!(!refused.status.success(), "password {password:?} to {remote}: {}", refused.text());
            assert!(refused.stderr.contains(complaint), "password {password:?} to {remote}: {}", refused.stderr);
        }
        let address = psql(&rig.client, &remote).run();
        assert_eq!(address.trim(), remote, "the client that the database sees");
    }
}
