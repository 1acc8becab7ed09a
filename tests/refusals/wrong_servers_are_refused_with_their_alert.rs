use std::{
    io::{Read, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use kith_tests::{
    Defect, Leaf,
    peers::s_server,
    spiffe_id,
    tcp::{self, Server},
    wait_until,
};
use serde_json::json;

use crate::mesh::{GHOST, Mesh, PARTNER, Settings, is_reset, open, refused};

const FIRST_PORT: u16 = 9100;
const SECRET: &[u8] = b"what only the partner may read\n";

/// What a server presents, and what comes of it: the alert that it is sent (RFC 8446 §6) and the record's reason.
struct Case {
    name: &'static str,
    presents: Presents,
    alert: Option<u8>,
    reason: &'static str,
}

enum Presents {
    With(Defect),
    Another(&'static str),
    Tls12,
}

const CASES: [Case; 17] = {
    const fn with(name: &'static str, defect: Defect, alert: u8, reason: &'static str) -> Case {
        Case { name, presents: Presents::With(defect), alert: Some(alert), reason }
    }
    [
        with("other CA", Defect::OtherCa, 48, "unknown_ca"),
        with("expired", Defect::Expired, 45, "expired"),
        with("not yet valid", Defect::NotYetValid, 45, "not_yet_valid"),
        with("expired root still in the bundle", Defect::ExpiredRoot, 48, "expired_root"),
        with("no SAN", Defect::NoSan, 42, "no_uri_san"),
        with("two URI SANs", Defect::TwoUriSans, 42, "several_uri_sans"),
        with("DNS SAN only", Defect::DnsSanOnly, 42, "no_uri_san"),
        with("CA certificate as leaf", Defect::CaAsLeaf, 42, "ca_as_leaf"),
        with("keyCertSign", Defect::KeyCertSign, 42, "key_cert_sign"),
        with("cRLSign", Defect::CrlSign, 42, "crl_sign"),
        with("no digitalSignature", Defect::NoDigitalSignature, 42, "key_usage"),
        with("EKU without client auth", Defect::NoClientAuth, 43, "ext_key_usage"),
        with("EKU without server auth", Defect::NoServerAuth, 43, "ext_key_usage"),
        with("SPIFFE ID without a path", Defect::NoPath, 42, "invalid_spiffe_id"),
        with("SPIFFE ID of another trust domain", Defect::OtherTrustDomain, 48, "unknown_trust_domain"),
        Case {
            name: "not expected",
            presents: Presents::Another("/ns/shop/sa/web"),
            alert: Some(49),
            reason: "not_expected",
        },
        // It is the server that is told no version it knows, and says so.
        Case { name: "TLS 1.2", presents: Presents::Tls12, alert: None, reason: "alert_protocol_version" },
    ]
};

#[test]
fn each_wrong_server_is_told_its_alert_and_recorded_by_its_own_reason() {
    let mesh = Mesh::start(&Settings::default());
    for (number, case) in (0..).zip(&CASES) {
        let at = mesh.partner.at(FIRST_PORT + number);
        let good = Leaf::of(spiffe_id(PARTNER));
        let (leaf, more): (_, &[&str]) = match case.presents {
            Presents::With(defect) => (good.with(defect), &[]),
            Presents::Another(path) => (Leaf::of(spiffe_id(path)), &[]),
            Presents::Tls12 => (good, &["-tls1_2"]),
        };
        let files = mesh.pki.write(&leaf, &mesh.partner.dir_of("svid", 0), 0);
        let server = s_server(&mesh.partner, at, &files).args(["-naccept", "1"]).args(more).spawn();
        server.wait_for_log("ACCEPT", Duration::from_secs(20));
        let before = refused(&mesh.outbound, "outbound", case.reason);

        let application = tcp::connect(&mesh.front, at);
        assert!(is_reset(application, SECRET), "{}: the application's connection is reset", case.name);
        server.wait_for_exit(Duration::from_secs(30));
        if let Some(alert) = case.alert {
            let alert = format!("SSL alert number {alert}");
            assert!(server.log().contains(&alert), "{}: expected {alert}, got\n{}", case.name, server.log());
        }
        assert!(!server.log().contains("only the partner"), "{}: nothing was said to it", case.name);
        mesh.outbound.wait_for_record(&json!({
            "direction": "outbound", "outcome": "refused", "reason": case.reason, "dialled": at,
            "expected_ids": [spiffe_id(PARTNER)], "bytes_sent": 0, "bytes_received": 0,
        }));
        let after = refused(&mesh.outbound, "outbound", case.reason);
        assert_eq!(after, (before.0 + 1.0, before.1 + 1.0), "{}: counted once by its reason", case.name);
    }
    another_identity_at_a_meshed_address_is_refused(&mesh);
    a_plaintext_server_hears_a_hello_at_most(&mesh);
    a_good_server_is_told_everything(&mesh);
    wait_until("no connection is left", Duration::from_secs(20), || open(&mesh.outbound, "outbound") == 0.0);
}

/// Secure naming: a proved identity of the same mesh, but not the one of this address.
fn another_identity_at_a_meshed_address_is_refused(mesh: &Mesh) {
    let at = mesh.ghost.at(FIRST_PORT);
    let files = mesh.pki.write(&Leaf::of(spiffe_id(PARTNER)), &mesh.ghost.dir_of("svid", 0), 0);
    let server = s_server(&mesh.ghost, at, &files).args(["-naccept", "1", "-alpn", "kith/1"]).spawn();
    server.wait_for_log("ACCEPT", Duration::from_secs(20));
    assert!(is_reset(tcp::connect(&mesh.front, at), SECRET), "an impostor at a meshed address");
    server.wait_for_exit(Duration::from_secs(30));
    let log = server.log();
    assert!(log.contains("SSL alert number 49") && !log.contains("only the partner"), "{log}");
    mesh.outbound.wait_for_record(&json!({
        "direction": "outbound", "outcome": "refused", "reason": "not_expected", "dialled": at,
        "expected_ids": [spiffe_id(GHOST)],
    }));
}

fn a_plaintext_server_hears_a_hello_at_most(mesh: &Mesh) {
    let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
    let hearing = Arc::clone(&heard);
    let at = mesh.partner.at(FIRST_PORT + 98);
    let _server = Server::start(&mesh.partner, at, move |mut stream| {
        let _ = stream.write_all(b"220 plaintext is welcome\r\n");
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            hearing.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
    });
    let application = tcp::connect(&mesh.front, at);
    assert!(is_reset(application, SECRET), "plaintext where mutual TLS was promised: a reset");
    mesh.outbound.wait_for_record(&json!({ "outcome": "refused", "reason": "protocol", "dialled": at }));
    wait_until("the plaintext server has heard a hello", Duration::from_secs(20), || !heard.lock().unwrap().is_empty());
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard[0], 22, "a TLS handshake record");
    assert!(!heard.windows(8).any(|window| window == &SECRET[..8]), "the application's bytes stayed at home");
}

fn a_good_server_is_told_everything(mesh: &Mesh) {
    let at = mesh.partner.at(FIRST_PORT + 99);
    let files = mesh.pki.write(&Leaf::of(spiffe_id(PARTNER)), &mesh.partner.dir_of("svid", 0), 0);
    let server = s_server(&mesh.partner, at, &files).args(["-naccept", "1", "-rev"]).spawn();
    server.wait_for_log("ACCEPT", Duration::from_secs(20));
    let mut application = tcp::connect(&mesh.front, at).unwrap();
    application.write_all(b"drawer\n").unwrap();
    let mut answer = [0; 7];
    application.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"reward\n", "the same without a defect works: {}", server.log());
    drop(application);
    mesh.outbound.wait_for_record(&json!({ "direction": "outbound", "peer_id": spiffe_id(PARTNER), "dialled": at }));
}
