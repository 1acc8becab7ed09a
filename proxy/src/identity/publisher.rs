use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use kith_identity::{TrustBundles, X509Svid};
use kith_tls::{Credentials, CredentialsReader, Material, PublishError, Trust, verify};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::{
    IdentityState, Metrics,
    state::{AttestationKind, Failing, SvidFacts},
    state_dir::{Kept, StateDir},
};

/// The one owner of the credentials and of what is said about them. SVIDs and trust bundles arrive by different
/// connections; here they take turns, so that neither overwrites what the other has just brought.
#[derive(Debug)]
pub(super) struct Publisher {
    credentials: Credentials,
    reader: CredentialsReader,
    state: watch::Sender<IdentityState>,
    turn: Mutex<()>,
    /// Who keeps the identity on disk, keeps the newest, one at a time.
    keeping: tokio::sync::Mutex<()>,
    store: Option<Arc<StateDir>>,
    renew_now: Notify,
    metrics: Metrics,
}

/// An SVID with everything that comes with it.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) svid: X509Svid,
    pub(super) bundles: TrustBundles,
    pub(super) attestation: AttestationKind,
}

impl Publisher {
    pub(super) fn new(state: IdentityState, store: Option<StateDir>, metrics: Metrics) -> Self {
        let credentials = Credentials::default();
        Self {
            reader: credentials.reader(),
            credentials,
            state: watch::Sender::new(state),
            turn: Mutex::new(()),
            keeping: tokio::sync::Mutex::new(()),
            store: store.map(Arc::new),
            renew_now: Notify::new(),
            metrics,
        }
    }

    pub(super) fn reader(&self) -> CredentialsReader {
        self.credentials.reader()
    }

    pub(super) fn state(&self) -> watch::Receiver<IdentityState> {
        self.state.subscribe()
    }

    pub(super) fn material(&self) -> Option<Arc<Material>> {
        self.reader.current()
    }

    /// The sequence number of the trust bundles in force.
    pub(super) fn sequence(&self) -> u64 {
        self.material().map_or(0, |material| material.trust().bundles().sequence)
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Resolves when the SVID should be renewed before its time.
    pub(super) async fn renew_now(&self) {
        self.renew_now.notified().await;
    }

    /// Puts a new SVID in force, to be renewed at `next_rotation`.
    pub(super) fn publish(
        &self,
        issued: Issued,
        now: SystemTime,
        next_rotation: SystemTime,
    ) -> Result<(), PublishError> {
        let _turn = self.turn();
        let facts = SvidFacts::new(&issued.svid, issued.attestation);
        let bundles = self.newer_bundles(&issued, now);
        let sequence = bundles.sequence;
        self.credentials.publish(issued.svid, bundles, now)?;
        self.metrics.set_expiry(facts.not_after);
        self.metrics.set_sequence(sequence);
        self.state.send_modify(|state| {
            if state.svid.is_some() {
                state.rotations += 1;
                state.last_rotation = Some(now);
            }
            state.svid = Some(facts);
            state.next_rotation = Some(next_rotation);
            state.trusted = true;
            state.failing = None;
        });
        Ok(())
    }

    /// Bundles that the stream brought while the SVID was under way are newer than those beside it, and stay. A lower
    /// number under which the new SVID is worth nothing is another matter: the CA has begun anew.
    fn newer_bundles(&self, issued: &Issued, now: SystemTime) -> TrustBundles {
        match self.material() {
            Some(material)
                if material.trust().bundles().sequence > issued.bundles.sequence
                    && vouches(material.trust(), &issued.svid, now) =>
            {
                material.trust().bundles().clone()
            }
            _ => issued.bundles.clone(),
        }
    }

    /// Puts new trust bundles in force beside the SVID that is there.
    pub(super) fn publish_bundles(&self, bundles: TrustBundles, now: SystemTime) -> Result<(), PublishError> {
        let _turn = self.turn();
        let sequence = bundles.sequence;
        self.credentials.publish_bundles(bundles)?;
        self.metrics.set_sequence(sequence);
        let Some(material) = self.material() else { return Ok(()) };
        // An SVID that is merely over is not the bundle's fault: ask about a moment when it was not.
        let when = now.min(material.svid().not_after());
        let trusted = vouches(material.trust(), material.svid(), when);
        self.state.send_if_modified(|state| std::mem::replace(&mut state.trusted, trusted) != trusted);
        if !trusted {
            warn!(sequence, "The new trust bundle does not vouch for our SVID; asking for another one now");
            self.renew_now.notify_one();
        }
        Ok(())
    }

    /// Remembers that an attempt to obtain an SVID has failed.
    pub(super) fn failed(&self, reason: &str, error: String, now: SystemTime) {
        self.metrics.rotations.with([reason]).inc();
        self.state.send_modify(|state| {
            let since = state.failing.as_ref().map_or(now, |failing| failing.since);
            state.failing = Some(Failing { since, reason: reason.to_owned(), error });
        });
    }

    /// Takes up what an earlier process has kept, if peers would still accept it. `file` is the CA bundle file's
    /// content: what it no longer vouches for is of a CA that is gone.
    pub(super) fn restore(&self, kept: Kept, file: Option<&Trust>, now: SystemTime) -> Result<(), String> {
        if file.is_some_and(|file| !vouches(file, &kept.svid, now)) {
            return Err("the CA's bundle file does not vouch for it, or it has expired".to_owned());
        }
        let (id, next) = (kept.svid.id().clone(), kept.next_rotation);
        let issued = Issued { svid: kept.svid, bundles: kept.bundles, attestation: kept.attestation };
        self.publish(issued, now, next).map_err(|error| error.to_string())?;
        info!(%id, "Took up the identity that an earlier process has kept");
        Ok(())
    }

    /// Keeps what is in force now on disk, where an operator asked for that. A failure costs the next start its
    /// identity, not this process.
    pub(super) async fn keep(&self) {
        let Some(store) = self.store.clone() else { return };
        let _keeping = self.keeping.lock().await;
        let Some(kept) = self.kept() else { return };
        let saved = tokio::task::spawn_blocking(move || store.save(&kept)).await;
        if let Err(error) = saved.unwrap_or_else(|error| Err(io::Error::other(error))) {
            warn!(%error, "The identity can't be kept in the state directory; a restart would lose it");
        }
    }

    pub(super) fn load_kept(&self) -> Option<Kept> {
        match self.store.as_ref()?.load() {
            Ok(kept) => kept,
            Err(reason) => {
                warn!(%reason, "The state directory's identity is not usable");
                None
            }
        }
    }

    fn kept(&self) -> Option<Kept> {
        let _turn = self.turn();
        let material = self.material()?;
        let state = self.state.borrow();
        Some(Kept {
            svid: material.svid().clone(),
            bundles: material.trust().bundles().clone(),
            attestation: state.svid.as_ref()?.attestation,
            next_rotation: state.next_rotation?,
        })
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        // It guards no data of its own that half a change could spoil.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a peer with this trust would accept the SVID.
fn vouches(trust: &Trust, svid: &X509Svid, now: SystemTime) -> bool {
    let chain: Vec<_> = svid.chain().iter().map(|der| der.as_slice().into()).collect();
    match chain.as_slice() {
        [leaf, rest @ ..] => verify(leaf, rest, now, trust).is_ok(),
        [] => false,
    }
}

#[cfg(test)]
mod tests;
