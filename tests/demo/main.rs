//! `make demo`: two real applications talk over mutual TLS through two sidecars, and whoever watches sees it step by
//! step. Every step asserts what it shows.
//!
//! The program runs itself a second time: the inner process plays, the outer one keeps watch, so that an interruption at
//! any moment still leaves nothing behind.

mod keeper;
mod proof;
mod screen;
mod session;
mod stage;
mod steps;

use std::process::ExitCode;

fn main() -> ExitCode {
    if keeper::is_inner() { steps::play() } else { keeper::run() }
}
