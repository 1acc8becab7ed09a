//! What is on the wire.

mod pcap;
mod tshark;

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use socket2::{Domain, Protocol, Socket, Type};

pub use crate::capture::pcap::{Direction, Stream};
use crate::{
    Pod, Process,
    capture::pcap::Pcap,
    net::{BRIDGE, BRIDGE_V4, BROADCAST_V4},
    wait_until,
};

/// tcpdump on the bridge, running.
#[derive(Debug)]
pub struct Capture {
    wire: Pod,
    tcpdump: Process,
    file: PathBuf,
}

/// What was on the wire between a capture's start and its stop, without a gap.
#[derive(Debug)]
pub struct Captured {
    file: PathBuf,
    pcap: Pcap,
}

impl Capture {
    pub(crate) fn start(wire: &Pod) -> Self {
        let file = wire.dir_of("capture", 0).join("wire.pcap");
        // Not --immediate-mode: it takes a buffer slot of the largest possible packet for each small one. The marks at
        // the end see to it that nothing stays behind in the buffer.
        let tcpdump = wire
            .command("tcpdump")
            .args(["-i", BRIDGE, "-n", "-U", "-s", "0", "-B", "131072", "-Z", "root", "-w"])
            .arg(&file)
            .spawn();
        tcpdump.wait_for_log("listening on", Duration::from_secs(10));
        Self { wire: wire.clone(), tcpdump, file }
    }

    /// Ends the capture.
    ///
    /// # Panics
    /// When the kernel has dropped packets: then nothing could be said of them.
    #[must_use]
    pub fn stop(self) -> Captured {
        let mark = self.mark();
        let mut seen = 0;
        wait_until("the capture holds its last mark", Duration::from_secs(60), || {
            // Only the end that is new since the last look, and what a mark may have begun before it.
            let bytes = read_from(&self.file, seen);
            let found = contains(&bytes, mark.as_bytes());
            seen += u64::try_from(bytes.len().saturating_sub(mark.len())).unwrap();
            found
        });
        self.tcpdump.signal(Signal::INT);
        let summary = self.tcpdump.wait_for_exit(Duration::from_secs(30)).stderr;
        assert!(summary.contains("\n0 packets dropped by kernel"), "the capture has gaps:\n{summary}");
        Captured { pcap: Pcap::parse(fs::read(&self.file).unwrap()), file: self.file }
    }

    /// Puts an ICMP echo onto the wire that no one answers, and returns what it carries.
    fn mark(&self) -> String {
        let mark = format!("the end of {}", self.tcpdump.name());
        let mut packet = vec![8, 0, 0, 0, 0, 1, 0, 1];
        packet.extend_from_slice(mark.as_bytes());
        let sum = internet_checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
        self.wire.run_in_netns(|| {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
            socket.set_broadcast(true).unwrap();
            socket.bind(&SocketAddr::from((BRIDGE_V4, 0)).into()).unwrap();
            socket.send_to(&packet, &SocketAddrV4::new(BROADCAST_V4, 0).into()).unwrap();
        });
        mark
    }
}

impl Captured {
    /// The file, for programs that read captures.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Every TCP connection, reassembled, in the order of their beginnings.
    #[must_use]
    pub fn streams(&self) -> &[Stream] {
        &self.pcap.streams
    }

    /// The TCP connections that carried anything.
    pub fn with_payload(&self) -> impl Iterator<Item = &Stream> {
        self.streams().iter().filter(|stream| stream.has_payload())
    }

    /// Whether these bytes were on the wire: within a packet or, over the borders of packets, within a connection.
    #[must_use]
    pub fn contains(&self, needle: &[u8]) -> bool {
        contains(&self.pcap.bytes, needle)
            || self.with_payload().any(|stream| {
                contains(&stream.to_server.payload, needle) || contains(&stream.to_client.payload, needle)
            })
    }

    /// How many bytes of TCP payload there were, each counted once.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.with_payload().map(|stream| stream.to_server.payload.len() + stream.to_client.payload.len()).sum()
    }

    /// The servers' ports of the connections that carried anything.
    #[must_use]
    pub fn ports(&self) -> BTreeSet<u16> {
        self.with_payload().map(|stream| stream.server.port()).collect()
    }

    /// What was there beyond TCP, ARP, ICMP and the neighbour discovery and listener reports of ICMPv6.
    #[must_use]
    pub fn others(&self) -> &BTreeSet<String> {
        &self.pcap.others
    }

    /// Asserts that every TCP connection with payload is TLS 1.3 and nothing else, by tshark's reading and by ours: its
    /// records account for every byte, and its server's hello selects 1.3. Returns how many connections there were.
    ///
    /// # Panics
    /// When one is not, naming it.
    pub fn assert_only_tls13(&self) -> usize {
        for stream in self.with_payload() {
            let name = format!("{} -> {}", stream.client, stream.server);
            for (direction, to) in [(&stream.to_server, "to the server"), (&stream.to_client, "to the client")] {
                assert!(!direction.gap, "{name}: packets are missing {to}");
                let rest = direction.after_tls_records().unwrap_or_else(|bad| {
                    panic!("{name}: no TLS record at byte {bad} {to}: {:?}", direction.text_at(bad));
                });
                assert!(rest == 0 || !direction.finished, "{name}: ends within a record {to}");
            }
        }
        tshark::assert_only_tls13(&self.file, &self.pcap.streams);
        self.with_payload().count()
    }

    /// Asserts that nothing but TCP, ARP, ICMP and neighbour discovery was on the wire.
    ///
    /// # Panics
    /// When something was, naming it.
    pub fn assert_nothing_beyond_tcp(&self) {
        assert!(self.others().is_empty(), "on the wire beyond TCP: {:?}", self.others());
    }

    /// One line of fields, separated by tabs, for every packet that passes this tshark filter; every TCP port is read as
    /// TLS.
    #[must_use]
    pub fn tshark(&self, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
        tshark::fields(&self.file, filter, fields)
    }
}

fn read_from(path: &Path, start: u64) -> Vec<u8> {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::new();
    if let Ok(mut file) = fs::File::open(path) {
        file.seek(SeekFrom::Start(start)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
    }
    bytes
}

/// Whether the needle is in the haystack, quickly for large ones.
#[must_use]
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

/// RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
