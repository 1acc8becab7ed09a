//! The other side is a real `openssl` process: nothing here rests on rustls agreeing with itself.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kith_tls::{Client, HandshakeError, Material, Server, TlsStream, linger};
use rcgen::KeyPair;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::common::{
    LOOPBACK,
    cases::{self, Case},
    client,
    pki::{Pki, now},
    server,
};

/// One wrong peer for each of these is tried in both directions, with the number of the alert that it must print
/// (RFC 8446 §6).
const REFUSALS: [(&str, u8); 14] = [
    ("several_uri_sans", 42),
    ("no_uri_san", 42),
    ("ca_as_leaf", 42),
    ("key_cert_sign", 42),
    ("bad_intermediate", 42),
    ("ext_key_usage", 43),
    ("revoked", 44),
    ("expired", 45),
    ("not_yet_valid", 45),
    ("unknown_ca", 48),
    ("expired_root", 48),
    ("unknown_trust_domain", 48),
    ("not_expected", 49),
    ("not_allowed", 49),
];

/// A chain and a key as files.
struct Files(TempDir);

impl Files {
    fn write(chain: &[Vec<u8>], key: &KeyPair) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let (leaf, rest) = chain.split_first().unwrap();
        fs::write(files.path("leaf.pem"), pem(leaf)).unwrap();
        fs::write(files.path("chain.pem"), rest.iter().map(|der| pem(der)).collect::<String>()).unwrap();
        fs::write(files.path("key.pem"), key.serialize_pem()).unwrap();
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["-cert".into(), self.path("leaf.pem"), "-key".into(), self.path("key.pem")];
        if fs::metadata(Path::new(&self.path("chain.pem"))).unwrap().len() > 0 {
            arguments.extend(["-cert_chain".into(), self.path("chain.pem")]);
        }
        arguments
    }
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// An `openssl` process, which ends with the test that wanted it.
struct Openssl(Child);

impl Openssl {
    /// Its input stays open: at the input's end `s_server` would leave.
    fn start(arguments: impl IntoIterator<Item = String>) -> Self {
        let mut openssl = Command::new("openssl");
        openssl.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(openssl.spawn().expect("this test needs the openssl command"))
    }

