//! Reads a capture file: Ethernet, IP and TCP as far as it takes to put connections together again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Range,
};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A capture, taken apart.
#[derive(Debug)]
pub(super) struct Pcap {
    pub(super) bytes: Vec<u8>,
    pub(super) streams: Vec<Stream>,
    pub(super) others: BTreeSet<String>,
}

/// A TCP connection as it was on the wire.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Who opened it.
    pub client: SocketAddr,
    /// Whom it was opened to.
    pub server: SocketAddr,
    /// What the client sent.
    pub to_server: Direction,
    /// What the server sent.
    pub to_client: Direction,
}

/// One direction of a TCP connection.
#[derive(Debug, Clone, Default)]
pub struct Direction {
    /// The bytes, up to the first gap.
    pub payload: Vec<u8>,
    /// Whether bytes are missing in the capture.
    pub gap: bool,
    /// Whether it ended with a FIN.
    pub finished: bool,
    /// Whether it ended with a reset.
    pub reset: bool,
}

/// A TCP segment.
struct Segment {
    from: SocketAddr,
    to: SocketAddr,
    seq: u32,
    flags: u8,
    payload: Range<usize>,
}

impl Stream {
    /// Whether anything was sent in it.
    #[must_use]
    pub fn has_payload(&self) -> bool {
        !self.to_server.is_empty() || !self.to_client.is_empty()
    }
}

impl Direction {
    fn is_empty(&self) -> bool {
        self.payload.is_empty() && !self.gap
    }

    /// Walks over TLS records (RFC 8446 §5.1) and returns how many bytes of an unfinished one are left at the end.
    ///
    /// # Errors
    /// The position at which no record begins.
    pub fn after_tls_records(&self) -> Result<usize, usize> {
        let mut at = 0;
        while let Some([kind, major, minor, high, low]) = self.payload.get(at..at + 5) {
            let len = usize::from(*high) << 8 | usize::from(*low);
            if !(20..=23).contains(kind) || *major != 3 || !(1..=3).contains(minor) || len == 0 || len > 16384 + 256 {
                return Err(at);
            }
            if at + 5 + len > self.payload.len() {
                break;
            }
            at += 5 + len;
        }
        let rest = self.payload.len() - at;
        let header = self.payload.get(at).is_none_or(|kind| (20..=23).contains(kind));
        if header { Ok(rest) } else { Err(at) }
    }

    /// Some text from there, for a message.
    #[must_use]
    pub fn text_at(&self, at: usize) -> String {
        let end = self.payload.len().min(at + 64);
        String::from_utf8_lossy(&self.payload[at..end]).into_owned()
    }
}

impl Pcap {
    pub(super) fn parse(bytes: Vec<u8>) -> Self {
        assert_eq!(bytes.get(..4), Some([0xd4, 0xc3, 0xb2, 0xa1].as_slice()), "a capture in microseconds");
        let mut others = BTreeSet::new();
        let mut connections = Connections::default();
        let mut at = 24;
        while at + 16 <= bytes.len() {
            let captured = usize::try_from(u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap())).unwrap();
            let frame = at + 16..at + 16 + captured;
            assert!(frame.end <= bytes.len(), "the capture ends within a packet");
            at = frame.end;
            match dissect(&bytes, frame) {
                Ok(Some(segment)) => connections.add(segment),
                Ok(None) => {}
                Err(other) => {
                    others.insert(other);
                }
            }
        }
        let streams = connections.all.into_iter().map(|connection| connection.assemble(&bytes)).collect();
        Self { bytes, streams, others }
    }
}

/// A TCP segment, or nothing of interest, or what does not belong on the wire.
fn dissect(bytes: &[u8], frame: Range<usize>) -> Result<Option<Segment>, String> {
    let ethertype = u16::from_be_bytes([bytes[frame.start + 12], bytes[frame.start + 13]]);
    let ip = frame.start + 14;
    match ethertype {
        0x0806 => Ok(None),
        0x0800 => {
            let header = usize::from(bytes[ip] & 0x0f) * 4;
            let total = usize::from(u16::from_be_bytes([bytes[ip + 2], bytes[ip + 3]]));
            let address = |at: usize| IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap()));
            let addresses = (address(ip + 12), address(ip + 16));
            match bytes[ip + 9] {
                6 => Ok(Some(segment(bytes, ip + header..ip + total, addresses))),
                1 => Ok(None),
                protocol => Err(format!("IPv4 protocol {protocol} from {} to {}", addresses.0, addresses.1)),
            }
        }
        0x86dd => {
            let total = 40 + usize::from(u16::from_be_bytes([bytes[ip + 4], bytes[ip + 5]]));
            let address = |at: usize| IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap()));
            let addresses = (address(ip + 8), address(ip + 24));
            match (bytes[ip + 6], bytes[ip + 40]) {
                (6, _) => Ok(Some(segment(bytes, ip + 40..ip + total, addresses))),
                // Listener reports come behind a hop-by-hop header with the router alert (RFC 3810 §5).
                (0, 58) if (130..=132).contains(&bytes[ip + 48]) || bytes[ip + 48] == 143 => Ok(None),
                (58, 1..=4 | 128..=136 | 143) => Ok(None),
                (header, _) => Err(format!("IPv6 header {header} from {} to {}", addresses.0, addresses.1)),
            }
        }
        other => Err(format!("Ethernet type {other:#06x}")),
    }
}

