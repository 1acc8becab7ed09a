use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use kith_tests::{
    Pod,
    tcp::{self, Server},
    wait_until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::mesh::{Mesh, Settings, assert_echo, closed, open, refused};

const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
const SILENT: usize = 10_000;
const PORT: u16 = 7001;
/// Hellos in single bytes.
const DRIBBLES: usize = 200;
/// Hellos at full speed, of each of three kinds.
const FLOODS: usize = 50;
/// How garbage begins that is told from TLS by its first byte.
const UNLIKE_TLS: [&[u8]; 3] = [b"GET / HTTP/1.1\r\n", &[0], &[23, 3, 3]];
/// How garbage begins that is no TLS on a second look: no version, too long a record, too long a message.
const LIKE_TLS: [&[u8]; 3] = [&[22], &[22, 3, 1, 255, 255], &[22, 3, 3, 64, 0, 1]];
/// Connections of each of these kinds.
const EACH: usize = 4;
const PATIENCE: Duration = Duration::from_secs(30);
/// Ten times what the deadline promises: for the first byte and then for the handshake.
const AT_MOST: Duration = Duration::from_secs(2 * 5 * 10);
/// No connection may cost what a client can choose: far less than 10,000 times a full hello, or 64 MiB of anything.
const MOST_MEMORY: u64 = 400 << 20;

#[test]
fn silence_endless_hellos_and_garbage_are_closed_in_bounded_memory() {
    let mesh = Mesh::start(&Settings { args: &["--hello-timeout", "5s"], ..Settings::default() });
    let at = mesh.web.at(PORT);
    let application = Server::echo(&mesh.web, at);
    let long_lived = tcp::connect(&mesh.front, at).unwrap();
    assert_echo(&long_lived, b"before", "a connection before the flood");

    let begin = mesh.inbound.process().memory();
    ten_thousand_that_never_speak(&mesh, at);
    assert_echo(&long_lived, b"after the silence", "a connection that was open");
    let silence = mesh.inbound.process().memory();
    endless_hellos(&mesh.stranger, at);
    ended(&mesh, "timeout", DRIBBLES);
    ended(&mesh, "protocol", 3 * FLOODS);
    let hellos = mesh.inbound.process().memory();
    garbage(&mesh.stranger, at);
    ended(&mesh, "protocol", 3 * FLOODS + LIKE_TLS.len() * EACH);
    let plaintext = || closed(&mesh.inbound, "inbound", "refused", "plaintext_on_strict");
    wait_until("garbage that is no TLS is counted", PATIENCE, || plaintext() == (UNLIKE_TLS.len() * EACH) as f64);
    let garbage = mesh.inbound.process().memory();

    let mib = |bytes: u64| bytes >> 20;
    println!(
        "peak memory of the inbound sidecar in MiB: {} before, {} after {SILENT} silent connections, \
         {} after endless hellos, {} after garbage",
        mib(begin.peak),
        mib(silence.peak),
        mib(hellos.peak),
        mib(garbage.peak),
    );
    assert!(garbage.peak < MOST_MEMORY, "{} MiB at its peak", mib(garbage.peak));
    assert_echo(&long_lived, b"after it all", "a connection that was open");
    assert_echo(&tcp::connect(&mesh.front, at).unwrap(), b"a new one", "a new connection");
    assert_eq!(application.accepted(), 3, "nobody who said no hello has reached the application");
    drop(long_lived);
    wait_until("every connection is over", PATIENCE, || open(&mesh.inbound, "inbound") == 0.0);
}

fn ten_thousand_that_never_speak(mesh: &Mesh, at: SocketAddr) {
    let stranger = mesh.stranger.clone();
    let silence = thread::spawn(move || stranger.block_on(|| stay_silent(at)));
    let mut most = 0.0;
    wait_until("the silent ones are many", PATIENCE, || {
        most = open(&mesh.inbound, "inbound").max(most);
        most > 1000.0
    });
    // Served beside them, by the same accept loop.
    assert_echo(&tcp::connect(&mesh.front, at).unwrap(), b"meanwhile", "a good client meanwhile");
    while !silence.is_finished() {
        most = open(&mesh.inbound, "inbound").max(most);
        thread::sleep(Duration::from_millis(100));
    }
    let (shortest, longest) = silence.join().unwrap();
    println!("{SILENT} silent connections: {most} at once, closed after {shortest:?} to {longest:?}");
    assert!(shortest >= HELLO_TIMEOUT, "one was closed before the deadline: {shortest:?}");
    assert!(longest < AT_MOST, "one was held for {longest:?}");
    assert_eq!(closed(&mesh.inbound, "inbound", "failed", "hello_timeout"), SILENT as f64, "each is counted");
}

/// Opens them all, and says how long the shortest and the longest was held.
async fn stay_silent(at: SocketAddr) -> (Duration, Duration) {
    let dialling = Arc::new(Semaphore::new(256));
    let mut silent = JoinSet::new();
    for _ in 0..SILENT {
        let dialling = Arc::clone(&dialling);
        silent.spawn(async move {
            let permit = dialling.acquire_owned().await.unwrap();
            let begun = Instant::now();
            let mut stream = TcpStream::connect(at).await.unwrap();
            drop(permit);
            let mut answer = [0; 16];
            let read = timeout(AT_MOST, stream.read(&mut answer)).await.expect("it is closed");
            assert!(matches!(read, Ok(0) | Err(_)), "silence was answered: {answer:?}");
            begun.elapsed()
        });
    }
    let held = silent.join_all().await;
    (held.iter().min().copied().unwrap(), held.iter().max().copied().unwrap())
}

/// Each handshake that failed so is counted, and so is its connection.
fn ended(mesh: &Mesh, reason: &str, times: usize) {
    let all = (times as f64, times as f64);
    wait_until(&format!("{times} handshakes end as {reason}"), PATIENCE, || {
        refused(&mesh.inbound, "inbound", reason) == all
    });
}

/// Hellos that never end: byte by byte, in records without end, and in records of no bytes.
fn endless_hellos(stranger: &Pod, at: SocketAddr) {
    // A handshake message of 16 MiB, the first 16 KiB of it in this record.
    let begin = [&[22, 3, 1, 64, 0, 1, 255, 255, 255, 3, 3][..], &[0; 16_384 - 6]].concat();
    let more = [&[22, 3, 1, 64, 0][..], &[0; 16_384]].concat();
    let empty = [22, 3, 1, 0, 0].repeat(1000);
    let one_byte = [22, 3, 1, 0, 1, 0].repeat(1000);
    stranger.block_on(|| async move {
        let mut talking = JoinSet::new();
        for _ in 0..DRIBBLES {
            talking.spawn(dribble(at, begin.clone()));
        }
        for _ in 0..FLOODS {
            talking.spawn(pour(at, begin.clone(), more.clone()));
            talking.spawn(pour(at, begin[..11].to_vec(), one_byte.clone()));
            talking.spawn(pour(at, Vec::new(), empty.clone()));
        }
        let sent: Vec<usize> = talking.join_all().await;
        println!("endless hellos: at most {} bytes were taken of one", sent.iter().max().unwrap());
    });
}

/// 64 MiB that are no TLS, or only look like it.
fn garbage(stranger: &Pod, at: SocketAddr) {
    let noise = tcp::pattern(9, 1 << 16);
    stranger.block_on(|| async move {
        let mut talking = JoinSet::new();
        for first in UNLIKE_TLS.into_iter().chain(LIKE_TLS) {
            for _ in 0..EACH {
                talking.spawn(pour(at, first.to_vec(), noise.clone()));
            }
        }
        let sent: Vec<usize> = talking.join_all().await;
        println!("garbage: at most {} bytes were taken of one", sent.iter().max().unwrap());
    });
}

/// Sends this, then that over and over, up to 64 MiB or until it is closed; says how much was taken.
async fn pour(at: SocketAddr, first: Vec<u8>, again: Vec<u8>) -> usize {
    const MOST: usize = 64 << 20;
    let mut stream = TcpStream::connect(at).await.unwrap();
    let pouring = async {
        let mut sent = 0;
        if stream.write_all(&first).await.is_err() {
            return sent;
        }
        while sent < MOST && stream.write_all(&again).await.is_ok() {
            sent += again.len();
        }
        sent
    };
    let sent = timeout(AT_MOST, pouring).await.expect("it is closed");
    assert!(sent < MOST, "all 64 MiB were read");
    sent
}

/// A byte every 50 ms.
async fn dribble(at: SocketAddr, bytes: Vec<u8>) -> usize {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let begun = Instant::now();
    for (sent, byte) in bytes.iter().enumerate() {
        if stream.write_u8(*byte).await.is_err() {
            return sent;
        }
        assert!(begun.elapsed() < AT_MOST, "a hello in single bytes was listened to for {:?}", begun.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    bytes.len()
}
