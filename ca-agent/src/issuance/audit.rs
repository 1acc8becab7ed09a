//! One record for every certificate and every refusal: in the store, and as a line of the log.

use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore};
use tracing::{error, info};

use crate::{
    store::{AuditRecord, Store},
    time,
};

/// How many refusals may wait to be stored: strangers can cause them faster than any disk takes them.
const MOST_WAITING: usize = 1024;

/// Where the records go of what belongs to no certificate.
pub(super) struct Trail {
    store: Arc<dyn Store>,
    room: Semaphore,
    turn: Mutex<()>,
}

impl Trail {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, room: Semaphore::new(MOST_WAITING), turn: Mutex::new(()) }
    }

    /// Writes the record of a refusal. They take turns, so that an issuance waits behind one of them at most.
    pub(super) async fn refused(&self, record: &AuditRecord) {
        log(record);
        match self.room.try_acquire() {
            Err(_) => error!("An audit record could not be stored: {MOST_WAITING} are waiting"),
            Ok(_room) => {
                let _turn = self.turn.lock().await;
                self.store(record).await;
            }
        }
    }

    /// Writes the record of what was handed out again.
    pub(super) async fn repeated(&self, record: &AuditRecord) {
        log(record);
        self.store(record).await;
    }

    /// What happened can't be undone by a store that is down, so a failure is only said; the line in the log is there.
    async fn store(&self, record: &AuditRecord) {
        if let Err(reason) = self.store.audit(record).await {
            error!(%reason, "An audit record could not be stored");
        }
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
