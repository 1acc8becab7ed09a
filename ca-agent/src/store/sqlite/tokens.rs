use sqlx::{Row as _, SqliteConnection, SqlitePool, sqlite::SqliteRow};

use super::{
    super::{CertificateRecord, NewToken, Spending, Spent, StoreError, TokenRecord},
    hash, parsed,
};
use crate::hash::Hash;
use crate::time::{from_millis, millis};

pub(super) async fn add(pool: &SqlitePool, token: &NewToken) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO join_tokens (id, hash, spiffe_id, created_at, expires_at) VALUES (?, ?, ?, ?, ?)")
        .bind(&token.id)
        .bind(token.hash.0.to_vec())
        .bind(token.spiffe_id.to_string())
        .bind(millis(token.created_at))
        .bind(millis(token.expires_at))
        .execute(pool)
        .await?;
    Ok(())
}

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<TokenRecord>, StoreError> {
    let rows = sqlx::query("SELECT * FROM join_tokens ORDER BY created_at DESC, id").fetch_all(pool).await?;
    rows.iter().map(record).collect()
}

/// The lookup by hash is the comparison: its time depends on the hash of what was guessed, which helps nobody.
pub(super) async fn by_hash(pool: &SqlitePool, hash: Hash) -> Result<Option<TokenRecord>, StoreError> {
    let row =
        sqlx::query("SELECT * FROM join_tokens WHERE hash = ?").bind(hash.0.to_vec()).fetch_optional(pool).await?;
    row.as_ref().map(record).transpose()
}

pub(super) async fn delete(pool: &SqlitePool, id: &str) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM join_tokens WHERE id = ?").bind(id).execute(pool).await?;
    Ok(done.rows_affected() > 0)
}

/// Spends the token, if it is still there to be spent.
pub(super) async fn spend(
    connection: &mut SqliteConnection,
    id: &str,
    certificate: &CertificateRecord,
) -> Result<Spending, StoreError> {
    let row = sqlx::query("SELECT * FROM join_tokens WHERE id = ?").bind(id).fetch_optional(&mut *connection).await?;
    let Some(row) = row else { return Ok(Spending::Unknown) };
    let token = record(&row)?;
    if let Some(spent) = token.spent {
        return Ok(Spending::SpentBefore(spent));
    }
    if token.expires_at <= certificate.issued_at {
        return Ok(Spending::Expired);
    }
    sqlx::query("UPDATE join_tokens SET spent_at = ?, public_key_hash = ?, serial = ? WHERE id = ?")
        .bind(millis(certificate.issued_at))
        .bind(certificate.public_key_hash.0.to_vec())
        .bind(certificate.serial.to_string())
        .bind(id)
        .execute(connection)
        .await?;
    Ok(Spending::Spent)
}

fn record(row: &SqliteRow) -> Result<TokenRecord, StoreError> {
    let spent_at: Option<i64> = row.try_get("spent_at")?;
    let spent = match spent_at {
        None => None,
        Some(at) => Some(Spent {
            at: from_millis(at),
            public_key_hash: hash(row.try_get("public_key_hash")?)?,
            serial: parsed(row.try_get("serial")?)?,
        }),
    };
    Ok(TokenRecord {
        id: row.try_get("id")?,
        spiffe_id: parsed(row.try_get("spiffe_id")?)?,
        created_at: from_millis(row.try_get("created_at")?),
        expires_at: from_millis(row.try_get("expires_at")?),
        spent,
    })
}
