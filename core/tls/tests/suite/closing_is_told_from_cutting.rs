use std::io::ErrorKind;

use kith_tls::TlsStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::common::{client, meet_well, pki::Pki, server};

async fn pair() -> (TlsStream<DuplexStream>, TlsStream<DuplexStream>) {
    let pki = Pki::new();
    meet_well(client(&pki.material("/web")), server(&pki.material("/db"))).await
}

async fn send(stream: &mut TlsStream<DuplexStream>, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test]
async fn an_end_without_close_notify_is_truncation_after_all_that_came() {
    for _ in 0..2 {
        let (mut client, mut server) = pair().await;
        send(&mut server, b"half a mess").await;
        drop(server);
        let mut read = vec![];
        let error = client.read_to_end(&mut read).await.unwrap_err();
        assert_eq!((read.as_slice(), error.kind()), (&b"half a mess"[..], ErrorKind::UnexpectedEof));
        let again = client.read(&mut [0]).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::UnexpectedEof, "a second look does not make it an orderly end");
        assert_eq!(TlsStream::<DuplexStream>::alert(&again), None);
    }
}

#[tokio::test]
async fn truncation_is_seen_from_either_side() {
    let (client, mut server) = pair().await;
    drop(client);
    assert_eq!(server.read_u8().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn close_notify_ends_one_direction_and_leaves_the_other_open() {
    let (mut client, mut server) = pair().await;
    send(&mut client, b"request").await;
    client.shutdown().await.unwrap();
    let mut request = vec![];
    server.read_to_end(&mut request).await.unwrap();
    assert_eq!(request, b"request");

    let answer = vec![7; 1 << 20];
    let (sent, received) = tokio::join!(
        async {
            server.write_all(&answer).await?;
            server.shutdown().await
        },
        async {
            let mut received = vec![];
            client.read_to_end(&mut received).await.map(|_| received)
        }
    );
    sent.unwrap();
    assert!(received.unwrap() == answer);
}

#[tokio::test]
async fn after_a_clean_end_of_the_peer_we_may_still_write() {
    let (mut client, mut server) = pair().await;
    server.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    send(&mut client, b"still here").await;
    client.shutdown().await.unwrap();
    let mut read = vec![];
    server.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"still here");
}

#[tokio::test]
async fn a_record_that_was_tampered_with_is_an_error_and_no_bytes() {
    let pki = Pki::new();
    let (client_io, mut client_wire) = tokio::io::duplex(1 << 20);
    let (mut server_wire, server_io) = tokio::io::duplex(1 << 20);
    let relay = async {
        let mut handshake_over = false;
        let (mut there, mut back) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            tokio::select! {
                read = client_wire.read(&mut there) => match read.unwrap() {
                    0 => break,
                    read => server_wire.write_all(&there[..read]).await.unwrap(),
                },
                read = server_wire.read(&mut back) => match read.unwrap() {
                    0 => break,
                    read => {
                        // The first flight is the server's handshake; what follows is application data.
                        if handshake_over {
                            back[read - 1] ^= 1;
                        }
                        handshake_over = true;
                        client_wire.write_all(&back[..read]).await.unwrap();
                    }
                },
            }
        }
    };
    let talk = async {
        let (near, far) = tokio::join!(
            kith_tls::connect(
                client_io,
                crate::common::LOOPBACK,
                client(&pki.material("/web")),
                crate::common::pki::now()
            ),
            kith_tls::accept(server_io, server(&pki.material("/db")), crate::common::pki::now())
        );
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        send(&mut far, b"payload").await;
        let mut read = [0; 16];
        assert_eq!(near.read(&mut read).await.unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(read, [0; 16]);
        let seen = far.read_u8().await.unwrap_err();
        assert!(TlsStream::<DuplexStream>::alert(&seen).is_some(), "{seen}");
    };
    tokio::select! {
        () = relay => panic!("the relay ended first"),
        () = talk => {}
    }
}
