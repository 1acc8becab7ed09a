use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    time::Duration,
};

use kith_tests::tcp::{self, Server};
use serde_json::json;

use crate::{
    mesh::{FORBIDDEN, GHOST, GUARDED, LEGACY, Mesh, Settings, assert_echo, closed, is_reset, refused},
    raw,
};

const NOBODY_LISTENS: u16 = 7050;
const FIRST_PORT: u16 = 9001;

#[test]
fn what_refuses_on_kith_1_is_named_in_both_records() {
    let mesh = Mesh::start(&Settings { args: &["--answer-timeout", "2s"], ..Settings::default() });
    an_application_that_does_not_listen(&mesh);
    a_rule_that_refuses(&mesh);
    whatever_else_is_answered(&mesh);
    any_client_of_kith_1_is_answered(&mesh);
}

fn an_application_that_does_not_listen(mesh: &Mesh) {
    let at = mesh.web.at(NOBODY_LISTENS);
    for words in [&b""[..], b"said at once"] {
        assert!(is_reset(tcp::connect(&mesh.front, at), words), "a closed port is a reset");
    }
    mesh.outbound.wait_for_record(&json!({
        "direction": "outbound", "outcome": "refused", "reason": "peer_application_unreachable",
        "original_destination": at, "bytes_received": 0,
    }));
    mesh.inbound.wait_for_record(&json!({
        "direction": "inbound", "outcome": "failed", "reason": "dial_refused", "original_destination": at,
        "rule": "own-trust-domain",
    }));
    assert!(closed(&mesh.outbound, "outbound", "refused", "peer_application_unreachable") >= 1.0);
    assert!(closed(&mesh.inbound, "inbound", "failed", "dial_refused") >= 1.0);
    assert_eq!(
        mesh.outbound.metric("kith_handshakes_total{direction=\"outbound\",result=\"succeeded\",reason=\"\"}"),
        2.0,
        "the handshakes themselves were fine"
    );

    let _now_it_listens = Server::echo(&mesh.web, at);
    assert_echo(&tcp::connect(&mesh.front, at).unwrap(), b"hello", "the same port once it listens");
}

fn a_rule_that_refuses(mesh: &Mesh) {
    let at = mesh.web.at(FORBIDDEN);
    let forbidden = Server::echo(&mesh.web, at);
    assert!(is_reset(tcp::connect(&mesh.front, at), b"said at once"), "a refusal is a reset");
    mesh.outbound.wait_for_record(&json!({
        "direction": "outbound", "outcome": "refused", "reason": "alert_access_denied", "original_destination": at,
    }));
    mesh.inbound.wait_for_record(&json!({
        "direction": "inbound", "outcome": "refused", "reason": "not_allowed", "original_destination": at,
        "rule": "web/nobody",
    }));
    assert_eq!(refused(&mesh.outbound, "outbound", "alert_access_denied"), (1.0, 1.0));
    assert_eq!(refused(&mesh.inbound, "inbound", "not_allowed"), (1.0, 1.0));
    let decision = "kith_policy_decisions_total{rule=\"web/nobody\",decision=\"refused\"}";
    assert_eq!(mesh.inbound.metric(decision), 1.0, "the metric names the rule");
    assert_eq!(forbidden.accepted(), 0, "the application was not reached");

    let _guarded = Server::echo(&mesh.web, mesh.web.at(GUARDED));
    assert_echo(&tcp::connect(&mesh.front, mesh.web.at(GUARDED)).unwrap(), b"hello", "a rule that allows");
    mesh.inbound.wait_for_record(&json!({ "outcome": "closed", "rule": "web/front-only" }));
}

/// What a peer that is said to be a sidecar may say instead of taking a connection.
#[derive(Clone, Copy)]
enum Peer {
    Answers(u8),
    EndsUnanswered,
    CutsUnanswered,
    SaysNothing,
    SpeaksNoKith,
}

