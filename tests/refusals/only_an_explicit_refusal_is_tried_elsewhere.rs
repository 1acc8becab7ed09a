use std::{
    io::{ErrorKind, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use kith_tests::{
    tcp::{self, Server, pattern},
    wait_for,
};
use serde_json::Value;

use crate::{
    mesh::{GHOST, Mesh, SERVICE, Settings, TARGET},
    raw,
};

/// One of two endpoints is chosen each time: that one of them never is has odds of one in 2^20.
const TRIES: usize = 20;
/// Said at once, and more than one record.
const EARLY: usize = 40_000;
/// What a client keeps, and sends, until it is answered.
const MOST_EARLY: usize = 64 << 10;

#[test]
fn after_a_refusal_the_same_bytes_go_elsewhere_and_after_silence_or_a_cut_nowhere() {
    let mesh = Mesh::start(&Settings { args: &["--answer-timeout", "2s"], ..Settings::default() });
    let _web = Server::echo(&mesh.web, mesh.web.at(TARGET));

    for refusal in [1, 2, 3] {
        let _ghost = ghost(&mesh, Some(refusal));
        assert_eq!(tries(&mesh), TRIES, "after answer {refusal} every connection reaches the other endpoint");
        retried(&mesh, true);
    }
    // Nobody listens there.
    assert_eq!(tries(&mesh), TRIES, "after a failed dial every connection reaches the other endpoint");
    retried(&mesh, true);
    {
        let _ghost = ghost(&mesh, None);
        let reached = tries(&mesh);
        assert!(0 < reached && reached < TRIES, "{reached} of {TRIES} chose the web at once, and the others no one");
        retried(&mesh, false);
    }
    no_more_than_is_kept_is_sent_before_the_answer(&mesh);
}

/// Takes connections, hears what is said at once, and then answers or cuts.
fn ghost(mesh: &Mesh, answer: Option<u8>) -> Server {
    let svid = mesh.svid(GHOST);
    Server::start(&mesh.ghost, mesh.ghost.at(TARGET), move |stream| {
        let Ok(mut tls) = raw::accept(stream, &svid, &["kith/1"]) else { return };
        let mut early = vec![0; EARLY];
        if tls.read_exact(&mut early).is_err() {
            return;
        }
        match answer {
            Some(code) => raw::say(&mut tls, &[code]).unwrap(),
            None => raw::cut(&tls.sock),
        }
        let _ = tls.read(&mut early);
    })
}

/// How many of many connections to the service are echoed what they say; the others are reset.
fn tries(mesh: &Mesh) -> usize {
    let early = pattern(3, EARLY);
    let echoed = (0..TRIES).filter(|_| {
        let mut stream = tcp::connect(&mesh.front, SERVICE.into()).unwrap();
        stream.write_all(&early).unwrap();
        let mut heard = vec![0; EARLY];
        match stream.read_exact(&mut heard) {
            Ok(()) => {
                assert!(heard == early, "the bytes are the same elsewhere");
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                false
            }
        }
    });
    echoed.count()
}

/// Looks at the records of the last tries.
fn retried(mesh: &Mesh, wanted: bool) {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let from = SEEN.fetch_add(TRIES, Ordering::Relaxed);
    let of_service = |record: &Value| record["original_destination"] == format!("{}:{}", SERVICE.0, SERVICE.1);
    let records = wait_for("all records of the tries", Duration::from_secs(20), || {
        let all: Vec<Value> = mesh.outbound.records().into_iter().filter(of_service).collect();
        (all.len() >= from + TRIES).then(|| all[from..].to_vec())
    });
    let elsewhere = records.iter().filter(|record| record["retries"] == 1).count();
    assert_eq!(elsewhere > 0, wanted, "{elsewhere} of {TRIES} were tried elsewhere: {records:#?}");
    for record in records.iter().filter(|record| record["outcome"] != "closed") {
        assert_eq!((&record["outcome"], &record["reason"]), (&"reset".into(), &"unanswered".into()), "{record}");
    }
}

fn no_more_than_is_kept_is_sent_before_the_answer(mesh: &Mesh) {
    let svid = mesh.svid(GHOST);
    let at = mesh.ghost.at(TARGET + 1);
    let early = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&early);
    let _ghost = Server::start(&mesh.ghost, at, move |stream| {
        let mut tls = raw::accept(stream, &svid, &["kith/1"]).unwrap();
        let mut buffer = [0; 1 << 16];
        while counter.load(Ordering::Relaxed) < MOST_EARLY {
            counter.fetch_add(tls.read(&mut buffer).unwrap(), Ordering::Relaxed);
        }
        // Whether more comes is the measurement.
        tls.sock.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        while let Ok(read @ 1..) = tls.read(&mut buffer) {
            counter.fetch_add(read, Ordering::Relaxed);
        }
        raw::say(&mut tls, &[0]).unwrap();
        tls.sock.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut rest = 0;
        while let Ok(read @ 1..) = tls.read(&mut buffer) {
            rest += read;
        }
        let all = counter.load(Ordering::Relaxed) + rest;
        raw::say(&mut tls, all.to_string().as_bytes()).unwrap();
        tls.conn.send_close_notify();
        let _ = tls.flush();
    });
    let mut stream = tcp::connect(&mesh.front, at).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        writer.write_all(&pattern(4, 1 << 20)).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    writing.join().unwrap();
    assert_eq!(all, (1 << 20).to_string(), "everything arrives once the answer is there");
    let early = early.load(Ordering::Relaxed);
    assert_eq!(early, MOST_EARLY, "what was sent before the answer");
}
