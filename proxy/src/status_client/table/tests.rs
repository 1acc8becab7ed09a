use std::time::UNIX_EPOCH;

use super::*;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn an_identity() -> IdentityView {
    IdentityView {
        spiffe_id: "spiffe://example.org/ns/shop/sa/web".to_owned(),
        holder: HolderView { pod_name: "web-0".to_owned(), node_name: "n1".to_owned(), ..HolderView::default() },
        version: "0.1.0".to_owned(),
        serial: "0a".to_owned(),
        issuer: "CN=example.org issuing".to_owned(),
        not_before: Some(Moment(at(0))),
        not_after: Some(Moment(at(14_400))),
        key_type: "ECDSA P-256".to_owned(),
        attestation: "join_token".to_owned(),
        last_rotation: None,
        next_rotation: Some(Moment(at(7_205))),
        rotations: Some(0),
        last_error: None,
        failing_since: None,
    }
}

#[test]
fn an_identity_says_until_when() {
    let text = identity(&an_identity(), at(5));
    for line in [
        "SPIFFE ID     spiffe://example.org/ns/shop/sa/web\n",
        "held by       pod web-0, node n1\n",
        "valid from    2027-01-15T08:00:00Z (5s ago)\n",
        "valid until   2027-01-15T12:00:00Z (in 3h 59m)\n",
        "renewed       -\n",
        "next renewal  2027-01-15T10:00:05Z (in 2h)\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(!text.contains("error"), "{text}");
}

#[test]
fn a_failure_is_said_and_steers_no_terminal() {
    let failing = IdentityView {
        last_error: Some("no\u{1b}[2J answer".to_owned()),
        failing_since: Some(Moment(at(0))),
        ..an_identity()
    };
    let text = identity(&failing, at(60));
    assert!(text.contains("failing since 2027-01-15T08:00:00Z (1m ago)\n"), "{text}");
    assert!(text.contains("last error    no\u{fffd}[2J answer\n"), "{text}");
}

fn a_connection() -> ConnectionView {
    ConnectionView {
        direction: "outbound",
        local_spiffe_id: String::new(),
        peer_spiffe_id: String::new(),
        original_destination: "10.0.0.2:80".to_owned(),
        client_address: "10.0.0.1:4000".to_owned(),
        dialled_address: String::new(),
        tls_version: String::new(),
        cipher_suite: String::new(),
        key_exchange_group: String::new(),
        resumed: false,
        rule: String::new(),
        plaintext_reason: String::new(),
        opened: Some(Moment(at(0))),
        closed: None,
        bytes_sent: 1,
        bytes_received: 22,
        outcome: String::new(),
        reason: String::new(),
    }
}

#[test]
fn connections_are_columns() {
    let open = ConnectionView {
        peer_spiffe_id: "spiffe://example.org/db".to_owned(),
        tls_version: "TLSv1.3".to_owned(),
        key_exchange_group: "X25519MLKEM768".to_owned(),
        ..a_connection()
    };
    let closed = ConnectionView {
        direction: "inbound",
        plaintext_reason: "plain".to_owned(),
        closed: Some(Moment(at(1))),
        outcome: "closed".to_owned(),
        reason: "closed".to_owned(),
        ..a_connection()
    };
    let text = connections(&[open, closed], at(90));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "DIRECTION  PEER                     DESTINATION  WIRE                    RULE  SENT  RECEIVED  STATE",
            "outbound   spiffe://example.org/db  10.0.0.2:80  TLSv1.3 X25519MLKEM768  -     1     22        open 1m 30s",
            "inbound    -                        10.0.0.2:80  plaintext (plain)       -     1     22        closed (closed)",
        ]
    );
    assert_eq!(connections(&[], at(0)), "no connections\n");
}
