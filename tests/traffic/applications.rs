//! Everything that two applications may do to each other over TCP, for whoever is between them to carry.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use kith_tests::{
    Pod,
    peers::{Nginx, Postgres, curl, postgres_client},
    tcp::{self, Server},
    wait_until,
};

/// What a run moves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// The file that curl fetches, in bytes.
    pub(crate) file: usize,
    /// What comes back after a half-close, in bytes.
    pub(crate) answer: usize,
    /// What both sides send at once, in bytes each.
    pub(crate) flood: usize,
    /// The scale of `pgbench -i`: 100,000 rows each.
    pub(crate) scale: u32,
}

/// The seeds of the patterns, each of which is a known plaintext.
const FILE: u64 = 1;
const ANSWER: u64 = 2;
const QUESTION: u64 = 3;
const FLOOD: u64 = 4;
const DRIBBLE: u64 = 5;

/// What nobody on the wire may see of a run.
pub(crate) fn known_plaintexts() -> Vec<Vec<u8>> {
    let mut known: Vec<_> = [FILE, ANSWER, QUESTION, FLOOD].map(|seed| tcp::marker(seed).into_bytes()).into();
    known.extend([&b"GET /file"[..], b"nginx", b"pgbench_accounts", b"vacuum"].map(<[u8]>::to_vec));
    known
}

/// Runs everything from the client's pod to the server's, in both families. Returns how many bytes it moved at least.
pub(crate) fn run(client: &Pod, server: &Pod, sizes: Sizes) -> usize {
    let nginx = Nginx::start(server, &[server.at(80), server.at_v6(80)]);
    let sum = nginx.put_pattern("file", FILE, sizes.file);
    let mut moved = 0;
    for address in [server.at(80), server.at_v6(80)] {
        fetch(client, address, &sum);
        moved += sizes.file;
    }
    drop(nginx);
    query(client, server, sizes.scale);
    for at in [Pod::at, Pod::at_v6] {
        moved += half_close_of_the_client(client, server, at(server, 7001), sizes.answer);
        moved += half_close_of_the_server(client, server, at(server, 7002), sizes.answer);
        moved += full_buffers(client, server, at(server, 7003), sizes.flood);
        dribble(client, server, at(server, 7004));
        nothing_at_all(client, server, at(server, 7005));
        resets(client, server, at(server, 7006));
    }
    moved
}

fn fetch(client: &Pod, address: SocketAddr, sum: &str) {
    let url = format!("http://{address}/file");
    let target = client.dir().join(format!("{}-fetched", client.name()));
    let fetched = curl(client, &url).args(["--max-time", "240", "--output", "-"]).timeout(Duration::from_secs(250));
    let script = format!("exec \"$@\" | sha256sum > {}", target.display());
    let pipeline = client.command("sh").args(["-c", &script, "sh"]).args(fetched.words());
    pipeline.timeout(Duration::from_secs(250)).run();
    let got = std::fs::read_to_string(&target).unwrap();
    assert_eq!(got.split(' ').next(), Some(sum), "{url} has the wrong checksum");
}

fn query(client: &Pod, server: &Pod, scale: u32) {
    let postgres = Postgres::start(server, "*");
    for host in [server.at(1).ip(), server.at_v6(1).ip()].map(|ip| ip.to_string()) {
        let bench = |args: &[&str]| {
            postgres_client(client, "pgbench", &host).args(args).timeout(Duration::from_secs(120)).run()
        };
        bench(&["-i", "-q", "-s", &scale.to_string()]);
        bench(&["-c", "4", "-j", "2", "-t", "50"]);
        let rows = postgres_client(client, "psql", &host).args(["-Atc", "select count(*) from pgbench_history"]).run();
        assert_eq!(rows.trim(), "200", "each transaction left a row");
    }
    drop(postgres);
}

/// The client sends, ends its side, and then reads.
fn half_close_of_the_client(client: &Pod, server: &Pod, address: SocketAddr, len: usize) -> usize {
    let _server = Server::answers_after_end(server, address, ANSWER, len);
    let question = tcp::pattern(QUESTION, 1 << 16);
    let answer = tcp::exchange(tcp::connect(client, address).unwrap(), &question).unwrap();
    assert!(answer == tcp::pattern(ANSWER, len), "{address}: {} of {len} bytes came back", answer.len());
    question.len() + len
}

