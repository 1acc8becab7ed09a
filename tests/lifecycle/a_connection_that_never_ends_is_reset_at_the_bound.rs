use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    sync::{Mutex, mpsc},
    time::{Duration, Instant},
};

use kith_tests::{
    Pod,
    tcp::{self, Server},
    wait_until,
};
use rustix::process::Signal;
use serde_json::json;

use crate::rig::{Rig, assert_reset};

const BOUND: Duration = Duration::from_secs(2);

/// Takes connections and leaves them to the test.
struct Holder {
    server: Server,
    taken: mpsc::Receiver<TcpStream>,
}

impl Holder {
    fn on(pod: &Pod, port: u16) -> Self {
        let (take, taken) = mpsc::channel();
        let take = Mutex::new(take);
        let server = Server::start(pod, pod.at(port), move |stream| take.lock().unwrap().send(stream).unwrap());
        Self { server, taken }
    }

    /// Both ends of a connection from there.
    fn connection(&self, from: &Pod) -> [TcpStream; 2] {
        let client = tcp::connect(from, self.server.address()).unwrap();
        (&client).write_all(b"hello").unwrap();
        [client, self.taken.recv_timeout(Duration::from_secs(20)).unwrap()]
    }
}

#[test]
fn the_sidecar_ends_with_0_and_nobody_takes_the_cut_for_an_end() {
    let rig = Rig::new();
    let outside = rig.net.outside("outside");
    let peer = rig.front().ready();
    let bound = format!("{}s", BOUND.as_secs());
    let draining = rig.web().args(&["--drain-bound", &bound, "--unknown-timeout", "60s"]).ready();
    let holders = [
        ("inbound", &rig.client, Holder::on(&rig.server, 7001)),
        ("outbound", &rig.server, Holder::on(&rig.client, 7002)),
        ("outbound in plaintext", &rig.server, Holder::on(&outside, 7003)),
    ];
    let mut ends = Vec::new();
    for (name, from, holder) in &holders {
        for way in ["idle", "half-closed by the client", "half-closed by the server", "full"] {
            let [client, server] = holder.connection(from);
            match way {
                "half-closed by the client" => client.shutdown(Shutdown::Write).unwrap(),
                "half-closed by the server" => server.shutdown(Shutdown::Write).unwrap(),
                "full" => fill(&client),
                _ => {}
            }
            // Who has been told of an orderly end has nothing more to hear.
            let (ended_for_server, ended_for_client) = (way.ends_with("the client"), way.ends_with("the server"));
            ends.push((client, !ended_for_client, format!("{name}, {way}: the client")));
            ends.push((server, !ended_for_server, format!("{name}, {way}: the server")));
        }
    }
    let unknown = tcp::connect(&rig.server, "10.88.200.200:80".parse().unwrap()).unwrap();
    ends.push((unknown, true, "one that waits for discovery".to_owned()));

    let began = Instant::now();
    draining.process().signal(Signal::TERM);
    let ended = draining.process().wait_for_exit(10 * BOUND);
    assert!(began.elapsed() >= BOUND, "it ended before its bound: {:?}", began.elapsed());
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    for (end, _, what) in ends.iter().filter(|(_, listens, _)| *listens) {
        assert_reset(end, what);
    }
    let records = draining.records();
    let aborted = records.iter().filter(|record| record["reason"] == "aborted").count();
    assert_eq!(aborted, 13, "every one has a record that says so: {records:#?}");
    peer.wait_for_record(&json!({"direction": "outbound", "outcome": "reset"}));
    peer.wait_for_record(&json!({"direction": "inbound", "outcome": "reset"}));
}

/// Sends until nothing more is taken.
fn fill(stream: &TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let block = [7; 1 << 16];
    let mut refused = 0;
    wait_until("the pipe is full", Duration::from_secs(20), || {
        refused = if (&*stream).write(&block).is_ok() { 0 } else { refused + 1 };
        refused > 20
    });
    stream.set_nonblocking(false).unwrap();
}
