use std::{
    io::Read,
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use kith_tests::{
    tcp::{self, Server},
    wait_until,
};
use rustix::process::Signal;

use crate::rig::{Load, Rig, echo, ping};

/// Five looks of the sidecar at the socket tables.
const LONG_ENOUGH_TO_END: Duration = Duration::from_secs(1);
/// Far from the drain's bound.
const PROMPTLY: Duration = Duration::from_secs(10);

#[test]
fn both_directions_are_served_while_the_application_listens_and_then_it_ends_with_0() {
    let rig = Rig::new();
    let peer = rig.front().ready();
    let draining = rig.web().args(&["--drain-bound", "120s"]).ready();
    let listening = [rig.server.at(7001), rig.server.at_v6(7001)];
    let application = listening.map(|on| Server::echo(&rig.server, on));
    let elsewhere = [rig.client.at(7002), rig.client.at_v6(7002)];
    let _others = elsewhere.map(|on| Server::echo(&rig.client, on));
    let ways = [(&rig.client, listening), (&rig.server, elsewhere)];
    let ways: Vec<_> = ways.into_iter().flat_map(|(from, to)| to.map(|to| (from, to))).collect();

    let open: Vec<TcpStream> = ways.iter().map(|(from, to)| tcp::connect(from, *to).unwrap()).collect();
    open.iter().for_each(|stream| ping(stream, b"before the drain").unwrap());
    let load: Vec<_> = ways.iter().map(|(from, to)| Load::start(from, *to)).collect();
    load.iter().for_each(|load| load.wait_for_more(5));

    draining.process().signal(Signal::TERM);
    wait_until("it is not ready, and says why", Duration::from_secs(5), || {
        let (ready, reason) = draining.readiness();
        !ready && reason.contains("draining")
    });
    load.iter().for_each(|load| load.wait_for_more(20));
    let listed = draining.status(&["connections"]);
    assert!(listed.as_array().unwrap().len() >= open.len(), "it still says whom it talks to: {listed}");
    for (from, to) in &ways {
        echo(from, *to, b"a new connection").unwrap_or_else(|error| panic!("new during the drain, to {to}: {error}"));
    }
    load.into_iter().for_each(Load::stop);
    for (mut stream, (_, to)) in open.iter().zip(&ways) {
        ping(stream, b"an open connection").unwrap_or_else(|error| panic!("open during the drain, to {to}: {error}"));
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "{to}: an orderly end");
    }
    drop(open);

    let connections = |direction: &str| draining.metric(&format!("kith_connections_open{{direction=\"{direction}\"}}"));
    wait_until("no connection is left", PROMPTLY, || connections("inbound") + connections("outbound") == 0.0);
    thread::sleep(LONG_ENOUGH_TO_END);
    assert!(draining.process().is_running(), "the application still listens, so it still serves");
    let [v4, v6] = application;
    drop(v4);
    thread::sleep(LONG_ENOUGH_TO_END);
    assert!(draining.process().is_running(), "the application still listens on IPv6");
    let last = tcp::connect(&rig.client, v6.address()).unwrap();
    ping(&last, b"the last connection").unwrap();
    drop(v6);
    thread::sleep(LONG_ENOUGH_TO_END);
    assert!(draining.process().is_running(), "a connection is still open");
    ping(&last, b"the last words").unwrap();
    last.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&last).read(&mut [0; 1]).unwrap(), 0, "an orderly end");

    let ended = draining.process().wait_for_exit(PROMPTLY);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("Drained"), "{}", ended.stderr);
    let records = draining.records();
    assert!(records.len() > 4 * 20, "every connection has its record: {}", records.len());
    let other = records.iter().find(|record| record["outcome"] != "closed");
    assert!(other.is_none(), "a connection did not end in order: {other:?}");
    drop(peer);
}

#[test]
fn with_nothing_to_wait_for_it_ends_at_once_also_before_it_was_ready() {
    let rig = Rig::new();
    let ready = rig.web().args(&["--drain-bound", "120s"]).ready();
    rig.agent.kill();
    let waiting = rig.front().args(&["--drain-bound", "120s"]).token("of no use").begin();
    waiting.process().wait_for_log("The sidecar accepts connections", PROMPTLY);
    for sidecar in [ready, waiting] {
        let ended = sidecar.stop(PROMPTLY);
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    }
}
