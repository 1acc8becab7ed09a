use std::time::Duration;

use kith_tls::{HandshakeError, linger};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use crate::common::{
    DEADLINE, Ended, LOOPBACK, client, error_of,
    pki::{Pki, now},
    server,
};

async fn accept(io: DuplexStream) -> Ended {
    kith_tls::accept(io, server(&Pki::new().material("/db")), now()).await
}

/// Feeds an acceptor until it has had enough; says why, and how many bytes it took.
async fn feed(prefix: &[u8], repeated: &[u8], most: usize) -> (HandshakeError, usize) {
    let (mut near, far) = tokio::io::duplex(4096);
    let accepting = tokio::spawn(async move { accept(far).await.map(|_| ()).map_err(|failed| failed.error) });
    near.write_all(prefix).await.unwrap();
    let mut sent = prefix.len();
    while sent < most && near.write_all(repeated).await.is_ok() {
        sent += repeated.len();
    }
    (accepting.await.unwrap().unwrap_err(), sent)
}

/// A ClientHello of ours, as it is on the wire.
async fn hello() -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let dial = tokio::spawn(kith_tls::connect(near, LOOPBACK, client(&Pki::new().material("/web")), now()));
    let mut header = [0; 5];
    far.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    far.read_exact(&mut body).await.unwrap();
    dial.abort();
    [header.as_slice(), &body].concat()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_dropped_at_the_deadline() {
    let (mut near, far) = tokio::io::duplex(4096);
    let begun = Instant::now();
    let failed = accept(far).await.unwrap_err();
    assert_eq!((failed.error.as_str(), begun.elapsed()), ("timeout", DEADLINE));
    assert!(failed.io.is_none());
    assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0, "closed without a byte");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dribbles_its_hello_gains_no_time() {
    let (mut near, far) = tokio::io::duplex(4096);
    let hello = hello().await;
    let dribble = tokio::spawn(async move {
        for byte in hello {
            if near.write_u8(byte).await.is_err() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    let begun = Instant::now();
    assert_eq!(error_of(accept(far).await), HandshakeError::Timeout);
    assert_eq!(begun.elapsed(), DEADLINE);
    dribble.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_falls_silent_after_its_hello_is_dropped_too() {
    let (mut near, far) = tokio::io::duplex(1 << 16);
    near.write_all(&hello().await).await.unwrap();
    let begun = Instant::now();
    assert_eq!(error_of(accept(far).await), HandshakeError::Timeout);
    assert_eq!(begun.elapsed(), DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up_at_the_deadline() {
    let (near, _far) = tokio::io::duplex(1 << 16);
    let begun = Instant::now();
    let ended = kith_tls::connect(near, LOOPBACK, client(&Pki::new().material("/web")), now()).await;
    assert_eq!(error_of(ended), HandshakeError::Timeout);
    assert_eq!(begun.elapsed(), DEADLINE);
}

#[tokio::test]
async fn a_hello_in_single_bytes_is_a_hello() {
    let pki = Pki::new();
    let (near, mut near_wire) = tokio::io::duplex(1 << 16);
    let (mut far_wire, far) = tokio::io::duplex(1);
    let relay = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near_wire, &mut far_wire).await });
    let (client, server) = tokio::join!(
        kith_tls::connect(near, LOOPBACK, client(&pki.material("/web")), now()),
        kith_tls::accept(far, server(&pki.material("/db")), now())
    );
    assert!(client.is_ok() && server.is_ok());
    relay.abort();
}

#[tokio::test]
async fn an_end_before_or_within_the_hello_is_a_closed_connection() {
    let hello = hello().await;
    for sent in [0, 1, 100] {
        let (mut near, far) = tokio::io::duplex(4096);
        near.write_all(&hello[..sent]).await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(error_of(accept(far).await), HandshakeError::Closed, "after {sent} bytes");
    }
}

#[tokio::test]
async fn what_is_no_tls_is_refused_with_little_read() {
    for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 512], &[0xff; 512], b"SSH-2.0-OpenSSH_9.2\r\n"] {
        let (error, sent) = feed(garbage, garbage, 64 << 20).await;
        assert_eq!(error.as_str(), "protocol", "{error}");
        assert!(sent < 64 * 1024, "{sent} bytes were taken");
    }
}

#[tokio::test]
async fn a_hello_without_end_is_refused_before_it_fills_memory() {
    // A handshake message of 16 MiB, in records of full size.
    let first = [&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[0; 0x3ffc]].concat();
    let more = [&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
    let (error, sent) = feed(&first, &more, 64 << 20).await;
    assert_eq!(error.as_str(), "protocol", "{error}");
    assert!(sent < 128 * 1024, "{sent} bytes were taken");
}

#[tokio::test]
async fn a_large_hello_of_the_allowed_size_in_tiny_records_ends_too() {
    // 64 KiB, the largest handshake message there is, one byte to a record, and never meaningful.
    let record = |byte: u8| [22, 3, 1, 0, 1, byte];
    let header: Vec<u8> = [1, 0, 0xff, 0xff].into_iter().flat_map(record).collect();
    let (error, sent) = feed(&header, &record(0), 16 << 20).await;
    assert_eq!(error.as_str(), "protocol", "{error}");
    assert!(sent < 1 << 20, "{sent} bytes were taken");
}

#[tokio::test(start_paused = true)]
async fn lingering_ends_writing_at_once_and_reading_after_a_second() {
    let (near, mut far) = tokio::io::duplex(4096);
    let begun = Instant::now();
    let lingering = tokio::spawn(linger(near));
    assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    lingering.await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn lingering_discards_a_bounded_number_of_bytes() {
    let (near, mut far) = tokio::io::duplex(1024);
    let lingering = tokio::spawn(linger(near));
    let mut sent = 0;
    while far.write_all(&[0; 1024]).await.is_ok() {
        sent += 1024;
    }
    lingering.await.unwrap();
    assert!((64 * 1024..=66 * 1024).contains(&sent), "{sent}");
}

#[tokio::test]
async fn the_alert_survives_what_the_client_had_still_to_say() {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    // Wrong from the first byte, and far more than the handshake reads.
    near.write_all(&[0; 48 * 1024]).await.unwrap();
    let failed = kith_tls::accept(far, server(&Pki::new().material("/db")), now()).await.unwrap_err();
    assert_eq!(failed.error.as_str(), "protocol");
    let lingering = tokio::spawn(linger(failed.io.unwrap()));
    let mut answer = vec![];
    near.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.len(), 7, "one alert record: {answer:?}");
    assert_eq!((answer[0], answer[5]), (21, 2));
    drop(near);
    lingering.await.unwrap();
}
