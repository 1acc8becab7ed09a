//! What can be set: flags that are environment variables too. Each module owns its part; this one only composes.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use kith_runtime::{settings::duration, telemetry::LogFormat};

use crate::{discovery::Patience, identity, redirect, sidecar, status, status_client, svid, transport};

/// A transparent sidecar that upgrades a pod's TCP to mutual TLS 1.3 with SPIFFE identities.
#[derive(Debug, Parser)]
#[command(name = "kith-proxy", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lead this network namespace's TCP through the sidecar. Needs CAP_NET_ADMIN; running it twice is running it once.
    Init(InitConfig),
    /// Be the sidecar.
    Run(Box<RunConfig>),
    /// Ask a running sidecar who it is and whom it talks to.
    Status(status_client::Args),
    /// Obtain an SVID, write it to files and keep it renewed, for a program that wants one.
    Svid(Box<SvidConfig>),
}

/// What `init` needs.
#[derive(Debug, Args)]
pub struct InitConfig {
    /// What is captured.
    #[command(flatten)]
    pub capture: redirect::Settings,
    /// Print the rules, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Remove the rules, and leave nothing of them.
    #[arg(long, conflicts_with = "dry_run")]
    pub undo: bool,
}

/// What `run` needs.
#[derive(Debug, Args)]
pub struct RunConfig {
    /// The YAML file that describes the mesh, read again whenever it changes.
    #[arg(long, env = "KITH_MESH_FILE", value_name = "FILE")]
    pub mesh_file: PathBuf,
    /// How the identity is obtained.
    #[command(flatten)]
    pub identity: identity::Config,
    /// What is captured; the same as for `init`.
    #[command(flatten)]
    pub capture: redirect::Settings,
    /// Bounds on time.
    #[command(flatten)]
    pub connections: sidecar::Settings,
    /// Bounds on waiting.
    #[command(flatten)]
    pub patience: Patience,
    /// Socket options.
    #[command(flatten)]
    pub transport: transport::Options,
    /// Who may ask.
    #[command(flatten)]
    pub status: status::Config,
    /// Logs.
    #[command(flatten)]
    pub logs: LogConfig,
    /// How long a drain waits for connections, and for the application to stop listening, before the rest is reset.
    #[arg(long, env = "KITH_DRAIN_BOUND", default_value = "25s", value_name = "DURATION", value_parser = duration)]
    pub drain_bound: Duration,
    /// Where the JSON line of each connection goes.
    #[arg(long, env = "KITH_ACCESS_LOG", default_value = "stdout")]
    pub access_log: AccessLogTarget,
}

/// What `svid` needs.
#[derive(Debug, Args)]
pub struct SvidConfig {
    /// How the SVID is obtained, and where it goes.
    #[command(flatten)]
    pub svid: svid::Args,
    /// Logs.
    #[command(flatten)]
    pub logs: LogConfig,
}

/// What is said on standard error.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogConfig {
    /// What is logged, such as `info` or `warn,kith_proxy=debug`.
    #[arg(long, env = "KITH_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How it is written: `text` or `json`.
    #[arg(long, env = "KITH_LOG_FORMAT", default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// Where access lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_run_is_a_variable_too() {
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        let without: Vec<_> =
            run.get_arguments().filter(|arg| arg.get_env().is_none()).map(clap::Arg::get_id).collect();
        assert!(without.is_empty(), "{without:?}");
        let strange: Vec<_> = run
            .get_arguments()
            .filter_map(clap::Arg::get_env)
            .filter(|name| !name.to_string_lossy().starts_with("KITH_"))
            .collect();
        assert!(strange.is_empty(), "{strange:?}");
    }
}
