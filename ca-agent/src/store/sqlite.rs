//! The store in one SQLite file: write-ahead log, every commit on disk before it returns, one writer.

mod certificates;
mod meta;
mod tokens;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use kith_identity::{Serial, TrustDomain};
use kith_runtime::{metrics::Counter, readiness::Gate};
use sqlx::{
    Executor as _, Sqlite, SqliteConnection, SqlitePool, Transaction,
    migrate::MigrateError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tracing::error;

use super::{AuditRecord, CertificateRecord, NewToken, Query, Spending, Store, StoreError, TokenRecord};
use crate::hash::Hash;
use crate::time::millis;

/// How long a write waits for another process that has the file open, such as a backup.
const BUSY: Duration = Duration::from_secs(5);
const READERS: u32 = 4;

/// However many refusals there are, no more than so many are kept: strangers can cause them.
const MOST_REFUSALS: i64 = 100_000;

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum OpenError {
    /// No database, or none that can be used.
    #[error("{path} can't be opened: {source}; check the file system, or restore the file from a backup")]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// Its tables are of a newer program, or damaged.
    #[error("{path} can't be brought up to date: {source}; it may be of a newer version of this program")]
    Migration {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: MigrateError,
    },
}

/// The store in a file.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    errors: Counter,
    gate: Gate,
}

impl SqliteStore {
    /// Opens the file, or makes it. Failures are counted in `errors`; `gate` says whether writes work.
    pub(crate) async fn open(path: &Path, errors: Counter, gate: Gate) -> Result<Self, OpenError> {
        let database = |source| OpenError::Database { path: path.to_owned(), source };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let writer = pool(1).connect_with(options.clone()).await.map_err(database)?;
        sqlx::migrate!("./migrations")
            .run(&writer)
            .await
            .map_err(|source| OpenError::Migration { path: path.to_owned(), source })?;
        let readers = pool(READERS).connect_with(options.read_only(true)).await.map_err(database)?;
        gate.ready();
        Ok(Self { writer, readers, errors, gate })
    }

    /// A transaction that is the only writer from its beginning, so that what it reads holds until it commits.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    fn wrote<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_ok() {
            self.gate.ready();
        }
        self.read(result)
    }

    fn read<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(reason) = &result {
            self.errors.inc();
            self.gate.not_ready(reason.to_string());
            error!(%reason, "The store failed");
        }
        result
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    // Connections to a file don't age, and a bound wait turns a stuck disk into an answer.
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY * 2)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

#[async_trait]
impl Store for SqliteStore {
    async fn probe(&self) -> Result<(), StoreError> {
        self.wrote(async { commit(meta::probe(self.begin().await?).await?).await }.await)
    }

    async fn known_root(&self) -> Result<Option<String>, StoreError> {
        self.read(meta::get(&self.readers, meta::ROOT).await)
    }

    async fn remember_root(&self, spki_sha256: &str) -> Result<(), StoreError> {
        self.wrote(
            async {
                let mut transaction = self.begin().await?;
                meta::set(&mut transaction, meta::ROOT, spki_sha256).await?;
                commit(transaction).await
            }
            .await,
        )
    }

    async fn claim(&self, trust_domain: &TrustDomain) -> Result<TrustDomain, StoreError> {
        self.wrote(
            async {
                let mut transaction = self.begin().await?;
                let owner = meta::claim(&mut transaction, trust_domain).await?;
                commit(transaction).await.map(|()| owner)
            }
            .await,
        )
    }

    async fn bundle_sequence(&self, content: Hash, first: u64) -> Result<u64, StoreError> {
        self.wrote(
            async {
                let mut transaction = self.begin().await?;
                let sequence = meta::bundle_sequence(&mut transaction, content, first).await?;
                commit(transaction).await.map(|()| sequence)
            }
            .await,
        )
    }

    async fn add_token(&self, token: &NewToken) -> Result<(), StoreError> {
        self.wrote(tokens::add(&self.writer, token).await)
    }

