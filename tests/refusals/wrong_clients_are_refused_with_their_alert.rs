use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kith_tests::{
    Defect, Leaf, Pod,
    peers::s_client,
    pki::Files,
    spiffe_id,
    tcp::{self, Server},
    wait_until,
};
use serde_json::json;

use crate::{
    mesh::{GUARDED, LEGACY, Mesh, Settings, closed, open, refused},
    raw,
};

/// Any port of ours will do; each case has its own, by which its record is found.
const FIRST_PORT: u16 = 7100;
/// The same connection without a defect.
const CONTROL: u16 = 7099;

/// What a client presents, and what comes of it: the alert's number (RFC 8446 §6) and the record's reason.
struct Case {
    name: &'static str,
    presents: Presents,
    alert: u8,
    reason: &'static str,
}

enum Presents {
    Nothing,
    With(Defect),
    Good { port: u16 },
    Tls12,
}

const CASES: [Case; 18] = {
    const fn with(name: &'static str, defect: Defect, alert: u8, reason: &'static str) -> Case {
        Case { name, presents: Presents::With(defect), alert, reason }
    }
    [
        Case { name: "no certificate", presents: Presents::Nothing, alert: 116, reason: "no_certificate" },
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
        Case { name: "not allowed", presents: Presents::Good { port: GUARDED }, alert: 49, reason: "not_allowed" },
        Case { name: "TLS 1.2", presents: Presents::Tls12, alert: 70, reason: "protocol_version" },
    ]
};

#[test]
fn each_wrong_client_is_told_its_alert_and_recorded_by_its_own_reason() {
    let mesh = Mesh::start(&Settings::default());
    let reached = Arc::new(AtomicUsize::new(0));
    let _guarded = counting(&mesh.web, mesh.web.at(GUARDED), &reached);
    for (number, case) in (0..).zip(&CASES) {
        let (port, leaf, more) = case.presents.arguments(FIRST_PORT + number);
        let _application = (port != GUARDED).then(|| counting(&mesh.web, mesh.web.at(port), &reached));
        let files = leaf.map(|leaf| mesh.pki.write(&leaf, &mesh.stranger.dir_of("svid", 0), 0));
        let before = refused(&mesh.inbound, "inbound", case.reason);

        let said = call(&mesh.stranger, mesh.web.at(port), files.as_ref(), more);
        let alert = format!("SSL alert number {}", case.alert);
        assert!(said.contains(&alert), "{}: expected {alert}, got\n{said}", case.name);
        mesh.inbound.wait_for_record(&json!({
            "direction": "inbound", "outcome": "refused", "reason": case.reason,
            "original_destination": mesh.web.at(port), "bytes_sent": 0, "bytes_received": 0,
        }));
        let after = refused(&mesh.inbound, "inbound", case.reason);
        assert_eq!(after, (before.0 + 1.0, before.1 + 1.0), "{}: counted once by its reason", case.name);
    }
    plaintext_is_closed_without_a_byte(&mesh, &reached);
    assert_eq!(reached.load(Ordering::Relaxed), 0, "nobody who was refused has reached an application");

    let _control = Server::echo(&mesh.web, mesh.web.at(CONTROL));
    let good = mesh.pki.write(&Leaf::of(spiffe_id(LEGACY)), &mesh.stranger.dir_of("svid", 0), 0);
    let mut client = s_client(&mesh.stranger, mesh.web.at(CONTROL), Some(&good)).stdin_piped().spawn();
    let mut stdin = client.stdin().unwrap();
    stdin.write_all(b"the same without a defect\n").unwrap();
    client.wait_for_log("the same without a defect", Duration::from_secs(20));
    drop(stdin);
    mesh.inbound.wait_for_record(&json!({ "outcome": "closed", "original_destination": mesh.web.at(CONTROL) }));
    nothing_stays_half_open(&mesh);
    an_eager_client_hears_its_alert_too(&mesh);
}

