//! The authorities: the roots that workloads trust, and the issuing authority that signs for them.

pub(crate) mod ca;
mod key_manager;
pub(crate) mod rotator;
pub(crate) mod slot;
mod template;
mod validate;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use kith_identity::{BundleError, Leaf, TrustBundle, TrustDomain};
use kith_tls::Trust;
use tokio::sync::watch;

use self::{
    ca::{Authority, SignError, make_leaf},
    key_manager::{Keys, Operator, OwnKeys, trust},
    validate::{ValidateError, check_leaf},
};
pub(crate) use self::{
    ca::{CaFacts, LeafRequest},
    key_manager::KeyError,
};

/// Which authorities to use.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) trust_domain: TrustDomain,
    /// How long an issuing authority of our own lives.
    pub(crate) issuing_lifetime: Duration,
    /// How long a root of our own lives.
    pub(crate) root_lifetime: Duration,
    /// The operator's own intermediate, in place of ours.
    pub(crate) operator: Option<OperatorFiles>,
}

/// The operator's own intermediate: PEM files.
#[derive(Debug, Clone)]
pub(crate) struct OperatorFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) root_bundle: PathBuf,
}

/// The authorities of one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// What workloads trust.
    pub(crate) roots: Vec<CaFacts>,
    /// The root that the active authority's chain leads to.
    pub(crate) anchor: CaFacts,
    /// Signs.
    pub(crate) active: Arc<Authority>,
    /// No longer sign; what they signed is still valid. Newest first.
    pub(crate) old: Vec<CaFacts>,
    trust: Arc<Trust>,
}

/// A certificate that may leave: signed, and checked as a peer would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issued {
    pub(crate) leaf: Leaf,
    /// DER, leaf first, without the root.
    pub(crate) chain: Vec<Vec<u8>>,
    /// The issuer's name (RFC 4514).
    pub(crate) issuer: String,
}

/// Why no certificate was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum IssueError {
    /// It could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// It was signed, and the last look at it found a fault.
    #[error("a certificate was made that must not leave: {0}")]
    Faulty(#[from] ValidateError),
}

/// Why the authorities can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AuthorityError {
    /// The keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The roots.
    #[error("the roots make no trust bundle: {0}")]
    Bundle(#[from] BundleError),
    /// No key at all.
    #[error("there is no issuing authority")]
    NoIssuing,
}

/// The authorities, and the way to replace the issuing one.
#[derive(Debug)]
pub(crate) struct Authorities {
    trust_domain: TrustDomain,
    own: Option<(OwnKeys, Authority)>,
    current: watch::Sender<Arc<Snapshot>>,
}

impl Authorities {
    /// Loads the authorities, or makes them where there have never been any.
    /// `known_root` is the key hash of our own root that the store remembers.
    pub(crate) fn open(
        config: &Config,
        state_dir: &Path,
        known_root: Option<&str>,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let trust_domain = config.trust_domain.clone();
        let (keys, own) = match &config.operator {
            Some(files) => {
                let operator = Operator {
                    certificate: files.certificate.clone(),
                    key: files.key.clone(),
                    root_bundle: files.root_bundle.clone(),
                };
                (operator.load(&trust_domain, now)?, None)
            }
            None => {
                let own = OwnKeys::new(state_dir, trust_domain.clone(), config.root_lifetime, config.issuing_lifetime);
                (own.load_or_make(known_root, now)?, Some(own))
            }
        };
        let Keys { roots, signing_root, issuing } = keys;
        let mut issuing = issuing.into_iter();
        let active = issuing.next().ok_or(AuthorityError::NoIssuing)?;
        let old = issuing.map(|authority| authority.facts).collect();
        let snapshot = Snapshot::new(&trust_domain, roots, Arc::new(active), old, now)?;
        Ok(Self { trust_domain, own: own.zip(signing_root), current: watch::Sender::new(Arc::new(snapshot)) })
    }

    /// The authorities now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow())
    }

    /// The key hash of our own root; `None` where the root is the operator's.
    pub(crate) fn own_root(&self) -> Option<&str> {
        self.own.as_ref().map(|(_, root)| root.facts.spki_sha256.as_str())
    }

    /// When the issuing authority is to be replaced; `None` when never.
    pub(crate) fn replace_at(&self) -> Option<SystemTime> {
        let (_, root) = self.own.as_ref()?;
        let active = &self.snapshot().active.facts;
        slot::replace_at(active.not_before, active.not_after, root.facts.not_after)
    }

    /// Whether the issuing authority is due.
    pub(crate) fn should_replace(&self, now: SystemTime) -> bool {
        let active = &self.snapshot().active.facts;
        self.own.as_ref().is_some_and(|(_, root)| {
            slot::should_replace(active.not_before, active.not_after, root.facts.not_after, now)
        })
    }

    /// Makes the next issuing authority under the same root and signs with it from now on. The one before it is kept
    /// as old. It writes files and blocks for as long as that takes.
    pub(crate) fn replace(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let Some((keys, root)) = &self.own else { return Ok(()) };
        let next = Arc::new(keys.make_issuing(root, now)?);
        let before = self.snapshot();
        let mut old = vec![before.active.facts.clone()];
        old.extend(before.old.iter().cloned());
        let snapshot = Snapshot::new(&self.trust_domain, before.roots.clone(), next, old, now)?;
        self.current.send_replace(Arc::new(snapshot));
        Ok(())
    }

    /// Forgets old authorities that have expired, and removes their keys.
    pub(crate) fn prune(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let before = self.snapshot();
        let (expired, old): (Vec<_>, Vec<_>) = before.old.iter().cloned().partition(|ca| ca.has_expired(now));
        if expired.is_empty() {
            return Ok(());
        }
        let active = Arc::clone(&before.active);
        let snapshot = Snapshot::new(&self.trust_domain, before.roots.clone(), active, old, now)?;
        self.current.send_replace(Arc::new(snapshot));
        if let Some((keys, _)) = &self.own {
            expired.iter().try_for_each(|ca| keys.remove_issuing(ca))?;
        }
        Ok(())
    }
}

impl Snapshot {
    fn new(
        trust_domain: &TrustDomain,
        roots: Vec<CaFacts>,
        active: Arc<Authority>,
        old: Vec<CaFacts>,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let trust = Arc::new(trust(&roots, trust_domain)?);
        let anchor = key_manager::anchor(&active, &roots, trust_domain, now).ok_or(AuthorityError::NoIssuing)?;
        Ok(Self { roots, anchor, active, old, trust })
    }

    /// Signs a leaf and takes the last look at it.
    pub(crate) fn issue(&self, asked: &LeafRequest<'_>, now: SystemTime) -> Result<Issued, IssueError> {
        let der = make_leaf(&self.active, asked, now)?;
        let leaf = check_leaf(&der, asked, &self.active, &self.trust, now)?;
        let chain = std::iter::once(der).chain(self.active.chain.iter().cloned()).collect();
        Ok(Issued { leaf, chain, issuer: self.active.facts.subject.clone() })
    }

    /// What a peer of our trust domain believes.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The roots as the trust bundle of our trust domain.
    pub(crate) fn bundle(&self, trust_domain: &TrustDomain) -> Result<TrustBundle, BundleError> {
        TrustBundle::new(trust_domain.clone(), self.roots.iter().map(|root| root.der.clone()).collect())
    }
}

#[cfg(test)]
mod tests;
