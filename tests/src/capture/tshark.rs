//! What tshark, which shares no code with us, makes of a capture.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Command};

use super::Stream;

const TLS_1_3: &str = "0x0304";

/// Fields of the packets that pass a filter; every TCP port is read as TLS.
pub(super) fn fields(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(file).args(["-d", "tcp.port==1-65535,tls"]);
    command.args(["-o", "tcp.desegment_tcp_streams:TRUE", "-o", "tcp.reassemble_out_of_order:TRUE"]);
    command.args(["-o", "tls.desegment_ssl_records:TRUE", "-o", "tls.desegment_ssl_application_data:TRUE"]);
    command.args(["-Y", filter, "-T", "fields", "-E", "separator=/t", "-E", "aggregator=,"]);
    fields.iter().for_each(|field| {
        command.args(["-e", field]);
    });
    let output = command.output().expect("tshark is installed");
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// Asserts that TLS records account for all that our own reading found sent, and that each server chose TLS 1.3.
pub(super) fn assert_only_tls13(file: &Path, streams: &[Stream]) {
    let (mut sent, mut chosen) = (BTreeMap::new(), BTreeMap::<_, Vec<String>>::new());
    let wanted = ["ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport"];
    let wanted: Vec<_> = wanted
        .into_iter()
        .chain(["tls.record.length", "tls.handshake.type", "tls.handshake.extensions.supported_version"])
        .collect();
    for line in fields(file, "tls", &wanted) {
        let [ip, ip6, port, to, to6, to_port, lengths, kinds, versions] = line.as_slice() else {
            panic!("tshark gave {line:?}");
        };
        let (from, to) = (address(ip, ip6, port), address(to, to6, to_port));
        let bytes: usize = lengths.split(',').filter_map(|len| len.parse::<usize>().ok()).map(|len| len + 5).sum();
        *sent.entry((from, to)).or_insert(0) += bytes;
        if kinds.split(',').any(|kind| kind == "2") {
            chosen.entry((from, to)).or_default().extend(versions.split(',').map(str::to_owned));
        }
    }
    let mut ours = BTreeMap::<_, (usize, bool)>::new();
    for stream in streams.iter().filter(|stream| stream.has_payload()) {
        let (client, server) = (stream.client, stream.server);
        for (from, to, direction) in [(client, server, &stream.to_server), (server, client, &stream.to_client)] {
            // The last record of a connection that was cut may be incomplete; tshark counts none of it.
            let rest = direction.after_tls_records().unwrap_or_default();
            let sum = ours.entry((from, to)).or_default();
            sum.0 += direction.payload.len() - rest;
            sum.1 |= rest > 0;
        }
        if stream.to_client.payload.is_empty() {
            continue;
        }
        let versions = chosen.get(&(server, client)).cloned().unwrap_or_default();
        let hello = stream.to_client.payload.first() == Some(&22);
        assert!(
            !hello || (!versions.is_empty() && versions.iter().all(|version| version == TLS_1_3)),
            "{client} -> {server}: the server chose {versions:?}"
        );
    }
    for ((from, to), (bytes, cut)) in ours {
        let records = sent.get(&(from, to)).copied().unwrap_or_default();
        assert!(
            records == bytes || (cut && records > bytes),
            "{from} -> {to}: {bytes} bytes, of which {records} in TLS records"
        );
    }
}

/// An ICMP error quotes a packet, and tshark then gives two addresses: the first is the packet's own.
fn address(v4: &str, v6: &str, port: &str) -> SocketAddr {
    let ip = if v4.is_empty() { v6 } else { v4 };
    let first = |text: &str| text.split(',').next().unwrap_or_default().to_owned();
    SocketAddr::new(first(ip).parse().unwrap(), first(port).parse().unwrap())
}
