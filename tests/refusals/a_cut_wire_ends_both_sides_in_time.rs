use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use kith_tests::tcp::{self, Server};
use serde_json::json;

use crate::mesh::{Mesh, Settings, assert_echo, is_reset};

const USER_TIMEOUT: Duration = Duration::from_secs(3);
const AT_MOST: Duration = Duration::from_secs(30);
const BUSY: u16 = 7001;
const IDLE: u16 = 7005;

/// When one end of an application's connection heard of its end, and how.
type Heard = (Instant, ErrorKind);

#[test]
fn when_the_wire_is_cut_both_ends_end_at_the_user_timeout() {
    let args =
        ["--user-timeout", "3s", "--keepalive-idle", "1s", "--keepalive-interval", "1s", "--connect-timeout", "2s"];
    let mesh = Mesh::start(&Settings { args: &args, ..Settings::default() });
    let (_busy_server, busy) = ends(&mesh, BUSY, talk);
    let (_idle_server, idle) = ends(&mesh, IDLE, listen);

    // As long as the wire is whole they live, the idle one too, beyond the timeout.
    thread::sleep(USER_TIMEOUT + Duration::from_secs(2));
    for end in busy.iter().chain(&idle) {
        assert!(end.try_recv().is_err(), "an end before the wire was cut");
    }
    let cut = Instant::now();
    mesh.net.cut();
    let all = [("busy", &busy[0]), ("busy", &busy[1]), ("idle", &idle[0]), ("idle", &idle[1])];
    for (name, end) in all {
        let (when, kind) = end.recv_timeout(AT_MOST).unwrap_or_else(|_| panic!("a {name} end never heard of the cut"));
        let after = when.saturating_duration_since(cut);
        println!("{name}: {kind:?} after {after:?}");
        assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{name}: {kind:?}");
        assert!(after < AT_MOST, "{name}: after {after:?}");
    }
    for port in [BUSY, IDLE] {
        let at = mesh.web.at(port);
        for (direction, sidecar) in [("outbound", &mesh.outbound), ("inbound", &mesh.inbound)] {
            sidecar.wait_for_record(&json!({
                "direction": direction, "outcome": "reset", "reason": "wire_timeout", "original_destination": at,
            }));
        }
    }
    let unreached = tcp::connect(&mesh.front, mesh.web.at(BUSY));
    assert!(is_reset(unreached, b"said at once"), "nobody is reached over a cut wire");
    mesh.outbound.wait_for_record(&json!({ "direction": "outbound", "outcome": "failed", "reason": "dial_timeout" }));

    mesh.net.mend();
    assert_echo(&tcp::connect(&mesh.front, mesh.web.at(BUSY)).unwrap(), b"!", "once the wire is mended");
    assert_eq!((mesh.outbound.process().is_running(), mesh.inbound.process().is_running()), (true, true));
}

/// Opens a connection from the front to the web, both of whose ends do this until they hear of its end.
fn ends(mesh: &Mesh, port: u16, end: fn(TcpStream, &Sender<Heard>)) -> (Server, [Receiver<Heard>; 2]) {
    let ((server_told, by_server), (client_told, by_client)) = (mpsc::channel(), mpsc::channel());
    let server = Server::start(&mesh.web, mesh.web.at(port), move |stream| end(stream, &server_told));
    let stream = tcp::connect(&mesh.front, mesh.web.at(port)).unwrap();
    thread::spawn(move || end(stream, &client_told));
    (server, [by_server, by_client])
}

/// Says a byte every now and then, and hears what the other says.
fn talk(mut stream: TcpStream, told: &Sender<Heard>) {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut buffer = [0; 64];
    loop {
        let error = match stream.write_all(b"!").and_then(|()| stream.read(&mut buffer)) {
            Ok(0) => ErrorKind::UnexpectedEof,
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => error.kind(),
        };
        let _ = told.send((Instant::now(), error));
        return;
    }
}

/// Says nothing and waits.
fn listen(mut stream: TcpStream, told: &Sender<Heard>) {
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let kind = stream.read(&mut [0; 64]).map_or_else(|error| error.kind(), |_| ErrorKind::UnexpectedEof);
    let _ = told.send((Instant::now(), kind));
}