impl Presents {
    /// Which port to call, with what, and what else to tell `openssl`.
    fn arguments(&self, port: u16) -> (u16, Option<Leaf>, &'static [&'static str]) {
        let good = Leaf::of(spiffe_id(LEGACY));
        match self {
            Self::Nothing => (port, None, &[]),
            Self::With(defect) => (port, Some(good.with(*defect)), &[]),
            Self::Good { port } => (*port, Some(good), &[]),
            Self::Tls12 => (port, Some(good), &["-tls1_2"]),
        }
    }
}

/// An application that says something to whoever reaches it, and counts it.
fn counting(pod: &Pod, address: SocketAddr, reached: &Arc<AtomicUsize>) -> Server {
    let reached = Arc::clone(reached);
    Server::start(pod, address, move |mut stream| {
        reached.fetch_add(1, Ordering::Relaxed);
        let _ = stream.write_all(b"an application's greeting");
    })
}

/// Runs `openssl s_client` until the other side ends the connection; returns all that it says.
fn call(pod: &Pod, to: SocketAddr, files: Option<&Files>, more: &[&str]) -> String {
    // Its input stays open: at the input's end it would leave by itself.
    let client = s_client(pod, to, files).args(more).stdin_piped().spawn();
    client.wait_for_exit(Duration::from_secs(30));
    client.log()
}

fn plaintext_is_closed_without_a_byte(mesh: &Mesh, reached: &Arc<AtomicUsize>) {
    let port = FIRST_PORT + 99;
    let _application = counting(&mesh.web, mesh.web.at(port), reached);
    let before = closed(&mesh.inbound, "inbound", "refused", "plaintext_on_strict");
    let first_words: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\nHost: web\r\n\r\n", b"\0", b"\x80\x2e\x01\0\x02", b"SSH-2.0-x\r\n"];
    for words in first_words {
        let mut stream = tcp::connect(&mesh.stranger, mesh.web.at(port)).unwrap();
        stream.write_all(words).unwrap();
        let mut answer = Vec::new();
        // What it said and nobody read may turn the close into a reset.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "plaintext got {answer:?}");
        let _ = stream.shutdown(Shutdown::Both);
    }
    let counted = || closed(&mesh.inbound, "inbound", "refused", "plaintext_on_strict") - before;
    wait_until("plaintext is counted", Duration::from_secs(20), || counted() >= 4.0);
    mesh.inbound.wait_for_record(&json!({
        "direction": "inbound", "outcome": "refused", "reason": "plaintext_on_strict",
        "original_destination": mesh.web.at(port),
    }));
}

/// What a client says before it hears that it is refused must not turn the alert into a reset.
fn an_eager_client_hears_its_alert_too(mesh: &Mesh) {
    let expired = mesh.pki.issue(&Leaf::of(spiffe_id(LEGACY)).with(Defect::Expired));
    for _ in 0..20 {
        let mut client = raw::connect(&mesh.stranger, mesh.web.at(CONTROL), &expired, &["kith/1"]).unwrap();
        // The alert may be faster than some of this.
        let _ = raw::say(&mut client, &[0; 50_000]);
        let error = client.read(&mut [0; 1]).unwrap_err();
        let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired);
        assert_eq!(reason, Some(&alert), "{error}");
    }
}

fn nothing_stays_half_open(mesh: &Mesh) {
    wait_until("no connection is left", Duration::from_secs(20), || open(&mesh.inbound, "inbound") == 0.0);
    // Established, or closed by one side only: what /proc/net/tcp calls 01, 04 (FIN_WAIT1), 05 (FIN_WAIT2) and 08
    // (CLOSE_WAIT).
    let half_open = || {
        let table = mesh.web.run_in_netns(|| std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
        let stranger = u32::from_ne_bytes(mesh.stranger.v4().octets());
        let of_stranger = format!("{stranger:08X}:");
        let lines = table.lines().filter_map(|line| {
            let mut words = line.split_whitespace().skip(2);
            let (remote, state) = (words.next()?, words.next()?);
            (remote.starts_with(&of_stranger) && ["01", "04", "05", "08"].contains(&state)).then(|| line.to_owned())
        });
        lines.collect::<Vec<_>>()
    };
    wait_until("no refused connection is left half-open", Duration::from_secs(20), || half_open().is_empty());
}