    async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.read(tokens::all(&self.readers).await)
    }

    async fn token_by_hash(&self, hash: Hash) -> Result<Option<TokenRecord>, StoreError> {
        self.read(tokens::by_hash(&self.readers, hash).await)
    }

    async fn delete_token(&self, id: &str) -> Result<bool, StoreError> {
        self.wrote(tokens::delete(&self.writer, id).await)
    }

    async fn spend_token(
        &self,
        token_id: &str,
        certificate: &CertificateRecord,
        audit: &AuditRecord,
    ) -> Result<Spending, StoreError> {
        self.wrote(
            async {
                let mut transaction = self.begin().await?;
                let spending = tokens::spend(&mut transaction, token_id, certificate).await?;
                if spending != Spending::Spent {
                    // Dropping the transaction rolls it back.
                    return Ok(spending);
                }
                certificates::add(&mut transaction, certificate).await?;
                add_audit(&mut transaction, audit).await?;
                commit(transaction).await.map(|()| spending)
            }
            .await,
        )
    }

    async fn add_certificate(&self, certificate: &CertificateRecord, audit: &AuditRecord) -> Result<(), StoreError> {
        self.wrote(
            async {
                let mut transaction = self.begin().await?;
                certificates::add(&mut transaction, certificate).await?;
                add_audit(&mut transaction, audit).await?;
                commit(transaction).await
            }
            .await,
        )
    }

    async fn certificate(&self, serial: &Serial) -> Result<Option<CertificateRecord>, StoreError> {
        self.read(certificates::by_serial(&self.readers, serial).await)
    }

    async fn certificates(&self, query: &Query) -> Result<Vec<CertificateRecord>, StoreError> {
        self.read(certificates::find(&self.readers, query).await)
    }

    async fn acknowledge(&self, serial: &Serial, sequence: u64) -> Result<(), StoreError> {
        self.wrote(certificates::acknowledge(&self.writer, serial, sequence).await)
    }

    async fn audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        self.wrote(
            async {
                let mut connection = self.writer.acquire().await?;
                add_audit(&mut connection, record).await
            }
            .await,
        )
    }

    async fn prune(&self, before: SystemTime) -> Result<u64, StoreError> {
        self.wrote(
            async {
                let mut transaction = self.begin().await?;
                let pruned = prune(&mut transaction, millis(before)).await?;
                commit(transaction).await.map(|()| pruned)
            }
            .await,
        )
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

async fn commit(transaction: Transaction<'static, Sqlite>) -> Result<(), StoreError> {
    Ok(transaction.commit().await?)
}

async fn add_audit(connection: &mut SqliteConnection, record: &AuditRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO audit (at, event, reason, attestation, spiffe_id, serial, public_key_hash, source)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(millis(record.at))
    .bind(record.event.as_str())
    .bind(record.event.reason())
    .bind(record.attestation.map(super::Attestation::as_str))
    .bind(record.spiffe_id.as_ref().map(ToString::to_string))
    .bind(record.serial.as_ref().map(ToString::to_string))
    .bind(record.public_key_hash.as_ref().map(ToString::to_string))
    .bind(record.source.map(|source| source.to_string()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn prune(connection: &mut SqliteConnection, before: i64) -> Result<u64, StoreError> {
    let mut pruned = 0;
    for statement in [
        "DELETE FROM certificates WHERE not_after < ?",
        // A token that was spent stands for its certificate as long as that is there.
        "DELETE FROM join_tokens WHERE expires_at < ? AND (serial IS NULL OR serial NOT IN (SELECT serial FROM certificates))",
        "DELETE FROM audit WHERE at < ?",
    ] {
        pruned += connection.execute(sqlx::query(statement).bind(before)).await?.rows_affected();
    }
    let excess = sqlx::query(
        "DELETE FROM audit WHERE event = 'refused' AND id <=
         (SELECT id FROM audit WHERE event = 'refused' ORDER BY id DESC LIMIT 1 OFFSET ?)",
    );
    pruned += connection.execute(excess.bind(MOST_REFUSALS)).await?.rows_affected();
    Ok(pruned)
}

fn parsed<T: FromStr>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Unreadable(text.to_owned()))
}

fn hash(bytes: &[u8]) -> Result<Hash, StoreError> {
    bytes.try_into().map(Hash).map_err(|_| StoreError::Unreadable("a hash".to_owned()))
}

#[cfg(test)]
mod tests;
