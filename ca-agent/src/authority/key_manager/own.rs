//! A root and issuing authorities of our own making. Each is one PEM file that holds the certificate and its key, so
//! that a crash can't part them.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use kith_identity::TrustDomain;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::{
    super::ca::{Authority, CaError, CaFacts, NewCa, make_issuing, make_root},
    KeyError, Keys, files, prove,
};
use crate::pem;

const ROOT: &str = "root.pem";
const ISSUING: (&str, &str) = ("issuing-", ".pem");

/// Nobody but the owner may do anything with our own key files.
const FORBIDDEN: u32 = 0o077;

/// The key files of a state directory. Their owner holds the directory's lock.
#[derive(Debug, Clone)]
pub(crate) struct OwnKeys {
    dir: PathBuf,
    trust_domain: TrustDomain,
    root_lifetime: Duration,
    issuing_lifetime: Duration,
}

impl OwnKeys {
    /// The keys in the folder `authorities` of the state directory.
    pub(crate) fn new(
        state_dir: &Path,
        trust_domain: TrustDomain,
        root_lifetime: Duration,
        issuing_lifetime: Duration,
    ) -> Self {
        Self { dir: state_dir.join("authorities"), trust_domain, root_lifetime, issuing_lifetime }
    }

    /// Loads what is there; makes a root only where there has never been one, and an issuing authority under it
    /// where none is left. `known_root` is the root's key hash that the store remembers.
    pub(crate) fn load_or_make(&self, known_root: Option<&str>, now: SystemTime) -> Result<Keys, KeyError> {
        files::make_private_dir(&self.dir)?;
        let issuing_files = files::list(&self.dir, ISSUING.0, ISSUING.1)?;
        let root = self.root(known_root, &issuing_files, now)?;
        let mut issuing = Vec::new();
        for path in issuing_files {
            issuing.extend(self.load_issuing(&path, &root, now)?);
        }
        if issuing.is_empty() {
            if known_root.is_some() {
                warn!("No issuing authority is left that is valid; a new one is made under the same root");
            }
            issuing.push(self.make_issuing(&root, now)?);
        }
        issuing.sort_by_key(|authority| std::cmp::Reverse(authority.facts.not_before));
        Ok(Keys { roots: vec![root.facts.clone()], signing_root: Some(root), issuing })
    }

    /// Makes the next issuing authority, on disk before it is used.
    pub(crate) fn make_issuing(&self, root: &Authority, now: SystemTime) -> Result<Authority, KeyError> {
        let made = make_issuing(&self.trust_domain, root, self.issuing_lifetime, now)?;
        let path = self.dir.join(format!("{}{}{}", ISSUING.0, made.serial, ISSUING.1));
        files::write_new(&path, &both(&made))?;
        let authority = self.load(&path)?;
        self.check_issuing(&authority, &path, root, now)?;
        info!(serial = %authority.facts.serial, not_after = %crate::time::text(authority.facts.not_after), "Made an issuing authority");
        Ok(authority)
    }

    /// Removes the file of an issuing authority that has expired.
    pub(crate) fn remove_issuing(&self, expired: &CaFacts) -> Result<(), KeyError> {
        files::remove(&self.dir.join(format!("{}{}{}", ISSUING.0, expired.serial, ISSUING.1)))
    }

    fn root(&self, known_root: Option<&str>, issuing: &[PathBuf], now: SystemTime) -> Result<Authority, KeyError> {
        let path = self.dir.join(ROOT);
        if !path.try_exists().map_err(|source| KeyError::Io { path: path.clone(), source })? {
            let evidence = match (issuing.first(), known_root) {
                (Some(issuing), _) => format!("{} is there, which it signed", issuing.display()),
                (None, Some(hash)) => format!("the store remembers a root whose key's SHA-256 is {hash}"),
                (None, None) => return self.make_root(&path, now),
            };
            return Err(KeyError::RootMissing { path, evidence });
        }
        let root = self.load(&path)?;
        if let Some(expected) = known_root.filter(|known| *known != root.facts.spki_sha256) {
            let (found, expected) = (root.facts.spki_sha256.clone(), expected.to_owned());
            return Err(KeyError::AnotherRoot { path, found, expected });
        }
        if root.facts.has_expired(now) {
            let advice = "root rotation does not exist yet: begin anew with an empty state directory";
            return Err(KeyError::Expired { path, advice });
        }
        Ok(root)
    }

    fn make_root(&self, path: &Path, now: SystemTime) -> Result<Authority, KeyError> {
        let made = make_root(&self.trust_domain, self.root_lifetime, now)?;
        files::write_new(path, &both(&made))?;
        let root = self.load(path)?;
        info!(serial = %root.facts.serial, not_after = %crate::time::text(root.facts.not_after), "Made the root");
        Ok(root)
    }

    /// `None` for one that has expired: its time was up while nobody ran.
    fn load_issuing(&self, path: &Path, root: &Authority, now: SystemTime) -> Result<Option<Authority>, KeyError> {
        let authority = self.load(path)?;
        if authority.facts.has_expired(now) {
            return Ok(None);
        }
        self.check_issuing(&authority, path, root, now)?;
        Ok(Some(authority))
    }

    fn check_issuing(
        &self,
        authority: &Authority,
        path: &Path,
        root: &Authority,
        now: SystemTime,
    ) -> Result<(), KeyError> {
        let roots = std::slice::from_ref(&root.facts);
        prove(authority, roots, &self.trust_domain, now).map_err(|proof| proof.at(path))
    }

    fn load(&self, path: &Path) -> Result<Authority, KeyError> {
        let content = files::read(path, FORBIDDEN)?;
        let expected = "one CERTIFICATE and its PRIVATE KEY as PEM";
        let broken = || KeyError::Content { path: path.to_owned(), expected };
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(&content).collect::<Result<_, _>>().map_err(|_| broken())?;
        let [certificate] = certificates.as_slice() else { return Err(broken()) };
        let key = PrivateKeyDer::from_pem_slice(&content).map_err(|_| broken())?;
        let ca = |source: CaError| KeyError::Ca { path: path.to_owned(), source };
        let facts = CaFacts::parse(certificate, &self.trust_domain).map_err(ca)?;
        Authority::new(facts, &key, []).map_err(ca)
    }
}

fn both(ca: &NewCa) -> Zeroizing<Vec<u8>> {
    let mut content = Zeroizing::new(pem::certificate(&ca.certificate).into_bytes());
    content.extend_from_slice(ca.key_pem.as_bytes());
    content
}
