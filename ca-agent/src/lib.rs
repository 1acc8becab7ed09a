//! The control plane of Kith: attests workloads, issues their X.509-SVIDs, rotates its issuing authority, and answers
//! who holds which identity. The program is [`main`]; [`Agent`] is the same within a process, for tests.

mod admin;
mod app;
mod attest;
mod authority;
mod bundles;
mod cli;
mod config;
mod hash;
mod issuance;
mod metrics;
mod pem;
mod ports;
mod reply;
mod serving;
mod status;
mod store;
mod time;
mod upkeep;

pub use app::{Addresses, Agent, StartError, StateDirError};
pub use cli::main;
pub use config::{Listen, ListenError, Serve, SettingsError};
