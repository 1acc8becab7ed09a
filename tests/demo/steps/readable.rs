use kith_tests::Captured;

use crate::{screen::Screen, stage::Stage};

pub(super) fn show(screen: &Screen, stage: &Stage) -> Captured {
    screen.step(
        "Without Kith",
        "The control of the experiment: whoever is on the path reads everything, and this capture would show it.",
    );
    let capture = stage.net.capture();
    for (command, expected) in [stage.letter(), stage.note()] {
        let said = stage.run(screen, &stage.front, command);
        assert_eq!(said, expected, "the applications do not even talk without Kith");
        screen.output(&said);
    }
    let captured = capture.stop();
    let plaintexts = stage.secrets.plaintexts();
    let found = plaintexts.iter().filter(|(_, text)| captured.contains(text.as_bytes())).count();
    assert_eq!(
        found,
        plaintexts.len(),
        "the capture does not hold what was said in plaintext, so it would prove nothing"
    );
    screen.blank();
    screen.fact(&format!("tcpdump on the bridge has read {found} of {} known plaintexts.", plaintexts.len()));
    captured
}
