use std::{sync::Arc, time::SystemTime};

use kith_identity::{BundleError, TrustBundles, X509Svid};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::{Material, MaterialError, Rejection, Revocations, Trust, verify};

/// The one door through which credentials become visible to handshakes.
#[derive(Debug)]
pub struct Credentials(watch::Sender<Option<Arc<Material>>>);

/// Reads the current [`Material`], and waits for the next.
#[derive(Debug, Clone)]
pub struct CredentialsReader(watch::Receiver<Option<Arc<Material>>>);

/// Why credentials were not published; what was there before stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A trust bundle is not usable.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The SVID can't be presented.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// A peer with these trust bundles would refuse the SVID.
    #[error("a peer would refuse this SVID: {0}")]
    Refused(#[from] Rejection),
}

impl PublishError {
    /// The stable label.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Bundle(_) => "bad_bundle",
            Self::Material(MaterialError::Key) => "unusable_key",
            Self::Material(MaterialError::KeyMismatch) => "key_mismatch",
            Self::Refused(rejection) => rejection.as_str(),
        }
    }
}

impl Default for Credentials {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Credentials {
    /// A reader, which sees what is published from now on and what is there already.
    #[must_use]
    pub fn reader(&self) -> CredentialsReader {
        CredentialsReader(self.0.subscribe())
    }

    /// Publishes an SVID with trust bundles, if a peer that has the same bundles would accept it now.
    ///
    /// # Errors
    /// When a peer would not, or the key does not fit.
    pub fn publish(&self, svid: X509Svid, bundles: TrustBundles, now: SystemTime) -> Result<(), PublishError> {
        let trust = Arc::new(Trust::new(bundles, Revocations::default())?);
        let chain: Vec<_> = svid.chain().iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        if let [leaf, rest @ ..] = chain.as_slice() {
            verify(leaf, rest, now, &trust)?;
        }
        let material = Material::new(Arc::new(svid), trust, self.next_generation())?;
        self.0.send_replace(Some(Arc::new(material)));
        Ok(())
    }

    /// Publishes new trust bundles beside the SVID that is there; without one it does nothing.
    ///
    /// They take effect even where they no longer cover our own SVID: a root that was withdrawn must not stay trusted
    /// because we depend on it.
    ///
    /// # Errors
    /// When a bundle is not usable.
    pub fn publish_bundles(&self, bundles: TrustBundles) -> Result<(), PublishError> {
        let trust = Arc::new(Trust::new(bundles, Revocations::default())?);
        let generation = self.next_generation();
        self.0.send_if_modified(|current| {
            let changed = current.as_ref().map(|material| Arc::new(material.with_trust(trust, generation)));
            let any = changed.is_some();
            if any {
                *current = changed;
            }
            any
        });
        Ok(())
    }

    fn next_generation(&self) -> u64 {
        self.0.borrow().as_ref().map_or(1, |material| material.generation() + 1)
    }
}

impl CredentialsReader {
    /// The current snapshot, if there has been one.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Material>> {
        self.0.borrow().clone()
    }

    /// Waits until something newer was published than this reader has seen.
    /// Returns `false` once nothing can be published any more.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// Waits for the first snapshot. `None` once nothing can be published any more.
    pub async fn first(&mut self) -> Option<Arc<Material>> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}
