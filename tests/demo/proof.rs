//! What a capture says of a conversation.

use std::collections::BTreeMap;

use kith_tests::Captured;
use memchr::memmem;

/// The ServerHello's choice of TLS 1.3 (RFC 8446 §4.2.1).
const TLS_1_3: &str = "0x0304";
/// X25519MLKEM768, as tshark prints groups.
const X25519MLKEM768: &str = "4588";

/// How often these bytes are in what either side of any connection sent.
pub(crate) fn hits(captured: &Captured, needle: &str) -> usize {
    let count = |payload: &[u8]| memmem::find_iter(payload, needle).count();
    captured.with_payload().map(|stream| count(&stream.to_server.payload) + count(&stream.to_client.payload)).sum()
}

/// What the servers chose, as tshark reads their hellos, and how many did.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) tls13: usize,
    pub(crate) post_quantum: usize,
    pub(crate) all: usize,
}

pub(crate) fn chosen(captured: &Captured) -> Chosen {
    let fields = ["tls.handshake.extensions.supported_version", "tls.handshake.extensions_key_share_group"];
    let hellos = captured.tshark("tls.handshake.type == 2", &fields);
    let with = |field: usize, value: &str| hellos.iter().filter(|hello| hello[field] == value).count();
    Chosen { tls13: with(0, TLS_1_3), post_quantum: with(1, X25519MLKEM768), all: hellos.len() }
}

/// How many connections there were to each port, in the order of ports.
pub(crate) fn by_port(captured: &Captured) -> String {
    let mut ports = BTreeMap::<u16, usize>::new();
    captured.with_payload().for_each(|stream| *ports.entry(stream.server.port()).or_default() += 1);
    let counted = ports.iter().map(|(port, count)| format!("{count} to {port}"));
    counted.collect::<Vec<_>>().join(", ")
}

/// What the server said on the first connection to this port.
pub(crate) fn answer(captured: &Captured, port: u16) -> &[u8] {
    let stream = captured.with_payload().find(|stream| stream.server.port() == port);
    &stream.unwrap_or_else(|| panic!("nobody spoke to port {port}")).to_client.payload
}

/// The last of the TLS records that a payload consists of.
pub(crate) fn last_record(payload: &[u8]) -> &[u8] {
    let mut rest = payload;
    loop {
        let length = 5 + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        let next = &rest[length..];
        if next.is_empty() {
            return rest;
        }
        rest = next;
    }
}

/// Bytes as numbers, the first few.
pub(crate) fn numbers(bytes: &[u8]) -> String {
    let numbers: Vec<_> = bytes.iter().take(22).map(|byte| format!("{byte:02x}")).collect();
    format!("{} …", numbers.join(" "))
}