fn whatever_else_is_answered(mesh: &Mesh) {
    let cases = [
        (Peer::Answers(1), "refused", "peer_not_allowed"),
        (Peer::Answers(2), "refused", "peer_application_unreachable"),
        (Peer::Answers(3), "refused", "peer_draining"),
        (Peer::Answers(4), "reset", "wire_protocol"),
        (Peer::Answers(b'H'), "reset", "wire_protocol"),
        (Peer::EndsUnanswered, "reset", "unanswered"),
        (Peer::CutsUnanswered, "reset", "unanswered"),
        (Peer::SaysNothing, "failed", "answer_timeout"),
        (Peer::SpeaksNoKith, "refused", "no_kith_alpn"),
    ];
    for (port, (peer, outcome, reason)) in (FIRST_PORT..).zip(cases) {
        let at = mesh.ghost.at(port);
        let _ghost = ghost(mesh, port, peer);
        let before = closed(&mesh.outbound, "outbound", outcome, reason);
        let application = tcp::connect(&mesh.front, at);
        assert!(is_reset(application, b"said at once"), "{reason}: the application's connection is reset");
        mesh.outbound.wait_for_record(&json!({
            "direction": "outbound", "outcome": outcome, "reason": reason, "original_destination": at,
            "bytes_received": 0,
        }));
        assert_eq!(closed(&mesh.outbound, "outbound", outcome, reason), before + 1.0, "{reason}: counted");
    }
    let at = mesh.ghost.at(FIRST_PORT + 99);
    let _ghost = ghost(mesh, at.port(), Peer::Answers(0));
    assert_echo(&tcp::connect(&mesh.front, at).unwrap(), b"hello", "a peer that accepts");
}

fn ghost(mesh: &Mesh, port: u16, peer: Peer) -> Server {
    let svid = mesh.svid(GHOST);
    Server::start(&mesh.ghost, mesh.ghost.at(port), move |stream| {
        let alpn: &[&str] = if matches!(peer, Peer::SpeaksNoKith) { &[] } else { &["kith/1"] };
        let Ok(mut tls) = raw::accept(stream, &svid, alpn) else { return };
        match peer {
            Peer::Answers(code) => raw::say(&mut tls, &[code]).unwrap(),
            Peer::EndsUnanswered => {
                tls.conn.send_close_notify();
                let _ = tls.flush();
                let _ = tls.sock.shutdown(Shutdown::Write);
            }
            Peer::CutsUnanswered => raw::cut(&tls.sock),
            Peer::SaysNothing | Peer::SpeaksNoKith => {}
        }
        tls.sock.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut heard = [0; 64];
        while let Ok(read @ 1..) = tls.read(&mut heard) {
            if matches!(peer, Peer::Answers(0)) {
                let _ = tls.write_all(&heard[..read]).and_then(|()| tls.flush());
            }
        }
    })
}

/// What WIRE.md promises to a second implementation.
fn any_client_of_kith_1_is_answered(mesh: &Mesh) {
    let svid = mesh.svid(LEGACY);
    let (open, closed) = (mesh.web.at(7060), mesh.web.at(7061));
    let _application = Server::echo(&mesh.web, open);
    let mut client = raw::connect(&mesh.stranger, open, &svid, &["h2", "kith/1"]).unwrap();
    raw::say(&mut client, b"said at once").unwrap();
    let mut heard = [0xff; 13];
    client.read_exact(&mut heard).unwrap();
    assert_eq!((heard[0], &heard[1..]), (0, &b"said at once"[..]), "accepted, then the application's bytes");

    let mut client = raw::connect(&mesh.stranger, closed, &svid, &["kith/1"]).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("a refusal ends with close_notify");
    assert_eq!(answer, [2], "application unreachable");

    let mut client = raw::connect(&mesh.stranger, closed, &svid, &[]).unwrap();
    let end = client.read_to_end(&mut answer).map_err(|error| error.kind());
    assert_eq!((answer.len(), end), (1, Err(ErrorKind::ConnectionReset)), "without kith/1 a reset, and no byte");
}
