//! The operator's own intermediate as files: no root key is here, and nothing replaces itself.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use kith_identity::{TrustBundle, TrustDomain};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::{
    super::ca::{Authority, CaError, CaFacts},
    KeyError, Keys, files, prove,
};

/// A key may be readable by the owner's group, as of a mounted secret, not by everybody.
const FORBIDDEN_KEY: u32 = 0o007;
const FORBIDDEN_CERTIFICATE: u32 = 0;

/// The operator's files, PEM.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    /// The issuing authority, then what leads on towards the root.
    pub(crate) certificate: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// The roots that workloads trust.
    pub(crate) root_bundle: PathBuf,
}

impl Operator {
    /// Loads the files and proves that a certificate signed with them is accepted under the roots.
    pub(crate) fn load(&self, trust_domain: &TrustDomain, now: SystemTime) -> Result<Keys, KeyError> {
        let roots = self.roots(trust_domain)?;
        let issuing = self.issuing(trust_domain)?;
        if issuing.facts.has_expired(now) {
            let advice = "have your PKI sign a new one and give it";
            return Err(KeyError::Expired { path: self.certificate.clone(), advice });
        }
        prove(&issuing, &roots, trust_domain, now).map_err(|proof| proof.at(&self.certificate))?;
        Ok(Keys { roots, signing_root: None, issuing: vec![issuing] })
    }

    fn roots(&self, trust_domain: &TrustDomain) -> Result<Vec<CaFacts>, KeyError> {
        let path = &self.root_bundle;
        let content = files::read(path, FORBIDDEN_CERTIFICATE)?;
        let bundle = TrustBundle::from_pem(trust_domain.clone(), &content)
            .map_err(|source| KeyError::Bundle { path: path.clone(), source })?;
        bundle.authorities().iter().map(|der| CaFacts::parse(der, trust_domain).map_err(ca(path))).collect()
    }

    fn issuing(&self, trust_domain: &TrustDomain) -> Result<Authority, KeyError> {
        let content = files::read(&self.certificate, FORBIDDEN_CERTIFICATE)?;
        let expected = "CERTIFICATE blocks as PEM: the issuing authority first, then what leads on to the root";
        let broken = || KeyError::Content { path: self.certificate.clone(), expected };
        let certificates: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&content)
            .map(|der| der.map(|der| der.to_vec()))
            .collect::<Result<_, _>>()
            .map_err(|_| broken())?;
        let (first, rest) = certificates.split_first().ok_or_else(broken)?;
        let facts = CaFacts::parse(first, trust_domain).map_err(ca(&self.certificate))?;
        let key = files::read(&self.key, FORBIDDEN_KEY)?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| KeyError::Content { path: self.key.clone(), expected: "one PRIVATE KEY as PEM" })?;
        Authority::new(facts, &key, rest.to_vec()).map_err(ca(&self.key))
    }
}

fn ca(path: &Path) -> impl Fn(CaError) -> KeyError + use<> {
    let path = path.to_owned();
    move |source| KeyError::Ca { path: path.clone(), source }
}
