//! `kith-proxy`: the sidecar, its capture, its status, and SVIDs for other programs.

use std::process::ExitCode;

use kith_proxy::{
    app,
    config::{Cli, Command},
    init, status_client,
};
use kith_runtime::{exit, settings};

fn main() -> ExitCode {
    exit::finish(match settings::parse::<Cli>().command {
        Command::Init(config) => init::run(&config),
        Command::Run(config) => app::run(*config),
        Command::Status(args) => app::block_on(status_client::run(args)),
        Command::Svid(config) => app::svid(*config),
    })
}
