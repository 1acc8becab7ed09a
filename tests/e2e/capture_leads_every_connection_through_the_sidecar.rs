//! The rules as an application meets them, with listeners in the sidecar's place.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use kith_proxy::redirect::{Settings, apply, plan};
use kith_tests::{
    Net, Pod,
    peers::APPLICATION_UID,
    tcp::{self, Server},
    wait_until,
};

const SIDECAR_UID: u32 = 5484;

/// What stands in the sidecar's place: it notes the original destinations, and says on which port it was met.
struct Captor {
    seen: Arc<Mutex<Vec<Option<SocketAddr>>>>,
    _servers: Vec<Server>,
}

impl Captor {
    fn on(pod: &Pod, port: u16) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let servers = any.map(|ip| {
            let seen = Arc::clone(&seen);
            Server::start(pod, (ip, port).into(), move |stream| {
                let own = stream.local_addr().ok();
                let original = tcp::original_destination(&stream).ok().filter(|original| Some(*original) != own);
                seen.lock().unwrap().push(original);
                answer(&stream, "captured");
            })
        });
        Self { seen, _servers: servers.into() }
    }

    fn take(&self) -> Vec<Option<SocketAddr>> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn answer(mut stream: &TcpStream, text: &str) {
    io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
}

/// A server that is met when nothing captures.
fn direct(pod: &Pod, port: u16) -> Vec<Server> {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    any.map(|ip| Server::start(pod, (ip, port).into(), |stream| answer(&stream, "direct"))).into()
}

/// Who answers there, asked by a program of this user.
fn who_answers(pod: &Pod, uid: u32, to: SocketAddr) -> String {
    let target = match to.ip() {
        IpAddr::V4(ip) => format!("TCP4:{ip}:{},connect-timeout=5", to.port()),
        IpAddr::V6(ip) => format!("TCP6:[{ip}]:{},connect-timeout=5", to.port()),
    };
    let asked = pod.command("socat").args(["-u", &target, "STDOUT"]).uid(uid).output();
    if asked.status.success() { asked.text() } else { "nobody".to_owned() }
}

fn init(pod: &Pod, settings: &Settings) {
    pod.run_in_netns(|| apply(&plan(settings))).unwrap();
}

#[test]
fn outbound_meets_the_sidecar_and_knows_where_it_was_going() {
    let net = Net::new();
    let (pod, peer, outside) = (net.pod("pod"), net.pod("peer"), net.outside("outside"));
    let _servers = [direct(&peer, 8080), direct(&outside, 8080)];
    let captor = Captor::on(&pod, 15001);
    init(&pod, &Settings::default());

    let nobody_there: SocketAddr = "10.96.0.10:443".parse().unwrap();
    let nobody_there_v6: SocketAddr = "[fd96::10]:443".parse().unwrap();
    let everywhere =
        [peer.at(8080), peer.at_v6(8080), outside.at(8080), outside.at_v6(8080), nobody_there, nobody_there_v6];
    for to in everywhere {
        for uid in [APPLICATION_UID, 0] {
            assert_eq!(who_answers(&pod, uid, to), "captured", "uid {uid} to {to}");
            assert_eq!(captor.take(), [Some(to)]);
        }
    }
    for to in [peer.at(8080), peer.at_v6(8080), outside.at(8080), outside.at_v6(8080)] {
        assert_eq!(who_answers(&pod, SIDECAR_UID, to), "direct", "the sidecar to {to}");
    }
    assert_eq!(captor.take(), []);
}

#[test]
fn inbound_meets_the_sidecar_and_knows_where_it_was_going() {
    let net = Net::new();
    let (pod, peer) = (net.pod("pod"), net.pod("peer"));
    let _application = direct(&pod, 8080);
    let captor = Captor::on(&pod, 15006);
    init(&pod, &Settings::default());

    // Whether anyone listens there, be it the sidecar's own other port, makes no difference.
    for port in [8080, 9999, 15001, 15006, 15009] {
        for to in [pod.at(port), pod.at_v6(port)] {
            assert_eq!(who_answers(&peer, 0, to), "captured", "{to}");
            let seen = captor.take();
            let own = port == 15006;
            assert_eq!(seen, [Some(to).filter(|_| !own)]);
        }
    }
}

#[test]
fn skipped_ports_and_networks_are_left_alone() {
    let net = Net::new();
    let (pod, peer, outside) = (net.pod("pod"), net.pod("peer"), net.outside("outside"));
    let _captors = [Captor::on(&pod, 15001), Captor::on(&pod, 15006)];
    let mut servers = Vec::new();
    for port in [22, 8080, 15020, 15021, 15022] {
        servers.push((direct(&pod, port), direct(&peer, port), direct(&outside, port)));
    }
    let networks = [format!("{}/32", outside.v4()), "2001:db8::/64".to_owned()];
    let settings = Settings {
        skip_inbound_ports: vec![22],
        skip_outbound_ports: vec![22],
        skip_outbound_networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        ..Settings::default()
    };
    init(&pod, &settings);

    for to in [peer.at(22), peer.at_v6(22), outside.at(8080), outside.at_v6(8080)] {
        assert_eq!(who_answers(&pod, APPLICATION_UID, to), "direct", "{to}");
    }
    for port in [22, 15020, 15021, 15022] {
        for to in [pod.at(port), pod.at_v6(port)] {
            assert_eq!(who_answers(&peer, 0, to), "direct", "{to}");
        }
    }
    for to in [peer.at(8080), peer.at_v6(8080), peer.at(15020)] {
        assert_eq!(who_answers(&pod, APPLICATION_UID, to), "captured", "{to}");
    }
}

