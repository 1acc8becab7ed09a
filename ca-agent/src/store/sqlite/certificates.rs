use kith_identity::Serial;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    super::{Attestation, CertificateRecord, Holder, Query, StoreError},
    hash, parsed,
};
use crate::time::{from_millis, millis};

/// Adds a certificate: from now on it is its holder's current one.
pub(super) async fn add(connection: &mut SqliteConnection, record: &CertificateRecord) -> Result<(), StoreError> {
    sqlx::query("UPDATE certificates SET superseded = 1 WHERE holder = ?")
        .bind(record.holder.to_string())
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO certificates (serial, spiffe_id, holder, previous, chain, issuer, public_key_hash, host, pod_name,
         pod_uid, node_name, version, attestation, attested_at, issued_at, not_before, not_after)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(record.serial.to_string())
    .bind(record.spiffe_id.to_string())
    .bind(record.holder.to_string())
    .bind(record.previous.as_ref().map(ToString::to_string))
    .bind(record.chain.concat())
    .bind(&record.issuer)
    .bind(record.public_key_hash.0.to_vec())
    .bind(&record.instance.host)
    .bind(&record.instance.pod_name)
    .bind(&record.instance.pod_uid)
    .bind(&record.instance.node_name)
    .bind(&record.instance.version)
    .bind(record.attestation.as_str())
    .bind(millis(record.attested_at))
    .bind(millis(record.issued_at))
    .bind(millis(record.not_before))
    .bind(millis(record.not_after))
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn by_serial(pool: &SqlitePool, serial: &Serial) -> Result<Option<CertificateRecord>, StoreError> {
    let row = sqlx::query("SELECT * FROM certificates WHERE serial = ?").bind(serial.to_string());
    row.fetch_optional(pool).await?.as_ref().map(record).transpose()
}

pub(super) async fn find(pool: &SqlitePool, query: &Query) -> Result<Vec<CertificateRecord>, StoreError> {
    let rows = statement(query).build().fetch_all(pool).await?;
    rows.iter().map(record).collect()
}

pub(super) async fn acknowledge(pool: &SqlitePool, serial: &Serial, sequence: u64) -> Result<(), StoreError> {
    let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
    sqlx::query("UPDATE certificates SET applied_sequence = ?1 WHERE serial = ?2 AND applied_sequence < ?1")
        .bind(sequence)
        .bind(serial.to_string())
        .execute(pool)
        .await?;
    Ok(())
}

fn statement(query: &Query) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT * FROM certificates WHERE 1");
    if let Some(id) = &query.spiffe_id {
        sql.push(" AND spiffe_id = ").push_bind(id.to_string());
    }
    if let Some(prefix) = &query.prefix {
        // '0' is the character after '/': the range is everything below the prefix.
        sql.push(" AND (spiffe_id = ").push_bind(prefix.clone());
        sql.push(" OR (spiffe_id > ").push_bind(format!("{prefix}/"));
        sql.push(" AND spiffe_id < ").push_bind(format!("{prefix}0"));
        sql.push("))");
    }
    if !query.include_expired {
        // The last second still counts.
        sql.push(" AND not_after + 1000 > ").push_bind(millis(query.now));
    }
    if !query.include_superseded {
        sql.push(" AND superseded = 0");
    }
    if let Some((id, serial)) = &query.after {
        sql.push(" AND (spiffe_id, serial) > (").push_bind(id.clone()).push(", ");
        sql.push_bind(serial.clone()).push(")");
    }
    sql.push(" ORDER BY spiffe_id, serial LIMIT ").push_bind(i64::from(query.limit));
    sql
}

fn record(row: &SqliteRow) -> Result<CertificateRecord, StoreError> {
    let previous: Option<&str> = row.try_get("previous")?;
    let attestation: &str = row.try_get("attestation")?;
    Ok(CertificateRecord {
        serial: parsed(row.try_get("serial")?)?,
        spiffe_id: parsed(row.try_get("spiffe_id")?)?,
        holder: parsed(row.try_get("holder")?)?,
        previous: previous.map(parsed).transpose()?,
        chain: split(row.try_get("chain")?)?,
        issuer: row.try_get("issuer")?,
        public_key_hash: hash(row.try_get("public_key_hash")?)?,
        instance: Holder {
            host: row.try_get("host")?,
            pod_name: row.try_get("pod_name")?,
            pod_uid: row.try_get("pod_uid")?,
            node_name: row.try_get("node_name")?,
            version: row.try_get("version")?,
        },
        attestation: Attestation::parse(attestation).ok_or_else(|| StoreError::Unreadable(attestation.to_owned()))?,
        attested_at: from_millis(row.try_get("attested_at")?),
        issued_at: from_millis(row.try_get("issued_at")?),
        not_before: from_millis(row.try_get("not_before")?),
        not_after: from_millis(row.try_get("not_after")?),
    })
}

fn split(mut chain: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut certificates = Vec::new();
    while !chain.is_empty() {
        let (rest, _) =
            X509Certificate::from_der(chain).map_err(|_| StoreError::Unreadable("a certificate chain".to_owned()))?;
        let (certificate, rest) = chain.split_at(chain.len() - rest.len());
        certificates.push(certificate.to_vec());
        chain = rest;
    }
    Ok(certificates)
}
