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
    /// Whoever publishes both here and by [`Credentials::publish_bundles`] does so from one task: the bundles given last
    /// are the ones that count.
    ///
    /// # Errors
    /// When a peer would not, or the key does not fit.
    pub fn publish(&self, svid: X509Svid, bundles: TrustBundles, now: SystemTime) -> Result<(), PublishError> {
        let trust = Arc::new(Trust::new(bundles, Revocations::default())?);
        let chain: Vec<_> = svid.chain().iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        if let [leaf, rest @ ..] = chain.as_slice() {
            verify(leaf, rest, now, &trust)?;
        }
        let material = Material::new(Arc::new(svid), trust, 0)?;
        self.replace(|_| Some(material));
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
        self.replace(|current| current.map(|material| material.with_trust(trust, 0)));
        Ok(())
    }

    /// Puts in place what `next` makes of the snapshot that is there, under the generation after that one's: one step,
    /// so that of two publications at once neither is lost and no generation is used twice.
    fn replace(&self, next: impl FnOnce(Option<&Material>) -> Option<Material>) {
        self.0.send_if_modified(|current| {
            let generation = current.as_ref().map_or(1, |material| material.generation() + 1);
            match next(current.as_deref()) {
                Some(material) => {
                    *current = Some(Arc::new(material.with_generation(generation)));
                    true
                }
                None => false,
            }
        });
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