#[test]
fn loopback_and_the_pods_own_addresses_are_left_alone() {
    let net = Net::new();
    let pod = net.pod("pod");
    let _captors = [Captor::on(&pod, 15001), Captor::on(&pod, 15006)];
    let _application = direct(&pod, 8080);
    init(&pod, &Settings::default());
    let loopback = [(Ipv4Addr::LOCALHOST, 8080).into(), (Ipv6Addr::LOCALHOST, 8080).into()];
    for to in loopback.into_iter().chain([pod.at(8080), pod.at_v6(8080)]) {
        assert_eq!(who_answers(&pod, APPLICATION_UID, to), "direct", "{to}");
    }
}

#[test]
fn the_self_check_meets_the_sidecar_for_every_user() {
    let net = Net::new();
    let pod = net.pod("pod");
    let captor = Captor::on(&pod, 15001);
    let checks: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, 15009).into(), (Ipv6Addr::LOCALHOST, 15009).into()];
    for to in checks {
        assert_eq!(who_answers(&pod, SIDECAR_UID, to), "nobody", "{to} before init");
    }
    init(&pod, &Settings::default());
    for to in checks {
        for uid in [SIDECAR_UID, APPLICATION_UID, 0] {
            assert_eq!(who_answers(&pod, uid, to), "captured", "uid {uid} to {to}");
            assert_eq!(captor.take(), [Some(to)]);
        }
    }
}

#[test]
fn without_ipv6_in_the_pod_ipv4_is_captured_all_the_same() {
    let net = Net::new();
    let (pod, peer) = (net.pod_without_ipv6("pod"), net.pod("peer"));
    let any = (Ipv4Addr::UNSPECIFIED, 15001).into();
    let _captor = Server::start(&pod, any, |stream| answer(&stream, "captured"));
    init(&pod, &Settings::default());
    assert_eq!(who_answers(&pod, APPLICATION_UID, peer.at(8080)), "captured");
}

/// Bulk in both directions and every kind of ending, through rules that drop what connection tracking calls invalid.
#[test]
fn valid_packets_of_every_kind_of_ending_pass() {
    let net = Net::new();
    let (pod, peer) = (net.pod("pod"), net.pod("peer"));
    init(&pod, &Settings::default());
    let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
    let _echoes: Vec<_> =
        any.iter().flat_map(|ip| [15001, 15006].map(|port| Server::echo(&pod, (*ip, port).into()))).collect();
    let bulk = tcp::pattern(3, 8 << 20);
    for (from, to) in [(&pod, peer.at(80)), (&pod, peer.at_v6(80)), (&peer, pod.at(80)), (&peer, pod.at_v6(80))] {
        let answer = tcp::exchange(tcp::connect(from, to).unwrap(), &bulk).unwrap();
        assert!(answer == bulk, "{} of {} bytes", answer.len(), bulk.len());
    }
}

/// The peer is not reading, its buffers are full, and the reset must arrive all the same.
#[test]
fn a_reset_arrives_through_the_rules_also_under_back_pressure() {
    let net = Net::new();
    let (pod, peer) = (net.pod("pod"), net.pod("peer"));
    init(&pod, &Settings::default());
    let held = Arc::new(Mutex::new(Vec::new()));
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let _servers: Vec<_> = any
        .iter()
        .flat_map(|ip| [15001, 15006].map(|port| SocketAddr::from((*ip, port))))
        .map(|on| {
            let held = Arc::clone(&held);
            Server::start(&pod, on, move |stream| held.lock().unwrap().push(stream))
        })
        .collect();

    for (from, to) in [(&pod, peer.at(80)), (&pod, peer.at_v6(80)), (&peer, pod.at(80)), (&peer, pod.at_v6(80))] {
        // The side that accepted does not read, and the side that connected fills the pipe, then resets.
        let client = full(from, to);
        let server = wait_accepted(&held);
        tcp::reset(client);
        assert_reset(&server);
        // The other way round.
        let client = full(from, to);
        tcp::reset(wait_accepted(&held));
        assert_reset(&client);
    }
}

fn full(from: &Pod, to: SocketAddr) -> TcpStream {
    let client = tcp::connect(from, to).unwrap();
    client.set_nonblocking(true).unwrap();
    let block = [0; 1 << 16];
    let mut full = 0;
    // What is in flight makes room once more.
    wait_until("the pipe is full", Duration::from_secs(20), || {
        match io::Write::write(&mut &client, &block) {
            Ok(_) => full = 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => full += 1,
            Err(error) => panic!("{to}: {error}"),
        }
        full > 20
    });
    client
}

fn wait_accepted(held: &Mutex<Vec<TcpStream>>) -> TcpStream {
    kith_tests::wait_for("the connection is accepted", Duration::from_secs(5), || held.lock().unwrap().pop())
}

fn assert_reset(stream: &TcpStream) {
    let error = kith_tests::wait_for("the reset arrives", Duration::from_secs(5), || stream.take_error().unwrap());
    assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
}
