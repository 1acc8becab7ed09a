use std::{fs, path::PathBuf, sync::Arc};

use kith_identity::{TrustBundle, TrustBundles, TrustDomain};
use kith_tls::{CredentialsReader, Revocations, RootPin, Roots, Trust};

/// Whom to believe that it is the CA agent.
#[derive(Debug, Clone)]
pub(super) struct CaTrust {
    pub(super) trust_domain: TrustDomain,
    pub(super) bundle_file: Option<PathBuf>,
}

impl CaTrust {
    /// The roots for one connection. With a bundle file it is the file, as it is now. Else a token's pin, if one is
    /// given here: the operator's latest word. Else the trust bundle that the CA itself has sent us.
    pub(super) fn roots(&self, pin: Option<RootPin>, credentials: &CredentialsReader) -> Result<Roots, String> {
        if let Some(trust) = self.file()? {
            return Ok(Roots::Trust(trust));
        }
        if let Some(pin) = pin {
            return Ok(Roots::Pin { pin, trust_domain: self.trust_domain.clone() });
        }
        match credentials.current() {
            Some(material) => Ok(Roots::Trust(Arc::clone(material.trust()))),
            None => Err("no bundle file is configured, and the join token carries no root pin".to_owned()),
        }
    }

    /// The bundle file's content, if there is such a file.
    pub(super) fn file(&self) -> Result<Option<Arc<Trust>>, String> {
        let Some(path) = &self.bundle_file else { return Ok(None) };
        let wrong = |reason: String| format!("{}: {reason}", path.display());
        let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let read = TrustBundle::from_pem(self.trust_domain.clone(), &pem);
        let trust = read.and_then(|bundle| Trust::new(TrustBundles::new(0, [bundle]), Revocations::default()));
        trust.map(|trust| Some(Arc::new(trust))).map_err(|error| wrong(error.to_string()))
    }
}
