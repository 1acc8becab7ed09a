//! The command line: the agent itself, and the commands that ask a running one over its own socket.

mod authority;
mod bundle;
mod client;
mod identities;
mod serve;
mod show;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kith_runtime::{
    exit::{self, Failure},
    settings,
};
use tokio::runtime::Builder;

use self::{client::Target, show::Output};
use crate::config::Serve;

/// The control plane of Kith: attests workloads and issues their X.509-SVIDs.
#[derive(Debug, Parser)]
#[command(name = "kith-ca-agent", version, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the agent until SIGTERM
    Serve(Box<Serve>),
    /// Creates, lists and deletes one-time join tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Who holds which SVID
    #[command(subcommand)]
    Identities(identities::Command),
    /// The trust bundle, for workloads' first contact
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// The root and the issuing authorities
    #[command(subcommand)]
    Authority(authority::Command),
}

/// What every asking command takes.
#[derive(Debug, Clone, clap::Args)]
struct Common {
    #[command(flatten)]
    target: Target,
    /// What to print: a table for people, or json for programs
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    // A wrong flag ends here with code 2, and names itself, its value and what was expected.
    exit::finish(run(settings::parse::<Arguments>().command))
}

fn run(command: Command) -> Result<(), Failure> {
    let asking = || Builder::new_current_thread().enable_all().build().map_err(Failure::runtime);
    match command {
        Command::Serve(settings) => serve::run(*settings),
        Command::Token(command) => asking()?.block_on(token::run(command)),
        Command::Identities(command) => asking()?.block_on(identities::run(command)),
        Command::Bundle(command) => asking()?.block_on(bundle::run(command)),
        Command::Authority(command) => asking()?.block_on(authority::run(command)),
    }
}
