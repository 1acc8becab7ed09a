//! What must outlive the process: join tokens, issued certificates, the audit trail, and a few facts about ourselves.
//! Whatever a method has returned `Ok` for is on disk.

mod record;
mod sqlite;

use std::time::SystemTime;

use async_trait::async_trait;
use kith_identity::{Serial, SpiffeId, TrustDomain};

pub(crate) use self::{
    record::{Attestation, AuditEvent, AuditRecord, CertificateRecord, Holder, NewToken, Spent, TokenRecord},
    sqlite::{OpenError, SqliteStore},
};
use crate::hash::Hash;

/// Why the store did not do it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    /// The database failed, or its disk.
    #[error("the store failed: {0}")]
    Database(#[from] sqlx::Error),
    /// What was read is not what was written.
    #[error("the store holds something unreadable: {0}")]
    Unreadable(String),
}

/// What became of spending a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Spending {
    /// It was spent now, and the certificate recorded.
    Spent,
    /// It is not there, or no longer.
    Unknown,
    /// It waited too long.
    Expired,
    /// It was spent before.
    SpentBefore(Spent),
}

/// Which certificates, and in what order they come: by SPIFFE ID, then serial number.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) now: SystemTime,
    pub(crate) spiffe_id: Option<SpiffeId>,
    /// Whole path segments: the ID itself, and everything below it.
    pub(crate) prefix: Option<String>,
    pub(crate) include_expired: bool,
    pub(crate) include_superseded: bool,
    /// Only what comes after this one.
    pub(crate) after: Option<(String, String)>,
    pub(crate) limit: u32,
}

/// The store. One process uses it at a time.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Whether it can be written to at this moment.
    async fn probe(&self) -> Result<(), StoreError>;

    /// The key hash of our own root, if one was remembered.
    async fn known_root(&self) -> Result<Option<String>, StoreError>;
    /// Remembers our own root for good.
    async fn remember_root(&self, spki_sha256: &str) -> Result<(), StoreError>;
    /// Remembers the trust domain, or says which one this store is of.
    async fn claim(&self, trust_domain: &TrustDomain) -> Result<TrustDomain, StoreError>;
    /// The sequence number of trust bundles with this content: the next one if the content is new, `first` if there
    /// has been none.
    async fn bundle_sequence(&self, content: Hash, first: u64) -> Result<u64, StoreError>;

    /// Adds a token.
    async fn add_token(&self, token: &NewToken) -> Result<(), StoreError>;
    /// All tokens, newest first.
    async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError>;
    /// The token whose secret has this hash.
    async fn token_by_hash(&self, hash: Hash) -> Result<Option<TokenRecord>, StoreError>;
    /// Deletes a token; `false` when there is none.
    async fn delete_token(&self, id: &str) -> Result<bool, StoreError>;

    /// Spends a token on a certificate and records both, with the audit record, or nothing at all.
    async fn spend_token(
        &self,
        token_id: &str,
        certificate: &CertificateRecord,
        audit: &AuditRecord,
    ) -> Result<Spending, StoreError>;
    /// Records a certificate that replaces an earlier one of the same holder, or is our own, with the audit record.
    async fn add_certificate(&self, certificate: &CertificateRecord, audit: &AuditRecord) -> Result<(), StoreError>;
    /// The certificate with this serial number.
    async fn certificate(&self, serial: &Serial) -> Result<Option<CertificateRecord>, StoreError>;
    /// The certificates that a query finds.
    async fn certificates(&self, query: &Query) -> Result<Vec<CertificateRecord>, StoreError>;
    /// Notes that the holder of this certificate has applied the trust bundles up to a sequence number.
    async fn acknowledge(&self, serial: &Serial, sequence: u64) -> Result<(), StoreError>;

    /// Writes an audit record that belongs to no certificate.
    async fn audit(&self, record: &AuditRecord) -> Result<(), StoreError>;
    /// Forgets what ended before a moment. Says how much that was.
    async fn prune(&self, before: SystemTime) -> Result<u64, StoreError>;
    /// Finishes what is being written and closes the files.
    async fn close(&self);
}
