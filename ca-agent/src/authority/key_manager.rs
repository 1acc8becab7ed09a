//! Where the authorities' keys come from: our own files, or the operator's.

mod files;
mod operator;
mod own;

use std::{io, path::PathBuf, time::SystemTime};

use kith_identity::{BundleError, TrustBundle, TrustBundles, TrustDomain};
use kith_tls::{Revocations, Trust};

pub(crate) use self::{operator::Operator, own::OwnKeys};
use super::{
    ca::{Authority, CaError, CaFacts, LeafRequest, SignError, generate_key, make_leaf, public_key_der},
    validate::{ValidateError, check_leaf},
};

/// Everything that was found or made at start.
#[derive(Debug)]
pub(crate) struct Keys {
    /// What peers trust; never empty.
    pub(crate) roots: Vec<CaFacts>,
    /// The root's key, where it is ours: it signs the next issuing authority.
    pub(crate) signing_root: Option<Authority>,
    /// The issuing authorities that have not expired, newest first; never empty.
    pub(crate) issuing: Vec<Authority>,
}

/// Why there are no keys to start with. Nothing was changed or replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum KeyError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others could read the key.
    #[error("{path} holds a private key and has mode {mode:03o}, which lets others read it; run: chmod 600 {path}")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// No PEM, or not the blocks that belong there.
    #[error("{path}: expected {expected}; restore the file from a backup or give the right one")]
    Content {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
    },
    /// Its content is no CA of ours.
    #[error("{path}: {source}; restore the file from a backup or give the right one")]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CaError,
    },
    /// Its trust bundle is none.
    #[error("{path}: {source}")]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BundleError,
    },
    /// The root is gone, but not what it signed.
    #[error(
        "{path} is missing, but {evidence}; restore it from a backup: a new root would cut off every workload that trusts the old one. \
         To begin anew, empty the state directory"
    )]
    RootMissing {
        /// The file.
        path: PathBuf,
        /// What says that there was a root.
        evidence: String,
    },
    /// The store belongs to another root.
    #[error(
        "{path} is not the root that this state directory began with (its key's SHA-256 is {found}, expected {expected}); restore the right one from a backup"
    )]
    AnotherRoot {
        /// The file.
        path: PathBuf,
        /// The root's key hash.
        found: String,
        /// What the store remembers.
        expected: String,
    },
    /// The certificate has ended.
    #[error("{path}: the certificate has expired; {advice}")]
    Expired {
        /// The file.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
    },
    /// A peer would refuse what this authority signs.
    #[error(
        "{path}: what this authority signs would be refused: {source}; check that it was signed by a root of the bundle, and the clock"
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ValidateError,
    },
    /// Nothing could be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Proves an authority by a certificate for nobody: signed by it, and checked as a peer that trusts `roots` would.
fn prove(authority: &Authority, roots: &[CaFacts], trust_domain: &TrustDomain, now: SystemTime) -> Result<(), Proof> {
    let bundle = trust(roots, trust_domain).map_err(|_| Proof::Refused(ValidateError::Signature))?;
    let key = generate_key()?;
    let id = kith_identity::SpiffeId::ca_agent(trust_domain.clone());
    let probe = LeafRequest {
        id: &id,
        dns_names: &[],
        public_key: &public_key_der(&key),
        lifetime: std::time::Duration::from_secs(1),
    };
    let der = make_leaf(authority, &probe, now)?;
    check_leaf(&der, &probe, authority, &bundle, now).map_err(Proof::Refused)?;
    Ok(())
}

/// The root that an authority's chain leads to.
pub(crate) fn anchor(
    authority: &Authority,
    roots: &[CaFacts],
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Option<CaFacts> {
    if let [only] = roots {
        return Some(only.clone());
    }
    roots.iter().find(|root| prove(authority, std::slice::from_ref(root), trust_domain, now).is_ok()).cloned()
}

enum Proof {
    Sign(SignError),
    Refused(ValidateError),
}

impl From<SignError> for Proof {
    fn from(error: SignError) -> Self {
        Self::Sign(error)
    }
}

impl Proof {
    fn at(self, path: &std::path::Path) -> KeyError {
        match self {
            Self::Sign(error) => KeyError::Sign(error),
            Self::Refused(source) => KeyError::Refused { path: path.to_owned(), source },
        }
    }
}

/// The trust that these roots make.
pub(crate) fn trust(roots: &[CaFacts], trust_domain: &TrustDomain) -> Result<Trust, BundleError> {
    let authorities = roots.iter().map(|root| root.der.clone()).collect();
    let bundle = TrustBundle::new(trust_domain.clone(), authorities)?;
    Trust::new(TrustBundles::new(0, [bundle]), Revocations::default())
}
