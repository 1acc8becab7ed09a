//! Who this workload is: it attests itself to the CA agent, keeps a fresh SVID, and follows the trust bundles.
//!
//! [`start`] is all that others need. Credentials become visible through the one door of `kith-tls`; how they fare is
//! an [`IdentityState`].

mod bundle_watch;
mod ca_client;
mod config;
mod csr;
mod gate;
mod metrics;
mod observed;
pub(crate) mod private_file;
mod publisher;
mod rotator;
mod schedule;
mod state;
mod state_dir;
mod token;
mod trust;

use std::{sync::Arc, time::SystemTime};

use kith_runtime::{clock::Clock, readiness::Gate};
use kith_tls::CredentialsReader;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(crate) use self::state_dir::{certificates_to_pem, key_to_pem};
use self::{bundle_watch::BundleWatch, ca_client::CaClient, publisher::Publisher, rotator::Rotator, trust::CaTrust};
pub use self::{
    config::{Config, ConfigError, HostPort, HostPortError, Instance},
    metrics::Metrics,
    state::{AttestationKind, Failing, IdentityState, SvidFacts},
    state_dir::StateDirError,
    token::JoinToken,
};

/// What the rest of the process sees of the identity.
#[derive(Debug)]
pub struct Identity {
    /// What to present and whom to believe.
    pub credentials: CredentialsReader,
    /// How it fares.
    pub state: watch::Receiver<IdentityState>,
}

/// What the identity needs of the process that it lives in.
#[derive(Debug)]
pub struct Surroundings {
    /// The time of day.
    pub clock: Clock,
    /// Where it counts.
    pub metrics: Metrics,
    /// The gate of readiness that it keeps: open while there is an SVID that peers accept.
    pub gate: Gate,
    /// Ends it. Open connections and a drain still need an identity: cancel it last.
    pub shutdown: CancellationToken,
    /// The version of the program, for operators.
    pub version: &'static str,
}

/// Settings that can't lead to an identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// They contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state directory is no place for a key.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
}

/// Begins to obtain an identity and keeps it until the shutdown. Returns at once: what there is to wait for is in the
/// readers. Must be called within a tokio runtime.
///
/// # Errors
/// When the settings are wrong; never because a CA or a file is not there yet.
pub fn start(config: Config, surroundings: Surroundings) -> Result<Identity, StartError> {
    config.check()?;
    let config = Config { instance: config.instance.clone().or_this_host(), ..config };
    let Surroundings { clock, metrics, gate, shutdown, version } = surroundings;
    let store = config.state_dir.as_deref().map(state_dir::StateDir::open).transpose()?;
    let state = IdentityState::new(config.instance.clone(), version);
    let publisher = Arc::new(Publisher::new(state, store, metrics));
    restore(&publisher, &config, clock.now());

    let ca = CaClient::new(&config, version, publisher.reader(), clock.clone());
    let watch = BundleWatch { ca: ca.clone(), publisher: Arc::clone(&publisher), clock: clock.clone() };
    let rotator = Rotator {
        ca,
        tokens: config.token_source(),
        publisher: Arc::clone(&publisher),
        clock: clock.clone(),
        pending: None,
        spent: None,
    };
    let gatekeeper = gate::keep(publisher.state(), clock, gate);
    tokio::spawn(shutdown.clone().run_until_cancelled_owned(gatekeeper));
    tokio::spawn(shutdown.clone().run_until_cancelled_owned(watch.run()));
    tokio::spawn(shutdown.run_until_cancelled_owned(rotator.run()));
    Ok(Identity { credentials: publisher.reader(), state: publisher.state() })
}

fn restore(publisher: &Publisher, config: &Config, now: SystemTime) {
    let Some(kept) = publisher.load_kept() else { return };
    let trust = CaTrust { trust_domain: config.trust_domain.clone(), bundle_file: config.ca_bundle.clone() };
    // A bundle file that is not readable now says nothing against what was kept.
    let file = trust.file().unwrap_or_default();
    if kept.svid.id().trust_domain() != &config.trust_domain {
        warn!(id = %kept.svid.id(), "The kept identity is of another trust domain, and is not used");
    } else if let Err(reason) = publisher.restore(kept, file.as_deref(), now) {
        warn!(%reason, "The kept identity is not used");
    }
}

/// A moment as RFC 3339, to the second.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}
