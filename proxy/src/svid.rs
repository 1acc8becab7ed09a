//! `kith-proxy svid`: gets an SVID for any program that reads files, and keeps it renewed.
//!
//! Every file is written beside its place and renamed into it. The bundle takes its place first, so that nobody sees a
//! certificate whose root it does not know yet; then the combined file, which holds key and chain and so is never
//! torn; then the key, and at once the chain. Only a reader that opens key and chain between those last two renames
//! sees a pair that does not fit: it should read again. Whoever waits for a renewal watches the chain.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use kith_identity::{TrustBundle, TrustDomain};
use kith_runtime::{clock::Clock, exit::Failure, metrics::Registry, readiness::Readiness, signals::Termination};
use kith_tls::Material;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::identity::{
    self, Surroundings, certificates_to_pem, key_to_pem,
    private_file::{Staged, make_dir, sync_dir},
};

/// The certificate chain, leaf first.
pub const CHAIN_FILE: &str = "svid.pem";
/// The private key, PKCS#8.
pub const KEY_FILE: &str = "svid.key.pem";
/// The private key and the certificate chain in one file.
pub const COMBINED_FILE: &str = "svid.combined.pem";
/// The roots of our own trust domain.
pub const BUNDLE_FILE: &str = "bundle.pem";

/// How long to wait before files are written again, when that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Writes an SVID, its key and the trust bundle to files (0600), and keeps them renewed until SIGTERM.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How to get the identity.
    #[command(flatten)]
    pub identity: identity::Config,
    /// The directory for svid.pem, svid.key.pem, svid.combined.pem and bundle.pem; made (0700) if it is not there.
    #[arg(long, env = "KITH_SVID_OUT", value_name = "DIR")]
    pub out: PathBuf,
    /// Exit after the first SVID was written.
    #[arg(long, env = "KITH_SVID_ONCE")]
    pub once: bool,
}

/// Files that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the SVID can't be written to {}", dir.display())]
struct WriteError {
    dir: PathBuf,
    #[source]
    source: io::Error,
}

/// Runs until SIGTERM or SIGINT, or until the first SVID is written where that is all that is wanted.
///
/// # Errors
/// When the settings are wrong, the directory can't be made, or the only writing asked for fails.
pub async fn run(args: Args) -> Result<(), Failure> {
    let mut termination = Termination::catch().map_err(Failure::runtime)?;
    make_dir(&args.out).map_err(|error| {
        Failure::settings(format!(
            "--out (KITH_SVID_OUT) is '{}': {error}; expected a directory that this user can write",
            args.out.display()
        ))
    })?;
    let shutdown = CancellationToken::new();
    let _end = shutdown.clone().drop_guard();
    let surroundings = Surroundings {
        clock: Clock::system(),
        metrics: identity::Metrics::register(&mut Registry::new()),
        gate: Readiness::new().gate("svid", "no SVID yet"),
        shutdown,
        version: env!("CARGO_PKG_VERSION"),
    };
    let trust_domain = args.identity.trust_domain.clone();
    let mut credentials = identity::start(args.identity, surroundings).map_err(Failure::settings)?.credentials;
    let keep_written = async {
        let mut material = credentials.first().await;
        while let Some(current) = material {
            match write(&args.out, &current, &trust_domain).await {
                Ok(()) if args.once => return Ok(()),
                Ok(()) => {
                    info!(dir = %args.out.display(), serial = %current.svid().serial(), "Wrote the SVID");
                    if !credentials.changed().await {
                        return Ok(());
                    }
                }
                Err(error) if args.once => return Err(Failure::runtime(error)),
                Err(error) => {
                    warn!(error = %error.source, dir = %args.out.display(), "The SVID can't be written; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
            material = credentials.current();
        }
        Ok(())
    };
    tokio::select! {
        ended = keep_written => ended,
        signal = termination.requested() => {
            info!(signal, "Ending");
            Ok(())
        }
    }
}

async fn write(dir: &Path, material: &Material, trust_domain: &TrustDomain) -> Result<(), WriteError> {
    let chain = certificates_to_pem(material.svid().chain());
    let key = key_to_pem(material.svid().key());
    let bundle = material.trust().bundles().get(trust_domain).map(TrustBundle::authorities);
    let bundle = certificates_to_pem(bundle.unwrap_or_default());
    let place = dir.to_owned();
    let written = tokio::task::spawn_blocking(move || write_files(&place, &chain, &key, &bundle)).await;
    let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
    written.map_err(|source| WriteError { dir: dir.to_owned(), source })
}

fn write_files(dir: &Path, chain: &str, key: &str, bundle: &str) -> io::Result<()> {
    let combined = Zeroizing::new([key, chain].concat());
    let in_order = [(BUNDLE_FILE, bundle), (COMBINED_FILE, &combined), (KEY_FILE, key), (CHAIN_FILE, chain)];
    // All of them are on the disk before the first takes its place: what may fail or take time is over by then.
    let staged = in_order.map(|(name, text)| Staged::write(dir, name, text.as_bytes()));
    for file in staged.into_iter().collect::<io::Result<Vec<_>>>()? {
        file.commit()?;
    }
    sync_dir(dir)
}