fn segment(bytes: &[u8], tcp: Range<usize>, (from, to): (IpAddr, IpAddr)) -> Segment {
    let at = tcp.start;
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let header = usize::from(bytes[at + 12] >> 4) * 4;
    Segment {
        from: (from, port(at)).into(),
        to: (to, port(at + 2)).into(),
        seq: u32::from_be_bytes(bytes[at + 4..at + 8].try_into().unwrap()),
        flags: bytes[at + 13],
        payload: at + header..tcp.end,
    }
}

#[derive(Default)]
struct Connections {
    all: Vec<Connection>,
    latest: HashMap<(SocketAddr, SocketAddr), usize>,
}

struct Connection {
    client: SocketAddr,
    server: SocketAddr,
    halves: [Half; 2],
}

#[derive(Default)]
struct Half {
    /// The sequence number of the first byte.
    start: Option<u32>,
    pieces: BTreeMap<u32, Range<usize>>,
    finished: bool,
    reset: bool,
}

impl Connections {
    fn add(&mut self, segment: Segment) {
        let opens = segment.flags & (SYN | ACK) == SYN;
        let forward = self.latest.get(&(segment.from, segment.to)).copied();
        let backward = self.latest.get(&(segment.to, segment.from)).copied();
        let known = forward.or(backward);
        // The same ports again, with a new beginning, are a new connection; with the same one, a retransmission.
        let again = |at: usize| self.all[at].halves[0].start == Some(segment.seq.wrapping_add(1));
        let at = match known {
            Some(at) if !opens || again(at) => at,
            _ => {
                let answers = segment.flags & (SYN | ACK) == SYN | ACK;
                let (client, server) = if answers { (segment.to, segment.from) } else { (segment.from, segment.to) };
                self.latest.remove(&(server, client));
                self.latest.insert((client, server), self.all.len());
                self.all.push(Connection { client, server, halves: Default::default() });
                self.all.len() - 1
            }
        };
        let connection = &mut self.all[at];
        let half = &mut connection.halves[usize::from(segment.from != connection.client)];
        half.add(&segment);
    }
}

impl Half {
    fn add(&mut self, segment: &Segment) {
        let first = segment.seq.wrapping_add(u32::from(segment.flags & SYN != 0));
        self.finished |= segment.flags & FIN != 0;
        self.reset |= segment.flags & RST != 0;
        if segment.flags & RST != 0 {
            return;
        }
        let start = *self.start.get_or_insert(first);
        let offset = first.wrapping_sub(start);
        // A keepalive repeats the byte before; nothing new can be that far ahead.
        if segment.payload.is_empty() || offset > u32::MAX / 2 {
            return;
        }
        let longer = self.pieces.get(&offset).is_none_or(|piece| piece.len() < segment.payload.len());
        if longer {
            self.pieces.insert(offset, segment.payload.clone());
        }
    }

    fn assemble(self, bytes: &[u8]) -> Direction {
        let mut payload = Vec::new();
        let mut gap = false;
        for (offset, piece) in self.pieces {
            let have = payload.len();
            let offset = usize::try_from(offset).unwrap();
            gap |= offset > have;
            if gap {
                break;
            }
            if let Some(new) = bytes[piece].get(have - offset..) {
                payload.extend_from_slice(new);
            }
        }
        Direction { payload, gap, finished: self.finished, reset: self.reset }
    }
}

impl Connection {
    fn assemble(self, bytes: &[u8]) -> Stream {
        let [to_server, to_client] = self.halves.map(|half| half.assemble(bytes));
        Stream { client: self.client, server: self.server, to_server, to_client }
    }
}
