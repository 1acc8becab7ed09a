//! One record for every certificate and every refusal: in the store, and as a line of the log.

use tracing::{error, info};

use crate::{
    store::{AuditRecord, Store},
    time,
};

/// Writes the record of what belongs to no certificate. It can't be undone by a store that is down, so a failure to
/// store it is only said; the line in the log is there.
pub(super) async fn record(store: &dyn Store, record: &AuditRecord) {
    log(record);
    if let Err(reason) = store.audit(record).await {
        error!(%reason, "An audit record could not be stored");
    }
}

/// The line in the log. Nothing in it is secret.
pub(crate) fn log(record: &AuditRecord) {
    let text = |value: Option<String>| value.unwrap_or_default();
    info!(
        target: "audit",
        at = %time::text(record.at),
        event = record.event.as_str(),
        reason = record.event.reason().unwrap_or_default(),
        attestation = record.attestation.map(crate::store::Attestation::as_str).unwrap_or_default(),
        spiffe_id = text(record.spiffe_id.as_ref().map(ToString::to_string)),
        serial = text(record.serial.as_ref().map(ToString::to_string)),
        public_key_sha256 = text(record.public_key_hash.as_ref().map(ToString::to_string)),
        source = text(record.source.map(|source| source.to_string())),
        "Certificate {}",
        record.event.as_str(),
    );
}
