//! What every other test relies upon: were this not so, they would prove nothing.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, Shutdown},
    time::Duration,
};

use kith_tests::{
    Leaf, Net, Pki,
    peers::{self, Nginx, Postgres, s_client, s_server},
    tcp::{self, Server},
    wait_until,
};

#[test]
fn plaintext_is_found_in_both_families_and_across_packets() {
    let net = Net::new();
    let (client, server) = (net.pod("client"), net.pod("server"));
    let v4 = Server::echo(&server, (Ipv4Addr::UNSPECIFIED, 7000).into());
    let _v6 = Server::echo(&server, (Ipv6Addr::UNSPECIFIED, 7000).into());

    let capture = net.capture();
    let long = tcp::pattern(1, 1 << 20);
    assert_eq!(tcp::exchange(tcp::connect(&client, server.at(7000)).unwrap(), &long).unwrap(), long);
    let mut dribble = tcp::connect(&client, server.at_v6(7000)).unwrap();
    dribble.set_nodelay(true).unwrap();
    let mut answer = vec![0; 1];
    for byte in b"one byte at a time" {
        dribble.write_all(&[*byte]).unwrap();
        dribble.read_exact(&mut answer).unwrap();
    }
    dribble.shutdown(Shutdown::Both).unwrap();
    let captured = capture.stop();

    assert_eq!(v4.accepted(), 1);
    assert!(captured.contains(tcp::marker(1).as_bytes()));
    assert!(captured.contains(b"one byte at a time"));
    assert!(!captured.contains(b"two bytes at a time"));
    assert_eq!(captured.payload_len(), 2 * (long.len() + 18));
    assert_eq!(captured.ports(), [7000].into());
    captured.assert_nothing_beyond_tcp();
    assert!(std::panic::catch_unwind(|| captured.assert_only_tls13()).is_err());
}

#[test]
fn what_is_not_tcp_is_named() {
    let net = Net::new();
    let (client, server) = (net.pod("client"), net.pod("server"));
    let capture = net.capture();
    client.run_in_netns(|| {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.send_to(b"datagram", server.at(53)).unwrap();
    });
    let captured = capture.stop();
    assert_eq!(captured.others().len(), 1, "{:?}", captured.others());
    assert!(captured.contains(b"datagram"));
}

#[test]
fn tls_1_3_passes_for_tls_and_an_older_one_does_not() {
    let net = Net::new();
    let (client, server) = (net.pod("client"), net.pod("server"));
    let pki = Pki::new("one.example");
    let of = |pod: &kith_tests::Pod| pki.write(&Leaf::of(pki.id("n", pod.name())), &pod.dir_of("svid", 0), 0);
    let (client_files, server_files) = (of(&client), of(&server));

    for (version, passes) in [("-tls1_3", true), ("-tls1_2", false)] {
        let on = (Ipv4Addr::UNSPECIFIED, 8443).into();
        let serving = s_server(&server, on, &server_files).arg(version).spawn();
        serving.wait_for_log("ACCEPT", Duration::from_secs(10));
        let capture = net.capture();
        let mut asking = s_client(&client, server.at(8443), Some(&client_files)).arg(version).stdin_piped().spawn();
        let mut input = asking.stdin().unwrap();
        input.write_all(b"a secret between two\n").unwrap();
        wait_until("the server has what the client said", Duration::from_secs(10), || {
            serving.stdout().contains("a secret between two")
        });
        drop(input);
        let _ = asking.wait_for_exit(Duration::from_secs(10));
        drop(serving);
        let captured = capture.stop();
        assert!(!captured.contains(b"a secret between two"));
        let verdict = std::panic::catch_unwind(|| captured.assert_only_tls13());
        assert_eq!(verdict.is_ok(), passes, "{version}");
    }
}

#[test]
fn pods_run_real_servers_and_reach_outside() {
    let net = Net::new();
    let (client, server, outside) = (net.pod("client"), net.pod("server"), net.outside("outside"));
    let any = [(Ipv4Addr::UNSPECIFIED, 80).into(), (Ipv6Addr::UNSPECIFIED, 80).into()];
    let nginx = Nginx::start(&server, &any);
    let sum = nginx.put_pattern("file", 7, 1 << 20);
    let _outer = Nginx::start(&outside, &any);
    for host in server.addresses() {
        let path = client.dir_of("download", peers::APPLICATION_UID).join("file");
        let url = format!("http://{}/file", std::net::SocketAddr::from((host, 80)));
        peers::curl(&client, &url).arg("-o").arg(&path).run();
        assert_eq!(peers::sha256(&path), sum);
    }
    for (asking, asked) in [(&client, &outside), (&outside, &server)] {
        let peer = peers::curl(asking, &format!("http://{}/peer", asked.at(80))).run();
        assert_eq!(peer.trim(), asking.v4().to_string());
    }

    let _postgres = Postgres::start(&server, "*");
    let answer = peers::postgres_client(&client, "psql", &server.v6().to_string()).args(["-Atc", "select 6*7"]).run();
    assert_eq!(answer.trim(), "42");
    let refused = peers::postgres_client(&client, "psql", &server.v4().to_string()).env("PGPASSWORD", "wrong").output();
    assert!(refused.stderr.contains("password authentication failed"), "{}", refused.stderr);
}

#[test]
fn a_cut_wire_carries_nothing_until_it_is_mended() {
    let net = Net::new();
    let (client, server) = (net.pod("client"), net.pod("server"));
    let _echo = Server::echo(&server, (Ipv4Addr::UNSPECIFIED, 7000).into());
    let mut stream = tcp::connect(&client, server.at(7000)).unwrap();
    net.cut();
    stream.write_all(b"into the void").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut answer = [0; 13];
    assert_eq!(stream.read_exact(&mut answer).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    net.mend();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"into the void");
}

#[test]
fn nothing_is_left_behind() {
    let net = Net::new();
    let pod = net.pod("pod");
    let process = pod.command("sleep").arg("3600").spawn();
    let (dir, netns, pid) = (net.dir().to_path_buf(), pod.netns(), process.pid());
    assert!(netns.exists());
    drop(process);
    drop(pod);
    drop(net);
    assert!(!dir.exists());
    assert!(!netns.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}
