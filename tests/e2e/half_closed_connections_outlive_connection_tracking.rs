//! Linux forgets a half-closed connection after a minute's silence, and with it where its packets belong: the answer of
//! a slow server would come from an address that the client never called. The sidecars' keepalive prevents that.

use std::{
    io::{self, Write as _},
    net::{Shutdown, SocketAddr},
    thread,
    time::Duration,
};

use kith_tests::{
    Agent, MeshFile, Net, Pod, Sidecar,
    tcp::{self, Server},
};

const FORGOTTEN_AFTER: &str = "4";
const SILENCE: Duration = Duration::from_secs(10);

fn slow_server(pod: &Pod, on: SocketAddr) -> Server {
    Server::start(pod, on, |mut stream| {
        let _ = io::copy(&mut &stream, &mut io::sink());
        // The silence is what is tested.
        thread::sleep(SILENCE);
        let _ = stream.write_all(b"a late answer");
        let _ = stream.shutdown(Shutdown::Write);
    })
}

/// What a client gets, in each family, that asks, ends its side, and waits.
fn answers(keepalive: &str) -> Vec<io::Result<Vec<u8>>> {
    let net = Net::new();
    let (control, client, server) = (net.pod("control"), net.pod("client"), net.pod("server"));
    for pod in [&client, &server] {
        for state in ["fin_wait", "close_wait"] {
            pod.set_sysctl(&format!("netfilter.nf_conntrack_tcp_timeout_{state}"), FORGOTTEN_AFTER);
        }
    }
    let agent = Agent::start(&control, &[]);
    let mesh = MeshFile::new(&net).meshed(&client, "/ns/shop/sa/front").meshed(&server, "/ns/shop/sa/web");
    let args = ["--keepalive-idle", keepalive, "--keepalive-interval", "1s"];
    let _sidecars = [(&server, "/ns/shop/sa/web"), (&client, "/ns/shop/sa/front")]
        .map(|(pod, path)| Sidecar::of(pod, &agent, mesh.path(), path).args(&args).ready());
    let addresses = [server.at(7000), server.at_v6(7000)];
    let _servers = addresses.map(|on| slow_server(&server, on));
    let ask = &|to| {
        let stream = tcp::connect(&client, to).unwrap();
        stream.set_read_timeout(Some(SILENCE * 2)).unwrap();
        tcp::exchange(stream, b"a question")
    };
    thread::scope(|scope| {
        let asking = addresses.map(|to| scope.spawn(move || ask(to)));
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    })
}

#[test]
fn a_late_answer_on_a_half_closed_connection_arrives() {
    thread::scope(|scope| {
        let with = scope.spawn(|| answers("1s"));
        let without = scope.spawn(|| answers("0s"));
        for answer in with.join().unwrap() {
            assert_eq!(answer.expect("the connection lives"), b"a late answer");
        }
        // The control: were nothing forgotten here, the above would prove nothing.
        for answer in without.join().unwrap() {
            assert!(answer.is_err(), "{answer:?}");
        }
    });
}
