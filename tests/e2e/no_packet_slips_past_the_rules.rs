//! Address translation leaves alone what connection tracking can make nothing of. Such packets must not leave as they
//! are, nor reach the application.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use kith_proxy::redirect::{Settings, apply, plan};
use kith_tests::{
    Captured, Net, Pod,
    tcp::{self, Server},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const SLIPPED: &[u8] = b"this must not slip past";

fn init(pod: &Pod) {
    pod.run_in_netns(|| apply(&plan(&Settings::default()))).unwrap();
}

fn any(port: u16) -> [SocketAddr; 2] {
    [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()].map(|ip| (ip, port).into())
}

/// Sends segments of this connection from half the space of sequence numbers apart: one is far beyond the window, where
/// it is invalid; the other may be far before it, where it counts as a retransmission.
fn send_out_of_window(pod: &Pod, connection: &TcpStream) {
    [0x7000_0000, 0xf000_0000].into_iter().for_each(|seq| send_segment(pod, connection, seq));
}

fn send_segment(pod: &Pod, connection: &TcpStream, seq: u32) {
    let (from, to) = (connection.local_addr().unwrap(), connection.peer_addr().unwrap());
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(seq.to_be_bytes());
    segment.extend(1_u32.to_be_bytes());
    // Twenty bytes of header; ACK and PSH.
    segment.extend([0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(SLIPPED);
    let sum = checksum(from.ip(), to.ip(), &segment).to_be_bytes();
    segment[16..18].copy_from_slice(&sum);
    pod.run_in_netns(|| {
        let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::TCP)).unwrap();
        socket.bind(&SockAddr::from(SocketAddr::new(from.ip(), 0))).unwrap();
        // A filter in the output hook that drops the packet says so to the sender.
        match socket.send_to(&segment, &SockAddr::from(SocketAddr::new(to.ip(), 0))) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}"),
        }
    });
}

/// RFC 9293 §3.1.
fn checksum(from: IpAddr, to: IpAddr, segment: &[u8]) -> u16 {
    let octets = |ip| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut bytes = [octets(from), octets(to)].concat();
    bytes.extend(u32::try_from(segment.len()).unwrap().to_be_bytes());
    bytes.extend([0, 0, 0, 6]);
    bytes.extend(segment);
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn still_echoes(connection: TcpStream) -> bool {
    tcp::exchange(connection, b"still here").is_ok_and(|answer| answer == b"still here")
}

#[test]
fn an_invalid_packet_of_a_captured_connection_does_not_leave() {
    for dropping in [true, false] {
        let net = Net::new();
        let (pod, peer) = (net.pod("pod"), net.pod("peer"));
        let _echoes = any(15001).map(|on| Server::echo(&pod, on));
        init(&pod);
        if !dropping {
            pod.nft("flush chain inet kith outbound_invalid");
        }
        let capture = net.capture();
        for to in [peer.at(8080), peer.at_v6(8080)] {
            let connection = tcp::connect(&pod, to).unwrap();
            send_out_of_window(&pod, &connection);
            assert!(!dropping || still_echoes(connection));
        }
        assert_eq!(capture.stop().contains(SLIPPED), !dropping, "with the rule: {dropping}");
    }
}

#[test]
fn an_invalid_packet_does_not_reach_the_application() {
    for dropping in [true, false] {
        let net = Net::new();
        let (pod, peer) = (net.pod("pod"), net.pod("peer"));
        let _echoes = any(15006).map(|on| Server::echo(&pod, on));
        init(&pod);
        if !dropping {
            pod.nft("flush chain inet kith inbound_invalid\nflush chain inet kith outbound_invalid");
        }
        let capture = net.capture();
        for to in [pod.at(8080), pod.at_v6(8080)] {
            let connection = tcp::connect(&peer, to).unwrap();
            send_out_of_window(&peer, &connection);
            assert!(!dropping || still_echoes(connection));
        }
        // Where it gets through, the kernel, which knows of no such connection of the application's, resets it.
        let resets = |captured: Captured| captured.streams().iter().filter(|stream| stream.to_client.reset).count();
        assert_eq!(resets(capture.stop()), if dropping { 0 } else { 2 }, "with the rule: {dropping}");
    }
}

#[test]
fn without_a_sidecar_connections_are_refused_and_nothing_is_sent() {
    let net = Net::new();
    let (pod, peer) = (net.pod("pod"), net.pod("peer"));
    let _servers = [any(8080).map(|on| Server::echo(&pod, on)), any(8080).map(|on| Server::echo(&peer, on))];
    init(&pod);
    let capture = net.capture();
    for (from, to) in [(&pod, peer.at(8080)), (&pod, peer.at_v6(8080)), (&peer, pod.at(8080)), (&peer, pod.at_v6(8080))]
    {
        let began = Instant::now();
        let error = tcp::connect(from, to).expect_err("no one is there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{to}");
        assert!(began.elapsed() < Duration::from_secs(1), "{to}: {:?}", began.elapsed());
    }
    assert_eq!(capture.stop().payload_len(), 0);
}
