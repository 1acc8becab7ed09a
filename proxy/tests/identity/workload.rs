//! A workload with an identity, and what a test wants to know of it.

use std::{fs, path::PathBuf, time::Duration};

use clap::Parser;
use kith_proxy::identity::{self, Config, Identity, IdentityState, Surroundings};
use kith_runtime::{clock::Clock, metrics::Registry, readiness::Readiness};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::ca::{Ca, TRUST_DOMAIN};

/// Long enough for a loaded machine, short enough to fail a test.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    identity: Config,
}

/// The settings of a workload, and the files that they name.
pub(crate) struct Setup {
    dir: TempDir,
    words: Vec<String>,
}

impl Setup {
    /// Looks for this CA.
    pub(crate) fn of(ca: &Ca) -> Self {
        let words = ["kith", "--trust-domain", TRUST_DOMAIN, "--ca-address"].map(str::to_owned).to_vec();
        let setup = Self { dir: tempfile::tempdir().unwrap(), words };
        setup.with(&ca.address()).with("--ca-mtls-address").with(&ca.mtls_address())
    }

    pub(crate) fn with(mut self, word: &str) -> Self {
        self.words.push(word.to_owned());
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        // Whole or not at all: the workload may be reading.
        fs::write(self.path(".new"), text).unwrap();
        fs::rename(self.path(".new"), self.path(name)).unwrap();
    }

    fn with_path(self, flag: &str, name: &str) -> Self {
        let path = self.path(name).to_str().unwrap().to_owned();
        self.with(flag).with(&path)
    }

    /// Has a token file, not written yet.
    pub(crate) fn token_file(self) -> Self {
        self.with_path("--join-token-file", "token")
    }

    /// Has a bundle file, not written yet.
    pub(crate) fn bundle_file(self) -> Self {
        self.with_path("--ca-bundle", "bundle.pem")
    }

    pub(crate) fn state_dir(self) -> Self {
        self.with_path("--state-dir", "state")
    }

    pub(crate) fn config(&self) -> Config {
        Command::parse_from(&self.words).identity
    }
}

/// A workload that runs until it is dropped.
pub(crate) struct Workload {
    pub(crate) identity: Identity,
    pub(crate) readiness: Readiness,
    registry: Registry,
    shutdown: CancellationToken,
}

impl Workload {
    pub(crate) fn start(setup: &Setup, clock: &Clock) -> Self {
        let (mut registry, readiness, shutdown) = (Registry::new(), Readiness::new(), CancellationToken::new());
        let surroundings = Surroundings {
            clock: clock.clone(),
            metrics: identity::Metrics::register(&mut registry),
            gate: readiness.gate("svid", "no SVID yet"),
            shutdown: shutdown.clone(),
            version: "1.2.3",
        };
        let identity = identity::start(setup.config(), surroundings).unwrap();
        Self { identity, readiness, registry, shutdown }
    }

    pub(crate) fn state(&self) -> IdentityState {
        self.identity.state.borrow().clone()
    }

    /// Waits until the state is so.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl Fn(&IdentityState) -> bool) -> IdentityState {
        let mut state = self.identity.state.clone();
        let found = tokio::time::timeout(PATIENCE, state.wait_for(is_so)).await;
        match found {
            Ok(state) => state.unwrap().clone(),
            Err(_) => panic!("waited in vain until {what}: {:?}", self.state()),
        }
    }

    /// Waits for the first SVID; its serial number.
    pub(crate) async fn certified(&mut self) -> String {
        self.until("there is an SVID", |state| state.svid.is_some()).await;
        self.serial()
    }

    /// Waits until the last attempt has failed for this reason.
    pub(crate) async fn failing(&mut self, reason: &str) -> IdentityState {
        let is_so = |state: &IdentityState| state.failing.as_ref().is_some_and(|failing| failing.reason == reason);
        self.until(&format!("it fails by {reason}"), is_so).await
    }

    pub(crate) fn serial(&self) -> String {
        self.state().svid.unwrap().serial.to_string()
    }

    pub(crate) async fn until_ready(&self) {
        eventually("the gate is open", || self.readiness.report().is_ok()).await;
    }

    /// Waits until the gate is closed with these words.
    pub(crate) async fn until_unready(&self, words: &str) {
        let is_so = || matches!(self.readiness.report(), Err(gates) if gates[0].1.contains(words));
        eventually(&format!("the gate says '{words}'"), is_so).await;
    }

    pub(crate) fn metric(&self, line: &str) -> bool {
        self.registry.encode().unwrap().lines().any(|found| found == line)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Waits for a fact that nobody announces.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let look = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, look).await.is_ok(), "waited in vain until {what}");
}