/// The server greets, ends its side, and then reads.
fn half_close_of_the_server(client: &Pod, server: &Pod, address: SocketAddr, len: usize) -> usize {
    let (heard, hearing) = mpsc::channel();
    let _server = Server::start(server, address, move |mut stream| {
        stream.write_all(b"greeting").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        heard.send(all).unwrap();
    });
    let mut stream = tcp::connect(client, address).unwrap();
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "greeting");
    stream.write_all(&tcp::pattern(ANSWER, len)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let all = hearing.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(all == tcp::pattern(ANSWER, len), "{address}: {} of {len} bytes arrived", all.len());
    len
}

/// Both sides send all they have before they read anything that does not fit into the buffers on the way.
fn full_buffers(client: &Pod, server: &Pod, address: SocketAddr, len: usize) -> usize {
    let both = move |stream: TcpStream| {
        let mut writer = stream.try_clone().unwrap();
        let writing = thread::spawn(move || {
            writer.write_all(&tcp::pattern(FLOOD, len)).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        wait_until("the buffers are full, or everything fits into them", Duration::from_secs(30), || {
            writing.is_finished() || unread(&stream) > 0
        });
        let mut all = Vec::new();
        (&stream).read_to_end(&mut all).unwrap();
        writing.join().unwrap();
        all == tcp::pattern(FLOOD, len)
    };
    let (told, telling) = mpsc::channel();
    let _server = Server::start(server, address, move |stream| told.send(both(stream)).unwrap());
    assert!(both(tcp::connect(client, address).unwrap()), "{address}: the client got something else");
    assert!(telling.recv_timeout(Duration::from_secs(60)).unwrap(), "{address}: the server got something else");
    2 * len
}

fn unread(stream: &TcpStream) -> usize {
    let mut byte = [0; 1];
    stream.peek(&mut byte).unwrap_or(0)
}

/// One byte at a time, each answered before the next.
fn dribble(client: &Pod, server: &Pod, address: SocketAddr) {
    let _server = Server::echo(server, address);
    let mut stream = tcp::connect(client, address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut echo = [0; 1];
    for byte in tcp::pattern(DRIBBLE, 300) {
        stream.write_all(&[byte]).unwrap();
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, [byte], "{address}");
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut echo).unwrap(), 0, "{address}: an end for an end");
}

/// Ends without a byte, from either side.
fn nothing_at_all(client: &Pod, server: &Pod, address: SocketAddr) {
    let (told, telling) = mpsc::channel();
    let _server = Server::start(server, address, move |mut stream| {
        told.send(stream.read_to_end(&mut Vec::new()).unwrap()).unwrap();
    });
    let answer = tcp::exchange(tcp::connect(client, address).unwrap(), b"").unwrap();
    assert!(answer.is_empty(), "{address}");
    assert_eq!(telling.recv_timeout(Duration::from_secs(30)).unwrap(), 0, "{address}");
}

/// A reset arrives as a reset, from either side, and also when nobody reads where it arrives.
fn resets(client: &Pod, server: &Pod, address: SocketAddr) {
    let (seen, seeing) = mpsc::channel();
    let _server = Server::start(server, address, move |mut stream| {
        let mut order = [0; 1];
        stream.read_exact(&mut order).unwrap();
        match &order {
            b"r" => tcp::reset(stream),
            b"w" => seen.send(stream.read(&mut order).map_err(|error| error.kind())).unwrap(),
            _ => {
                // Writes into buffers that nobody empties, until the reset is noticed.
                let chunk = vec![0; 1 << 20];
                let error = loop {
                    if let Err(error) = stream.write_all(&chunk) {
                        break error;
                    }
                };
                seen.send(Err(error.kind())).unwrap();
            }
        }
    });
    let ordered = |order: &[u8]| {
        let mut stream = tcp::connect(client, address).unwrap();
        stream.write_all(order).unwrap();
        stream
    };
    let by_server = ordered(b"r").read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(by_server, Err(io::ErrorKind::ConnectionReset), "{address}: from the server");

    let stream = ordered(b"w");
    thread::sleep(Duration::from_millis(50));
    tcp::reset(stream);
    let by_client = seeing.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(by_client, Err(io::ErrorKind::ConnectionReset), "{address}: from the client");

    let stream = ordered(b"f");
    wait_until("the server's flood arrives", Duration::from_secs(30), || unread(&stream) > 0);
    tcp::reset(stream);
    let error = seeing.recv_timeout(Duration::from_secs(30)).unwrap().unwrap_err();
    let expected = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    assert!(expected.contains(&error), "{address}: while the server only writes: {error:?}");
}
