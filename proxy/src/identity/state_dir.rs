use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kith_identity::{PrivateKey, TrustBundle, TrustBundles, X509Svid};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    private_file::{Staged, make_dir, not_private, sync_dir},
    state::AttestationKind,
};

const FILE: &str = "identity.json";
const KEY_TAG: &str = "PRIVATE KEY";
const CERTIFICATE_TAG: &str = "CERTIFICATE";

/// Where key and SVID outlive the process, when an operator asks for that.
#[derive(Debug)]
pub(super) struct StateDir(PathBuf);

/// What is kept: one file, so that key and certificate never part.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) svid: X509Svid,
    pub(super) bundles: TrustBundles,
    pub(super) attestation: AttestationKind,
    pub(super) next_rotation: SystemTime,
}

/// A directory that is no place for a key.
#[derive(Debug, thiserror::Error)]
#[error("--state-dir (KITH_STATE_DIR) is '{}': {reason}", dir.display())]
pub struct StateDirError {
    /// The directory.
    dir: PathBuf,
    /// What is wrong and what was expected.
    reason: String,
}

impl StateDir {
    /// Makes the directory, or takes the one that is there if nobody else can reach it.
    pub(super) fn open(dir: &Path) -> Result<Self, StateDirError> {
        let wrong = |reason: String| StateDirError { dir: dir.to_owned(), reason };
        let failed = |error: io::Error| wrong(format!("{error}; expected a directory that this user can write"));
        make_dir(dir).map_err(failed)?;
        match not_private(dir).map_err(failed)? {
            Some(reason) => Err(wrong(reason)),
            None => Ok(Self(dir.to_owned())),
        }
    }

    /// What an earlier process has kept. An error says why it can't be used.
    pub(super) fn load(&self) -> Result<Option<Kept>, String> {
        let text = match fs::read(self.0.join(FILE)) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let file: Contents = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        file.into_kept().map(Some)
    }

    /// Replaces what is kept.
    pub(super) fn save(&self, kept: &Kept) -> io::Result<()> {
        let text = Zeroizing::new(serde_json::to_vec_pretty(&Contents::of(kept)).map_err(io::Error::other)?);
        Staged::write(&self.0, FILE, &text)?.commit()?;
        sync_dir(&self.0)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    attestation: AttestationKind,
    next_rotation: u64,
    chain: String,
    #[serde(with = "secret")]
    key: Zeroizing<String>,
    sequence: u64,
    bundles: Vec<BundleContents>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleContents {
    trust_domain: kith_identity::TrustDomain,
    x509_authorities: String,
}

/// A secret is written as it is, and wiped from memory once it was read.
mod secret {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(secret: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}

impl Contents {
    fn of(kept: &Kept) -> Self {
        let since = kept.next_rotation.duration_since(UNIX_EPOCH).unwrap_or_default();
        let bundle = |bundle: &TrustBundle| BundleContents {
            trust_domain: bundle.trust_domain().clone(),
            x509_authorities: certificates_to_pem(bundle.authorities()),
        };
        Self {
            attestation: kept.attestation,
            next_rotation: since.as_secs(),
            chain: certificates_to_pem(kept.svid.chain()),
            key: key_to_pem(kept.svid.key()),
            sequence: kept.bundles.sequence,
            bundles: kept.bundles.iter().map(bundle).collect(),
        }
    }

    fn into_kept(self) -> Result<Kept, String> {
        let key = pem::parse(self.key.as_str()).map_err(|error| error.to_string())?;
        if key.tag() != KEY_TAG {
            return Err(format!("the key is a {}", key.tag()));
        }
        let chain = pem::parse_many(&self.chain).map_err(|error| error.to_string())?;
        let chain = chain.into_iter().map(pem::Pem::into_contents).collect();
        let svid = X509Svid::new(chain, PrivateKey::from_pkcs8(key.into_contents())).map_err(|e| e.to_string())?;
        let bundles = self.bundles.into_iter().map(|bundle| {
            let pem = bundle.x509_authorities.as_bytes();
            TrustBundle::from_pem(bundle.trust_domain, pem).map_err(|error| error.to_string())
        });
        Ok(Kept {
            svid,
            bundles: TrustBundles::new(self.sequence, bundles.collect::<Result<Vec<_>, _>>()?),
            attestation: self.attestation,
            next_rotation: UNIX_EPOCH + Duration::from_secs(self.next_rotation),
        })
    }
}

/// CERTIFICATE blocks, in order.
pub(crate) fn certificates_to_pem(chain: &[Vec<u8>]) -> String {
    chain.iter().map(|der| encode(CERTIFICATE_TAG, der.as_slice())).collect()
}

/// A PRIVATE KEY block (RFC 7468 §10).
pub(crate) fn key_to_pem(key: &PrivateKey) -> Zeroizing<String> {
    Zeroizing::new(encode(KEY_TAG, key.pkcs8()))
}

fn encode(tag: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, der), config)
}
