use std::{
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use kith_tests::{
    Agent, Pod, kith_proxy,
    peers::{s_client, s_server},
    pki::Files,
    sidecar::{SIDECAR_UID, identity_args, token_file},
    spiffe_id,
    tcp::{self, Server},
};
use serde_json::{Value, json};

use crate::mesh::{H2, LEGACY, Mesh, PARTNER, Settings, WEB};

const ECHO: u16 = 7001;
const PARTNER_PORT: u16 = 8443;

#[test]
fn openssl_with_an_svid_of_ours_calls_and_is_called() {
    let mesh = Mesh::start(&Settings::default());
    let legacy = obtain_svid(&mesh.agent, &mesh.stranger, LEGACY);
    let _echo = [ECHO, H2].map(|port| Server::echo(&mesh.web, mesh.web.at(port)));
    // Whatever a client offers, it is never refused for it: it gets what the port speaks, or nothing.
    for (port, offered, negotiated, said) in [
        (ECHO, None, Value::Null, "No ALPN negotiated"),
        (ECHO, Some("foo/9,http/1.1"), Value::Null, "No ALPN negotiated"),
        (H2, Some("http/1.1,h2"), json!("h2"), "ALPN protocol: h2"),
        (H2, Some("spdy/1"), Value::Null, "No ALPN negotiated"),
    ] {
        calls(&mesh, &legacy, port, offered, &negotiated, said);
    }
    let partner = obtain_svid(&mesh.agent, &mesh.partner, PARTNER);
    is_called(&mesh, &partner);
}

/// `kith-proxy svid --once`, as the user that will use it.
fn obtain_svid(agent: &Agent, pod: &Pod, path: &str) -> Files {
    let out = pod.dir_of("svid", SIDECAR_UID);
    let token = token_file(pod, &agent.token(path));
    let command = identity_args(pod.command(kith_proxy()).arg("svid"), agent, &token);
    command.args(["--once", "--out"]).arg(&out).uid(SIDECAR_UID).run();
    let files = Files { chain: out.join("svid.pem"), key: out.join("svid.key.pem"), bundle: out.join("bundle.pem") };
    for file in [&files.chain, &files.key, &files.bundle] {
        let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{} is private", file.display());
    }
    files
}

/// `openssl s_client` to a STRICT port, an application's bytes both ways, and an end in order.
fn calls(mesh: &Mesh, files: &Files, port: u16, alpn: Option<&str>, negotiated: &Value, said: &str) {
    let before = mesh.inbound.records().len();
    let offer: Vec<_> = alpn.into_iter().flat_map(|ids| ["-alpn", ids]).collect();
    let mut client = s_client(&mesh.stranger, mesh.web.at(port), Some(files))
        .args(["-verify_return_error", "-verify", "3"])
        .args(offer)
        .stdin_piped()
        .spawn();
    let mut stdin = client.stdin().unwrap();
    let words = format!("words of an openssl client to port {port}\n");
    stdin.write_all(words.as_bytes()).unwrap();
    client.wait_for_log(&words, Duration::from_secs(20));
    drop(stdin);
    let finished = client.wait_for_exit(Duration::from_secs(20));
    assert!(finished.status.success(), "{}", client.log());
    let log = client.log();
    assert!(log.contains("TLSv1.3"), "{log}");
    assert!(log.contains("Verify return code: 0 (ok)"), "our chain is one that openssl proves: {log}");
    assert!(log.contains(said), "expected {said:?}: {log}");
    let record = kith_tests::wait_for("the record", Duration::from_secs(20), || {
        mesh.inbound.records().into_iter().skip(before).find(|record| record["direction"] == "inbound")
    });
    let moved = words.len();
    assert_eq!(record["outcome"], "closed", "{record}");
    assert_eq!(record["peer_id"], spiffe_id(LEGACY), "{record}");
    assert_eq!(record["local_id"], spiffe_id(WEB), "{record}");
    assert_eq!(&record["alpn"], negotiated, "{record}");
    assert_eq!((&record["bytes_sent"], &record["bytes_received"]), (&json!(moved), &json!(moved)), "{record}");
}

/// `openssl s_server` in a foreign workload, called by an application that knows nothing of TLS.
fn is_called(mesh: &Mesh, files: &Files) {
    let at = mesh.partner.at(PARTNER_PORT);
    let server = s_server(&mesh.partner, at, files).arg("-rev").spawn();
    server.wait_for_log("ACCEPT", Duration::from_secs(20));
    let mut application = tcp::connect(&mesh.front, at).unwrap();
    for (words, answer) in [(b"stressed\n", b"desserts\n"), (b"repaid..\n", b"..diaper\n")] {
        application.write_all(words).unwrap();
        let mut heard = [0; 9];
        application.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, answer, "{}", server.log());
    }
    application.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    application.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    mesh.outbound.wait_for_record(&json!({
        "direction": "outbound", "outcome": "closed", "dialled": at, "peer_id": spiffe_id(PARTNER), "alpn": null,
        "tls_version": "TLSv1.3", "bytes_sent": 18, "bytes_received": 18,
    }));
    let log = server.log();
    assert!(!log.contains("verify error"), "openssl proves our client: {log}");
    assert!(log.contains("verify return:1"), "openssl has seen our client's certificate: {log}");
}
