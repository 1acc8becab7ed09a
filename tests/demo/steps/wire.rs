use kith_tests::Captured;

use crate::{proof, screen::Screen, stage::Stage};

pub(super) fn show(screen: &Screen, stage: &Stage, before: &Captured, through: &Captured, moved: usize) {
    screen.step(
        "What the wire held",
        "The capture began before the first token was used, and ended after the last byte of the file.",
    );
    let streams = through.assert_only_tls13();
    through.assert_nothing_beyond_tcp();
    let rows = stage.secrets.plaintexts().map(|(whose, plaintext)| {
        assert!(!through.contains(plaintext.as_bytes()), "{whose} is readable on the wire: {plaintext}");
        let [without, with] = [before, through].map(|captured| proof::hits(captured, plaintext));
        assert!(without > 0 && with == 0, "{whose}: {without} and {with} hits");
        [format!("{whose}: {plaintext}"), without.to_string(), with.to_string()]
    });
    screen.table(["KNOWN PLAINTEXT", "HITS WITHOUT KITH", "HITS THROUGH KITH"], &rows);
    screen.blank();
    screen.note(
        "What web said to curl, as it was on the wire: without Kith, and through it (first and last TLS record):",
    );
    let first_line = String::from_utf8_lossy(proof::answer(before, 80)).lines().next().unwrap_or_default().to_owned();
    let answer = proof::answer(through, 80);
    screen.output(&format!("  {first_line}"));
    screen.output(&format!("  {}\n  {}", proof::numbers(answer), proof::numbers(proof::last_record(answer))));
    screen.blank();
    let payload = through.payload_len();
    assert!(payload > moved, "only {payload} bytes were on the wire, and {moved} were moved");
    let chosen = proof::chosen(through);
    assert!(chosen.all > 0 && chosen.tls13 == chosen.all, "not every server chose TLS 1.3: {chosen:?}");
    assert_eq!(chosen.post_quantum, chosen.all, "not every key exchange is X25519MLKEM768");
    screen.fact(&format!(
        "{streams} TCP streams with payload, all of it TLS records: {} (ports).",
        proof::by_port(through)
    ));
    screen.fact(&format!(
        "tshark: {} of {} ServerHellos chose TLS 1.3, with X25519MLKEM768 (hybrid post-quantum).",
        chosen.tls13, chosen.all
    ));
    screen.fact(&format!(
        "{:.1} MiB on the wire for at least {} MiB moved, no packet dropped, nothing but TCP, ARP and ICMP.",
        mib(payload),
        moved >> 20
    ));
}

#[expect(clippy::cast_precision_loss, reason = "a person reads it")]
fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
