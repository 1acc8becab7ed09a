use std::{net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::*;

/// An application and a peer, with the relay between them, over loopback.
struct Rig {
    application: TcpStream,
    peer: TcpStream,
    relay: JoinHandle<(Reason, u64, u64)>,
    abort: CancellationToken,
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

async fn rig(unsent: &[u8]) -> Rig {
    let (application, ours) = pair().await;
    let (wire, peer) = pair().await;
    let abort = CancellationToken::new();
    let (unsent, cancelled) = (BytesMut::from(unsent), abort.clone());
    let relay = tokio::spawn(async move {
        let bytes = Bytes::default();
        let counters = [Counter::default(), Counter::default()];
        let legs = (Stream::Plain(Socket::new(ours)), Stream::Plain(Socket::new(wire)));
        let reason = relay(legs.0, legs.1, unsent, &bytes, &counters, &cancelled).await;
        let (sent, received) = bytes.load();
        (reason, sent, received)
    });
    Rig { application, peer, relay, abort }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("in time")
}

fn arm_reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[tokio::test]
async fn what_was_read_early_goes_first_and_a_half_close_leaves_the_other_direction_open() {
    let mut rig = rig(b"early ").await;
    rig.application.write_all(b"question").await.unwrap();
    rig.application.shutdown().await.unwrap();
    let mut question = String::new();
    within(rig.peer.read_to_string(&mut question)).await.unwrap();
    assert_eq!(question, "early question");

    let answer = vec![7; 3 << 20];
    let (sent, mut got) = (answer.clone(), Vec::new());
    let writing = async {
        rig.peer.write_all(&sent).await.unwrap();
        rig.peer.shutdown().await.unwrap();
    };
    within(async { tokio::join!(writing, rig.application.read_to_end(&mut got)) }).await.1.unwrap();
    assert!(got == answer, "every byte came back");
    assert_eq!(within(rig.relay).await.unwrap(), (Reason::CLOSED, 8, 3 << 20));
}

#[tokio::test]
async fn a_reset_of_the_application_becomes_a_reset_of_the_wire() {
    let mut rig = rig(b"").await;
    arm_reset(&rig.application);
    drop(rig.application);
    let error = within(rig.peer.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(within(rig.relay).await.unwrap().0.label, "application_reset");
}

#[tokio::test]
async fn a_reset_is_noticed_although_the_other_end_reads_nothing() {
    let rig = rig(b"").await;
    let mut flood = rig.application;
    // Until nothing moves any more: all buffers on the way are full.
    let chunk = vec![1; 1 << 20];
    while timeout(Duration::from_millis(300), flood.write_all(&chunk)).await.is_ok() {}
    assert!(!rig.relay.is_finished());
    arm_reset(&flood);
    drop(flood);
    let (reason, ..) = within(rig.relay).await.unwrap();
    assert_eq!((reason.outcome, reason.label), (Outcome::Reset, "application_reset"));
    let mut peer = rig.peer;
    let drained = within(async {
        let mut rest = vec![0; 1 << 20];
        loop {
            match peer.read(&mut rest).await {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error.kind()),
            }
        }
    });
    assert_eq!(drained.await, Err(io::ErrorKind::ConnectionReset), "the end is a reset, not an end of stream");
}

#[tokio::test]
async fn bytes_before_a_reset_are_delivered() {
    let mut rig = rig(b"").await;
    rig.application.write_all(b"last words").await.unwrap();
    // The peer's side of the request is never read: closing now makes the kernel reset.
    rig.peer.write_all(b"unread").await.unwrap();
    within(rig.application.readable()).await.unwrap();
    drop(rig.application);
    let mut words = Vec::new();
    let end = within(rig.peer.read_to_end(&mut words)).await;
    assert_eq!(words, b"last words");
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(within(rig.relay).await.unwrap().0.label, "application_reset");
}

#[tokio::test]
async fn an_abort_resets_both_sides() {
    let mut rig = rig(b"").await;
    rig.abort.cancel();
    for side in [&mut rig.application, &mut rig.peer] {
        let error = within(side.read(&mut [0; 1])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    assert_eq!(within(rig.relay).await.unwrap().0, Reason::ABORTED);
}

#[tokio::test]
async fn single_bytes_both_ways_arrive_at_once() {
    let mut rig = rig(b"").await;
    for byte in 0..200_u8 {
        rig.application.write_all(&[byte]).await.unwrap();
        let mut echo = [0; 1];
        within(rig.peer.read_exact(&mut echo)).await.unwrap();
        rig.peer.write_all(&echo).await.unwrap();
        within(rig.application.read_exact(&mut echo)).await.unwrap();
        assert_eq!(echo, [byte]);
    }
    drop((rig.application, rig.peer));
    assert_eq!(within(rig.relay).await.unwrap(), (Reason::CLOSED, 200, 200));
}
