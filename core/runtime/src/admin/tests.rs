use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::*;
use crate::{listen, metrics::names};

struct Served {
    address: SocketAddr,
    readiness: Readiness,
    shut_down: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

fn start() -> Served {
    start_with(Registry::new())
}

fn start_with(mut registry: Registry) -> Served {
    let listener = listen::bind((Ipv4Addr::LOCALHOST, 0).into(), 128).unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Readiness::new();
    let errors = registry.counter(&names::ACCEPT_ERRORS);
    let (shut_down, ended) = oneshot::channel();
    let shutdown = async { ended.await.unwrap() };
    let serving = tokio::spawn(serve(vec![listener], readiness.clone(), Arc::new(registry), errors, shutdown));
    Served { address, readiness, shut_down, serving }
}

/// Sends bytes and reads to the end; what a reset cuts off is not there.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_all(&mut stream).await
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    String::from_utf8(answer).unwrap()
}

async fn request(address: SocketAddr, method: &str, path: &str) -> (String, String, String) {
    let answer = exchange(address, format!("{method} {path} HTTP/1.1\r\nhost: kith\r\n\r\n").as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    (status.trim_start_matches("HTTP/1.1 ").to_owned(), headers.to_owned(), body.to_owned())
}

async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let (status, _, body) = request(address, "GET", path).await;
    (status, body)
}

#[tokio::test]
async fn readiness_names_every_reason_and_liveness_none() {
    let served = start();
    let svid = served.readiness.gate("svid", "no SVID yet");
    let mesh = served.readiness.gate("mesh_file", "line 3:\n  unknown field");
    let unready = "svid: no SVID yet\nmesh_file: line 3: unknown field\n";
    assert_eq!(get(served.address, "/readyz").await, ("503 Service Unavailable".into(), unready.into()));
    assert_eq!(get(served.address, "/livez").await, ("200 OK".into(), "ok".into()));

    svid.ready();
    mesh.ready();
    assert_eq!(get(served.address, "/readyz").await, ("200 OK".into(), "ok".into()));

    served.readiness.shutting_down();
    let draining = "shutdown: draining\n";
    assert_eq!(get(served.address, "/readyz").await, ("503 Service Unavailable".into(), draining.into()));
    assert_eq!(get(served.address, "/livez").await.0, "200 OK");
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let served = start();
    let (status, headers, body) = request(served.address, "GET", "/metrics").await;
    assert_eq!(status, "200 OK");
    assert!(headers.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{headers}");
    assert!(body.contains("\nkith_accept_errors_total 0\n") && body.ends_with("# EOF\n"), "{body}");
}

#[tokio::test]
async fn answers_nothing_else() {
    let served = start();
    for path in ["/", "/livez/", "/metrics/x", "/debug", "//livez"] {
        assert_eq!(get(served.address, path).await.0, "404 Not Found", "{path}");
    }
    assert_eq!(get(served.address, "/livez?verbose").await.0, "200 OK");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let (status, headers, _) = request(served.address, method, "/livez").await;
        assert_eq!(status, "405 Method Not Allowed", "{method}");
        assert!(headers.contains("allow: GET, HEAD"), "{headers}");
    }
    let (status, _, body) = request(served.address, "HEAD", "/readyz").await;
    assert_eq!((status.as_str(), body.as_str()), ("200 OK", ""));
    assert_eq!(
        exchange(served.address, b"\x16\x03\x01 no request at all\r\n\r\n").await.get(..12),
        Some("HTTP/1.1 400")
    );
}

#[tokio::test]
async fn one_connection_is_one_request() {
    let served = start();
    let twice = "GET /livez HTTP/1.1\r\nhost: kith\r\n\r\n".repeat(2);
    assert_eq!(exchange(served.address, twice.as_bytes()).await.matches("HTTP/1.1 200").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_closed_at_the_deadline() {
    let served = start();
    let begun = Instant::now();
    assert_eq!(exchange(served.address, b"").await, "");
    assert!(begun.elapsed() >= HEAD_DEADLINE && begun.elapsed() < EXCHANGE_DEADLINE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_dribbling_client_is_closed_at_the_deadline() {
    let served = start();
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let begun = Instant::now();
    stream.write_all(b"GET /livez HTTP/1.1\r\nx: ").await.unwrap();
    while stream.write_all(b"x").await.is_ok() {
        assert!(begun.elapsed() < EXCHANGE_DEADLINE * 2, "still open");
        sleep(Duration::from_millis(500)).await;
    }
    assert!(begun.elapsed() >= HEAD_DEADLINE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_closed_at_the_deadline() {
    let mut registry = Registry::new();
    // A page that no kernel's buffers hold.
    let rules = registry.counters(&names::POLICY_DECISIONS);
    for number in 0..1000 {
        let _ = rules.with([&format!("{number:032000}"), "allow"]);
    }
    let served = start_with(registry);
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: kith\r\n\r\n").await.unwrap();
    sleep(EXCHANGE_DEADLINE * 2).await;
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.ends_with("# EOF\n"));
}

#[tokio::test]
async fn an_endless_head_is_refused() {
    let served = start();
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let mut sent = 0;
    let line = format!("x: {}\r\n", "x".repeat(1000));
    stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    // The kernel's buffers take more than is ever read.
    while stream.write_all(line.as_bytes()).await.is_ok() {
        sent += line.len();
        assert!(sent < 64 * 1024 * 1024, "still reading");
    }
    let long = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(MAX_HEAD));
    assert_eq!(exchange(served.address, long.as_bytes()).await.get(..12), Some("HTTP/1.1 431"));
    let many = format!("GET /livez HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
    assert_eq!(exchange(served.address, many.as_bytes()).await.get(..12), Some("HTTP/1.1 431"));
}

#[tokio::test]
async fn more_connections_than_slots_are_closed_until_one_is_free() {
    let served = start();
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS_OF_ONE {
        held.push(TcpStream::connect(served.address).await.unwrap());
    }
    // Connections are accepted in order, so all the slots are taken when this one comes.
    let mut excess = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(read_all(&mut excess).await, "");
    // Nobody else is kept out.
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
    let mut other = other.connect(served.address).await.unwrap();
    other.write_all(b"GET /livez HTTP/1.1\r\nhost: kith\r\n\r\n").await.unwrap();
    assert_eq!(read_all(&mut other).await.get(..12), Some("HTTP/1.1 200"));

    held.pop();
    let freed = async {
        loop {
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            // The excess may be reset before it has written.
            let asked = stream.write_all(b"GET /livez HTTP/1.1\r\nhost: kith\r\n\r\n").await;
            if asked.is_ok() && read_all(&mut stream).await.starts_with("HTTP/1.1 200") {
                break;
            }
        }
    };
    timeout(HEAD_DEADLINE / 2, freed).await.unwrap();
}

#[tokio::test]
async fn the_end_does_not_wait_for_who_has_not_asked() {
    let served = start();
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    let mut halfway = TcpStream::connect(served.address).await.unwrap();
    halfway.write_all(b"GET /li").await.unwrap();
    // Once a later connection has been answered, these two are being served.
    assert_eq!(get(served.address, "/livez").await.0, "200 OK");
    served.shut_down.send(()).unwrap();
    timeout(HEAD_DEADLINE / 2, served.serving).await.unwrap().unwrap();
    assert_eq!(read_all(&mut silent).await, "");
    assert_eq!(read_all(&mut halfway).await, "");
    let refused = TcpStream::connect(served.address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}
