//! The play: one module a step.

mod conversation;
mod identities;
mod intruders;
mod pods;
mod readable;
mod rotation;
mod status;
mod wire;

use std::{
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    sync::Mutex,
};

use crate::screen::Screen;

/// The first thing that went wrong.
static FAILURE: Mutex<Option<String>> = Mutex::new(None);

pub(crate) fn play() -> ExitCode {
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("it ended without a word");
        FAILURE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(message.to_owned());
    }));
    let screen = Screen::new();
    // What ran has written its logs to the error output by the time that this is caught.
    if panic::catch_unwind(AssertUnwindSafe(|| steps(&screen))).is_ok() {
        return ExitCode::SUCCESS;
    }
    let failure = FAILURE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take().unwrap_or_default();
    screen.blank();
    screen.failure(&format!("The demo ends in step {}: {failure}", screen.steps()));
    ExitCode::FAILURE
}

fn steps(screen: &Screen) {
    screen.title(
        "Kith: two applications talk over mutual TLS, and neither of them knows",
        "Everything below happens now, on this machine, and each ✓ was checked. Paths are shortened.",
    );
    let stage = pods::show(screen);
    let before = readable::show(screen, &stage);
    let mut mesh = identities::show(screen, &stage);
    let moved = conversation::show(screen, &stage, &mesh);
    wire::show(screen, &stage, &before, &mesh.take_capture().stop(), moved);
    intruders::show(screen, &stage, &mesh);
    rotation::show(screen, &stage, &mesh);
    status::show(screen, &stage, &mesh);
    screen.title(
        &format!("That was all, in {:.0} s.", screen.seconds()),
        "README.md says how to run both programs by hand; `make test` proves far more than this.\n",
    );
}
