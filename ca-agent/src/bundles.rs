//! The trust bundles in force, for whoever streams or publishes them.

use std::{sync::Arc, time::SystemTime};

use kith_identity::{TrustBundle, TrustBundles};
use tokio::sync::watch;

use crate::{
    hash::Hash,
    store::{Store, StoreError},
    time,
};

/// Reads the trust bundles, and waits for the next. Clones have seen what their original has.
#[derive(Debug, Clone)]
pub(crate) struct Bundles(watch::Receiver<Arc<TrustBundles>>);

/// Publishes the trust bundles.
#[derive(Debug)]
pub(crate) struct BundlePublisher(watch::Sender<Arc<TrustBundles>>);

impl BundlePublisher {
    /// Publishes a bundle under its persisted sequence number: one more than the last where its content is new.
    pub(crate) async fn open(store: &dyn Store, bundle: TrustBundle, now: SystemTime) -> Result<Self, StoreError> {
        let mut content = bundle.trust_domain().as_str().as_bytes().to_vec();
        bundle.authorities().iter().for_each(|der| content.extend_from_slice(&Hash::of(der).0));
        // The first number is the time: an agent that begins anew after its state was lost goes on from higher ones.
        let first = u64::try_from(time::seconds(now)).unwrap_or(0).max(1);
        let sequence = store.bundle_sequence(Hash::of(&content), first).await?;
        Ok(Self(watch::Sender::new(Arc::new(TrustBundles::new(sequence, [bundle])))))
    }

    /// A reader.
    pub(crate) fn reader(&self) -> Bundles {
        Bundles(self.0.subscribe())
    }
}

impl Bundles {
    /// The bundles now.
    pub(crate) fn current(&self) -> Arc<TrustBundles> {
        Arc::clone(&self.0.borrow())
    }

    /// The bundles now, which this reader has seen then.
    pub(crate) fn next(&mut self) -> Arc<TrustBundles> {
        Arc::clone(&self.0.borrow_and_update())
    }

    /// Waits for bundles that this reader has not seen. `false` once there will be none.
    pub(crate) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}
