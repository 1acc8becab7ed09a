use kith_identity::TrustDomain;
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};

use super::{super::StoreError, parsed};
use crate::hash::Hash;

pub(super) const ROOT: &str = "root_spki_sha256";
const TRUST_DOMAIN: &str = "trust_domain";
const BUNDLE_SEQUENCE: &str = "bundle_sequence";
const BUNDLE_CONTENT: &str = "bundle_content";
const PROBE: &str = "probe";

const GET: &str = "SELECT value FROM meta WHERE key = ?";

/// Writes something, so that a full disk is noticed.
pub(super) async fn probe(
    mut transaction: Transaction<'static, Sqlite>,
) -> Result<Transaction<'static, Sqlite>, StoreError> {
    let before = get_in(&mut transaction, PROBE).await?;
    let next = if before.as_deref() == Some("0") { "1" } else { "0" };
    set(&mut transaction, PROBE, next).await?;
    Ok(transaction)
}

pub(super) async fn get(pool: &SqlitePool, key: &str) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar(GET).bind(key).fetch_optional(pool).await?)
}

async fn get_in(connection: &mut SqliteConnection, key: &str) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar(GET).bind(key).fetch_optional(connection).await?)
}

pub(super) async fn set(connection: &mut SqliteConnection, key: &str, value: &str) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        .bind(key)
        .bind(value)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn claim(
    connection: &mut SqliteConnection,
    trust_domain: &TrustDomain,
) -> Result<TrustDomain, StoreError> {
    match get_in(connection, TRUST_DOMAIN).await? {
        Some(owner) => parsed(&owner),
        None => set(connection, TRUST_DOMAIN, trust_domain.as_str()).await.map(|()| trust_domain.clone()),
    }
}

pub(super) async fn bundle_sequence(
    connection: &mut SqliteConnection,
    content: Hash,
    first: u64,
) -> Result<u64, StoreError> {
    let content = content.to_string();
    let known: Option<u64> = get_in(connection, BUNDLE_SEQUENCE).await?.as_deref().map(parsed).transpose()?;
    let same = get_in(connection, BUNDLE_CONTENT).await?.as_ref() == Some(&content);
    let next = match known {
        Some(sequence) if same => return Ok(sequence),
        Some(sequence) => sequence + 1,
        None => first,
    };
    set(connection, BUNDLE_SEQUENCE, &next.to_string()).await?;
    set(connection, BUNDLE_CONTENT, &content).await?;
    Ok(next)
}