    /// What it still prints until its end.
    async fn rest(mut self) -> String {
        let (stdout, stderr) = (self.0.stdout.take().unwrap(), self.0.stderr.take().unwrap());
        let read = |mut pipe: Box<dyn Read + Send>| {
            tokio::task::spawn_blocking(move || {
                let mut printed = vec![];
                pipe.read_to_end(&mut printed).map(|_| printed)
            })
        };
        let (stdout, stderr) = tokio::join!(read(Box::new(stdout)), read(Box::new(stderr)));
        let printed = [stdout.unwrap().unwrap(), stderr.unwrap().unwrap()].concat();
        String::from_utf8_lossy(&printed).into_owned()
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `openssl s_client` to its end; returns what it printed, received bytes included.
async fn s_client(address: SocketAddr, arguments: Vec<String>) -> String {
    let client = words(&["s_client", "-quiet", "-connect", &address.to_string()]);
    Openssl::start(client.into_iter().chain(arguments)).rest().await
}

/// One connection to a server of ours that greets whom it accepts.
async fn called_by_openssl(server: Server, arguments: Vec<String>) -> (Result<Greeted, HandshakeError>, String) {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (io, _) = listener.accept().await.unwrap();
        match kith_tls::accept(io, server, now()).await {
            Ok(mut stream) => {
                stream.write_all(b"greetings\n").await.unwrap();
                stream.shutdown().await.unwrap();
                let _ = stream.read_to_end(&mut vec![]).await;
                let parameters = stream.parameters();
                Ok(Greeted { suite: parameters.cipher_suite, group: parameters.key_exchange_group.clone() })
            }
            Err(failed) => {
                if let Some(io) = failed.io {
                    linger(io).await;
                }
                Err(failed.error)
            }
        }
    };
    tokio::join!(serve, s_client(address, arguments))
}

#[derive(Debug)]
struct Greeted {
    suite: &'static str,
    group: String,
}

/// `openssl s_server`, which asks for a certificate and takes any.
struct SServer {
    openssl: Openssl,
    address: SocketAddr,
}

impl SServer {
    fn start(files: &Files, more: &[&str]) -> Self {
        let arguments = words(&["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-verify", "5"]);
        let mut openssl = Openssl::start(arguments.into_iter().chain(files.arguments()).chain(words(more)));
        let mut lines = BufReader::new(openssl.0.stdout.as_mut().unwrap()).lines();
        let address = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ")?.parse().ok());
        Self { address: address.expect("s_server says where it listens"), openssl }
    }
}

async fn call(address: SocketAddr, client: Client) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let io = TcpStream::connect(address).await.unwrap();
    match kith_tls::connect(io, LOOPBACK, client, now()).await {
        Ok(stream) => Ok(stream),
        Err(failed) => {
            if let Some(io) = failed.io {
                linger(io).await;
            }
            Err(failed.error)
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A good SVID as arguments, and the files that they name.
fn good(pki: &Pki) -> (Files, Vec<String>) {
    let svid = pki.svid("/ns/shop/sa/web");
    let files = Files::write(svid.chain(), &KeyPair::try_from(svid.key().pkcs8()).unwrap());
    let arguments = files.arguments();
    (files, arguments)
}

fn first_of(label: &str) -> Case {
    cases::all().into_iter().find(|case| case.label == label).unwrap()
}

fn ours(case: &Case) -> Arc<Material> {
    Arc::new(Material::new(Arc::new(Pki::new().svid("/ours")), Arc::clone(&case.trust), 1).unwrap())
}

#[tokio::test]
async fn a_client_with_an_svid_is_served_in_every_suite_and_group_it_asks_for() {
    let pki = Pki::new();
    let material = pki.material("/db");
    let suites = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
    for suite in suites {
        for (asked, group) in [("X25519", "X25519"), ("P-256", "secp256r1"), ("P-384:P-256", "secp256r1")] {
            let (_files, mut arguments) = good(&pki);
            arguments.extend(words(&["-tls1_3", "-ciphersuites", suite, "-groups", asked]));
            let (greeted, printed) = called_by_openssl(server(&material), arguments).await;
            let greeted = greeted.unwrap();
            assert_eq!(greeted.suite.replace("TLS13_", "TLS_"), suite);
            assert_eq!(greeted.group, group);
            assert!(printed.contains("greetings"), "{printed}");
        }
    }
}

#[tokio::test]
async fn a_server_with_an_svid_is_reached_and_sees_ours() {
    let pki = Pki::new();
    let (files, _) = good(&pki);
    fs::write(files.path("root.pem"), pki.root.pem()).unwrap();
    let root = files.path("root.pem");
    let server = SServer::start(&files, &["-tls1_3", "-rev", "-CAfile", &root, "-Verify", "5", "-verify_return_error"]);
    let mut stream = call(server.address, client(&pki.material("/web"))).await.unwrap();
    assert_eq!(stream.peer().unwrap().id.path(), "/ns/shop/sa/web");
    stream.write_all(b"sgniteerg\n").await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"greetings\n");
}

#[tokio::test]
async fn a_client_of_tls_1_2_is_told_that_its_version_is_the_matter() {
    let pki = Pki::new();
    let (_files, mut arguments) = good(&pki);
    arguments.push("-tls1_2".into());
    let (served, printed) = called_by_openssl(server(&pki.material("/db")), arguments).await;
    assert_eq!(served.unwrap_err(), HandshakeError::ProtocolVersion);
    assert!(printed.contains("SSL alert number 70"), "{printed}");
}

#[tokio::test]
async fn a_server_of_tls_1_2_is_not_spoken_to() {
    let pki = Pki::new();
    let (files, _) = good(&pki);
    let server = SServer::start(&files, &["-tls1_2"]);
    let error = call(server.address, client(&pki.material("/web"))).await.unwrap_err();
    assert!(["protocol_version", "alert_protocol_version"].contains(&error.as_str()), "{error}");
}

#[tokio::test]
async fn a_client_without_certificate_is_told_that_one_is_required() {
    let pki = Pki::new();
    let (served, printed) = called_by_openssl(server(&pki.material("/db")), words(&["-tls1_3"])).await;
    assert_eq!(served.unwrap_err().as_str(), "no_certificate");
    assert!(printed.contains("SSL alert number 116"), "{printed}");
}

#[tokio::test]
async fn a_client_that_offers_no_group_of_ours_gets_a_handshake_failure() {
    let pki = Pki::new();
    let (served, printed) = called_by_openssl(server(&pki.material("/db")), words(&["-groups", "P-521"])).await;
    assert_eq!(served.unwrap_err().as_str(), "incompatible");
    assert!(printed.contains("SSL alert number 40"), "{printed}");
}

#[tokio::test]
async fn a_refused_client_prints_the_alert_of_the_reason() {
    for (label, number) in REFUSALS {
        let case = first_of(label);
        let server = Server { policy: Some(Arc::clone(&case.policy)), ..server(&ours(&case)) };
        let files = Files::write(&case.chain, &case.key);
        let (served, printed) = called_by_openssl(server, files.arguments()).await;
        assert_eq!(served.unwrap_err().as_str(), label);
        assert!(printed.contains(&format!("SSL alert number {number}\n")), "{label}: {printed}");
        assert!(!printed.contains("greetings"));
    }
}

#[tokio::test]
async fn a_refused_server_prints_the_alert_of_the_reason() {
    for (label, number) in REFUSALS {
        let case = first_of(label);
        let client = Client { policy: Arc::clone(&case.policy), ..client(&ours(&case)) };
        let server = SServer::start(&Files::write(&case.chain, &case.key), &[]);
        let error = call(server.address, client).await.unwrap_err();
        assert_eq!(error.as_str(), label);
        let printed = server.openssl.rest().await;
        assert!(printed.contains(&format!("SSL alert number {number}\n")), "{label}: {printed}");
    }
}
