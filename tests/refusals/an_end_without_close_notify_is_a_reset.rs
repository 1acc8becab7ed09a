use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    sync::mpsc,
    time::Duration,
};

use kith_tests::{Sidecar, tcp};
use serde_json::json;

use crate::{
    mesh::{GHOST, LEGACY, Mesh, PARTNER, Settings},
    raw,
};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    CloseNotify,
    FinAlone,
    Garbage,
}

#[test]
fn a_fin_alone_is_a_reset_for_the_application_and_counted_in_both_directions() {
    let mesh = Mesh::start(&Settings::default());
    from_a_client(&mesh);
    from_a_server(&mesh, &mesh.partner, PARTNER, &[]);
    from_a_server(&mesh, &mesh.ghost, GHOST, &["kith/1"]);
    assert_eq!(truncations(&mesh.inbound, "inbound"), 1.0);
    assert_eq!(truncations(&mesh.outbound, "outbound"), 2.0);
}

fn truncations(sidecar: &Sidecar, direction: &str) -> f64 {
    sidecar.metric(&format!("kith_truncations_total{{direction=\"{direction}\"}}"))
}

/// The application behind the inbound sidecar says how its connection ended.
fn from_a_client(mesh: &Mesh) {
    let svid = mesh.svid(LEGACY);
    let (told, telling) = mpsc::channel();
    let at = mesh.web.at(7001);
    let _application = tcp::Server::start(&mesh.web, at, move |stream| told.send(read_on(stream)).unwrap());
    for (number, end) in (1..).zip([End::CloseNotify, End::FinAlone, End::Garbage]) {
        let mut client = raw::connect(&mesh.stranger, at, &svid, &[]).unwrap();
        raw::say(&mut client, b"marco").unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        match end {
            End::CloseNotify => {
                client.conn.send_close_notify();
                client.flush().unwrap();
                raw::cut(&client.sock);
            }
            End::FinAlone => raw::cut(&client.sock),
            End::Garbage => client.sock.write_all(&tcp::pattern(number, 1 << 20)).unwrap_or_default(),
        }
        check(end, telling.recv_timeout(PATIENCE).unwrap());
        recorded(&mesh.inbound, "inbound", end, at);
    }
}

/// The application in front of the outbound sidecar does.
fn from_a_server(mesh: &Mesh, pod: &kith_tests::Pod, path: &str, alpn: &'static [&'static str]) {
    for (port, end) in [(9001, End::CloseNotify), (9002, End::FinAlone), (9003, End::Garbage)] {
        let svid = mesh.svid(path);
        let at = pod.at(port);
        let _server = tcp::Server::start(pod, at, move |stream| {
            let mut tls = raw::accept(stream, &svid, alpn).unwrap();
            if !alpn.is_empty() {
                raw::say(&mut tls, &[0]).unwrap();
            }
            let mut question = [0; 5];
            tls.read_exact(&mut question).unwrap();
            raw::say(&mut tls, b"marco").unwrap();
            match end {
                End::CloseNotify => {
                    tls.conn.send_close_notify();
                    tls.flush().unwrap();
                    raw::cut(&tls.sock);
                }
                End::FinAlone => raw::cut(&tls.sock),
                End::Garbage => tls.sock.write_all(&tcp::pattern(1, 1 << 20)).unwrap_or_default(),
            }
            // The other direction stays open until the sidecar ends it.
            let _ = tls.read(&mut question);
        });
        let mut application = tcp::connect(&mesh.front, at).unwrap();
        application.write_all(b"polo!").unwrap();
        check(end, read_on(application));
        recorded(&mesh.outbound, "outbound", end, at);
    }
}

/// Reads five bytes, sends them back, and reads to the end.
fn read_on(mut stream: TcpStream) -> io::Result<usize> {
    let mut word = [0; 5];
    stream.read_exact(&mut word)?;
    stream.write_all(&word)?;
    stream.read_to_end(&mut Vec::new())
}

fn check(end: End, heard: io::Result<usize>) {
    let heard = heard.map_err(|error| error.kind());
    match end {
        End::CloseNotify => assert_eq!(heard, Ok(0), "an end in order"),
        End::FinAlone => assert_eq!(heard, Err(ErrorKind::ConnectionReset), "a FIN without close_notify"),
        End::Garbage => assert_eq!(heard, Err(ErrorKind::ConnectionReset), "garbage in place of a record"),
    }
}

fn recorded(sidecar: &Sidecar, direction: &str, end: End, at: std::net::SocketAddr) {
    let (outcome, reason) = match end {
        End::CloseNotify => ("closed", "closed"),
        End::FinAlone => ("reset", "truncated"),
        End::Garbage => ("reset", "wire_protocol"),
    };
    sidecar.wait_for_record(&json!({
        "direction": direction, "outcome": outcome, "reason": reason, "original_destination": at,
    }));
}
