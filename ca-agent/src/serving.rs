//! The agent's own SVID, `spiffe://<trust-domain>/kith/ca`: issued by itself, renewed by itself, its key in memory only.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use kith_identity::{PrivateKey, Serial, SpiffeId, SvidError, TrustDomain, X509Svid};
use kith_runtime::{
    backoff::{self, Backoff},
    clock::Clock,
    readiness::Gate,
};
use kith_tls::{Credentials, PublishError};
use tracing::{error, info};

use crate::{
    attest::{Subject, renewed},
    authority::{
        Authorities, IssueError, LeafRequest,
        ca::{SignError, generate_key, public_key_der},
        slot,
    },
    bundles::Bundles,
    issuance::{log_audit, record},
    store::{Attestation, AuditEvent, AuditRecord, Holder, Store, StoreError},
    time,
};

const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What the serving SVID is made of.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) trust_domain: TrustDomain,
    /// Names by which ordinary gRPC clients know the agent.
    pub(crate) dns_names: Vec<String>,
    pub(crate) lifetime: Duration,
}

/// Why there is no new serving SVID; the one before stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ServingError {
    /// No key.
    #[error(transparent)]
    Key(#[from] SignError),
    /// No certificate.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// It can't be recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not an SVID.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// A peer would refuse it.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Keeps the serving SVID new.
pub(crate) struct Serving {
    pub(crate) config: Config,
    pub(crate) authorities: Arc<Authorities>,
    pub(crate) bundles: Bundles,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) credentials: Credentials,
    pub(crate) clock: Clock,
    pub(crate) gate: Gate,
}

/// The last one that was issued.
struct Last {
    serial: Serial,
    holder: Serial,
    issued_at: SystemTime,
    not_after: SystemTime,
}

impl Serving {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let mut last: Option<Last> = None;
        loop {
            match self.renew(last.as_ref()).await {
                Ok(next) => {
                    backoff.reset();
                    self.gate.ready();
                    let due = slot::renew_at(next.issued_at, next.not_after, backoff::random());
                    info!(serial = %next.serial, not_after = %time::text(next.not_after), "Issued the serving SVID");
                    last = Some(next);
                    self.clock.sleep_until_wall(due).await;
                }
                Err(reason) => {
                    self.say(&reason, last.as_ref());
                    tokio::time::sleep(backoff.next(backoff::random())).await;
                }
            }
        }
    }

    fn say(&self, reason: &ServingError, last: Option<&Last>) {
        match last {
            Some(last) if self.clock.now() <= last.not_after => {
                error!(%reason, lasts_until = %time::text(last.not_after), "The serving SVID could not be renewed");
            }
            _ => {
                error!(%reason, "There is no valid serving SVID, and none could be issued");
                self.gate.not_ready(format!("no valid serving SVID: {reason}"));
            }
        }
    }

    async fn renew(&self, last: Option<&Last>) -> Result<Last, ServingError> {
        let now = self.clock.now();
        let key = generate_key()?;
        let snapshot = self.authorities.snapshot();
        let subject = Subject {
            id: SpiffeId::ca_agent(self.config.trust_domain.clone()),
            attestation: Attestation::Own,
            attested_at: now,
            renews: last.map(|last| renewed(&last.serial, &last.holder)),
        };
        let asked = LeafRequest {
            id: &subject.id,
            dns_names: &self.config.dns_names,
            public_key: &public_key_der(&key),
            lifetime: self.config.lifetime,
        };
        let certificate = record(snapshot.issue(&asked, now)?, &subject, myself(), now);
        let audit = AuditRecord {
            at: now,
            event: AuditEvent::Issued,
            attestation: Some(Attestation::Own),
            spiffe_id: Some(subject.id),
            serial: Some(certificate.serial.clone()),
            public_key_hash: Some(certificate.public_key_hash),
            source: None,
        };
        self.store.add_certificate(&certificate, &audit).await?;
        log_audit(&audit);
        // The root is shown too: a join token's pin must be able to find it.
        let mut chain = certificate.chain;
        if !chain.contains(&snapshot.anchor.der) {
            chain.push(snapshot.anchor.der.clone());
        }
        let svid = X509Svid::new(chain, PrivateKey::from_pkcs8(key.serialize_der()))?;
        self.credentials.publish(svid, (*self.bundles.current()).clone(), now)?;
        let (serial, holder, not_after) = (certificate.serial, certificate.holder, certificate.not_after);
        Ok(Last { serial, holder, issued_at: now, not_after })
    }
}

fn myself() -> Holder {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Holder { host: host.trim().to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), ..Holder::default() }
}
