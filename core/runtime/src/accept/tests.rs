use std::{cell::RefCell, collections::VecDeque, net::Ipv4Addr};

use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
};

use super::*;
use crate::listen;

/// Answers as scripted, and remembers when it was asked.
struct Script {
    answers: RefCell<VecDeque<Result<u32, Errno>>>,
    asked: RefCell<Vec<Instant>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Result<u32, Errno>>) -> Self {
        Self { answers: RefCell::new(answers.into_iter().collect()), asked: RefCell::default() }
    }

    async fn accept(&self) -> io::Result<u32> {
        self.asked.borrow_mut().push(Instant::now());
        Ok(self.answers.borrow_mut().pop_front().unwrap()?)
    }

    /// The waits between one question and the next, in milliseconds.
    fn waits(&self) -> Vec<u128> {
        self.asked.borrow().windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect()
    }
}

fn times(count: usize, errno: Errno) -> impl Iterator<Item = Result<u32, Errno>> {
    std::iter::repeat_n(Err(errno), count)
}

#[tokio::test(start_paused = true)]
async fn waits_longer_and_longer_while_there_are_no_descriptors() {
    let script = Script::new(times(10, Errno::MFILE).chain([Ok(7), Err(Errno::MFILE), Ok(8)]));
    let errors = Counter::default();
    let mut pressure = Pressure::new(errors.clone());
    assert_eq!(pressure.until_accepted(|| script.accept()).await, 7);
    assert_eq!(script.waits(), [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    assert_eq!(errors.get(), 10);

    // Once a connection was accepted, the next trouble begins small again.
    assert_eq!(pressure.until_accepted(|| script.accept()).await, 8);
    assert_eq!(script.waits().last(), Some(&5));
}

#[tokio::test(start_paused = true)]
async fn what_went_wrong_with_one_connection_delays_no_other() {
    let script = Script::new(times(500, Errno::CONNABORTED).chain([Ok(1)]));
    let errors = Counter::default();
    assert_eq!(Pressure::new(errors.clone()).until_accepted(|| script.accept()).await, 1);
    assert_eq!(script.waits().into_iter().max(), Some(0));
    assert_eq!(errors.get(), 500);
}

#[test]
fn every_error_either_concerns_one_connection_or_is_waited_out() {
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::BADF, Errno::INVAL] {
        assert!(!concerns_one_connection(&errno.into()), "{errno}");
    }
    for errno in [Errno::CONNABORTED, Errno::INTR, Errno::PERM, Errno::PROTO, Errno::HOSTUNREACH, Errno::NETDOWN] {
        assert!(concerns_one_connection(&errno.into()), "{errno}");
    }
    assert!(!concerns_one_connection(&io::Error::other("no number")));
}

#[tokio::test(start_paused = true)]
async fn errors_are_one_burst_until_there_were_none_for_a_while() {
    let mut pressure = Pressure::new(Counter::default());
    let mut begins_after = async |wait: Duration| {
        sleep(wait).await;
        pressure.begins_a_burst(Instant::now())
    };
    assert!(begins_after(Duration::ZERO).await);
    for _ in 0..30 {
        assert!(!begins_after(Duration::from_secs(1)).await);
    }
    assert!(begins_after(BURST).await);
    assert!(!begins_after(Duration::ZERO).await);
}

#[tokio::test]
async fn connections_are_handed_over_until_shutdown_and_the_socket_is_closed_then() {
    let listener = listen::bind((Ipv4Addr::LOCALHOST, 0).into(), 16).unwrap();
    let address = listener.local_addr().unwrap();
    let (shut_down, shutdown) = oneshot::channel::<()>();
    let (taken, mut connections) = mpsc::unbounded_channel();
    let serving =
        tokio::spawn(serve(listener, Counter::default(), async { shutdown.await.unwrap() }, move |stream, peer| {
            taken.send((stream, peer)).unwrap()
        }));

    let mut client = TcpStream::connect(address).await.unwrap();
    let (mut server, peer) = connections.recv().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());

    shut_down.send(()).unwrap();
    serving.await.unwrap();
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    // What was handed over is no longer the loop's.
    client.write_all(b"x").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn a_stream_of_connections_goes_on() {
    let listener = listen::bind((Ipv4Addr::LOCALHOST, 0).into(), 16).unwrap();
    let address = listener.local_addr().unwrap();
    let mut connections = pin!(incoming(listener, Counter::default()));
    for _ in 0..3 {
        let client = TcpStream::connect(address).await.unwrap();
        let server = connections.next().await.unwrap().unwrap();
        assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
    }
}
