//! Issuance itself, whatever carried the request.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use kith_identity::{Leaf, Serial, SpiffeId, TrustDomain};
use kith_runtime::clock::Clock;

use super::{
    Config, audit,
    csr::{self, ProvedKey},
    limit::{Limit, Limited, source_key},
    refusal::Refusal,
};
use crate::{
    attest::{AttestError, Subject, join_token, svid},
    authority::{Authorities, Issued, LeafRequest},
    hash::Hash,
    metrics::Metrics,
    store::{Attestation, AuditEvent, AuditRecord, CertificateRecord, Holder, Spending, Store, TokenRecord},
};

/// What somebody asks for.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) csr: Vec<u8>,
    pub(crate) proof: Result<Proof, AttestError>,
    pub(crate) holder: Holder,
    pub(crate) source: Option<IpAddr>,
}

/// How they prove who they are.
pub(crate) enum Proof {
    /// The token: secret.
    JoinToken(zeroize::Zeroizing<String>),
    /// The certificate that the connection has proved.
    CurrentSvid(Arc<Leaf>),
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind().as_str())
    }
}

impl Proof {
    fn kind(&self) -> Attestation {
        match self {
            Self::JoinToken(_) => Attestation::JoinToken,
            Self::CurrentSvid(_) => Attestation::CurrentSvid,
        }
    }
}

/// Issues certificates.
pub(crate) struct Issuance {
    config: Config,
    trust_domain: TrustDomain,
    authorities: Arc<Authorities>,
    store: Arc<dyn Store>,
    audit: audit::Trail,
    clock: Clock,
    metrics: Metrics,
    by_source: Limit<IpAddr>,
    by_identity: Limit<SpiffeId>,
}

impl Issuance {
    /// Issues with these authorities, and records in this store.
    pub(crate) fn new(
        config: Config,
        trust_domain: TrustDomain,
        authorities: Arc<Authorities>,
        store: Arc<dyn Store>,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let (by_source, by_identity) = (Limit::new(config.requests_per_minute), Limit::new(config.requests_per_minute));
        let audit = audit::Trail::new(Arc::clone(&store));
        Self { config, trust_domain, authorities, store, audit, clock, metrics, by_source, by_identity }
    }

    /// The certificate chain for one request, leaf first. Everything about it is on disk before this returns.
    pub(crate) async fn issue(&self, ask: Ask) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut trail = AuditRecord {
            at: self.clock.now(),
            event: AuditEvent::Issued,
            attestation: ask.proof.as_ref().ok().map(Proof::kind),
            spiffe_id: None,
            serial: None,
            public_key_hash: None,
            source: ask.source,
        };
        let result = self.judge(ask, &mut trail).await;
        if let Err(refusal) = &result {
            let reason = refusal.as_str();
            self.metrics.refused.with([reason]).inc();
            // A flood of requests must not become a flood of writes: the first of a row stands for it.
            if !matches!(refusal, Refusal::RateLimited { first: false }) {
                trail.event = AuditEvent::Refused { reason };
                self.audit.refused(&trail).await;
            }
        }
        result
    }

    async fn judge(&self, ask: Ask, trail: &mut AuditRecord) -> Result<Vec<Vec<u8>>, Refusal> {
        if let Some(source) = ask.source {
            self.by_source.take(source_key(source), Instant::now()).map_err(limited)?;
        }
        let proof = ask.proof?;
        check_holder(&ask.holder)?;
        let key = csr::read(&ask.csr)?;
        trail.public_key_hash = Some(key.hash);
        match proof {
            Proof::JoinToken(token) => self.by_token(&token, &key, ask.holder, trail).await,
            Proof::CurrentSvid(leaf) => self.by_svid(&leaf, &key, ask.holder, trail).await,
        }
    }

    async fn by_token(
        &self,
        token: &str,
        key: &ProvedKey,
        holder: Holder,
        trail: &mut AuditRecord,
    ) -> Result<Vec<Vec<u8>>, Refusal> {
        let hash = join_token::hash_of(token).ok_or(AttestError::TokenUnknown)?;
        let token = self.store.token_by_hash(hash).await?.ok_or(AttestError::TokenUnknown)?;
        self.take_identity(&token.spiffe_id, trail)?;
        match join_token::attest(&token, key.hash, &self.trust_domain, self.config.token_workloads, trail.at)? {
            join_token::Proved::Again(serial) => self.repeat(&serial, trail).await,
            join_token::Proved::Fresh(subject) => self.spend(&token, &subject, key, holder, trail).await,
        }
    }

    async fn spend(
        &self,
        token: &TokenRecord,
        subject: &Subject,
        key: &ProvedKey,
        holder: Holder,
        trail: &mut AuditRecord,
    ) -> Result<Vec<Vec<u8>>, Refusal> {
        let certificate = self.make(subject, key, holder, trail)?;
        match self.store.spend_token(&token.id, &certificate, trail).await? {
            Spending::Spent => Ok(self.issued(certificate, trail)),
            Spending::Unknown => Err(AttestError::TokenUnknown.into()),
            Spending::Expired => Err(AttestError::TokenExpired.into()),
            // Somebody was faster. If it was the same key, the answer is the same.
            Spending::SpentBefore(spent) => {
                trail.serial = None;
                self.repeat(&join_token::again(&spent, key.hash)?, trail).await
            }
        }
    }

    /// Hands out again what was issued before, as long as it is valid.
    async fn repeat(&self, serial: &Serial, trail: &mut AuditRecord) -> Result<Vec<Vec<u8>>, Refusal> {
        let certificate = self.store.certificate(serial).await?.filter(|known| trail.at <= known.not_after);
        let certificate = certificate.ok_or(AttestError::TokenSpent)?;
        trail.event = AuditEvent::Repeated;
        trail.serial = Some(certificate.serial);
        self.audit.repeated(trail).await;
        Ok(certificate.chain)
    }

    async fn by_svid(
        &self,
        leaf: &Leaf,
        key: &ProvedKey,
        holder: Holder,
        trail: &mut AuditRecord,
    ) -> Result<Vec<Vec<u8>>, Refusal> {
        self.take_identity(&leaf.id, trail)?;
        let known = self.store.certificate(&leaf.serial).await?;
        let subject = svid::attest(leaf, known.as_ref(), self.config.longest_since_attestation, trail.at)?;
        let certificate = self.make(&subject, key, holder, trail)?;
        self.store.add_certificate(&certificate, trail).await?;
        Ok(self.issued(certificate, trail))
    }

    fn take_identity(&self, id: &SpiffeId, trail: &mut AuditRecord) -> Result<(), Refusal> {
        trail.spiffe_id = Some(id.clone());
        self.by_identity.take(id.clone(), Instant::now()).map_err(limited)
    }

    fn make(
        &self,
        subject: &Subject,
        key: &ProvedKey,
        instance: Holder,
        trail: &mut AuditRecord,
    ) -> Result<CertificateRecord, Refusal> {
        let lifetime = self.config.svid_lifetime;
        let asked = LeafRequest { id: &subject.id, dns_names: &[], public_key: &key.spki, lifetime };
        let issued = self.authorities.snapshot().issue(&asked, trail.at)?;
        trail.serial = Some(issued.leaf.serial.clone());
        Ok(record(issued, subject, instance, trail.at))
    }

    fn issued(&self, certificate: CertificateRecord, trail: &AuditRecord) -> Vec<Vec<u8>> {
        self.metrics.issued.with([certificate.attestation.as_str()]).inc();
        audit::log(trail);
        certificate.chain
    }
}

/// What the store keeps of a certificate.
pub(crate) fn record(issued: Issued, subject: &Subject, instance: Holder, now: SystemTime) -> CertificateRecord {
    let serial = issued.leaf.serial;
    let (previous, holder) = match &subject.renews {
        Some(renewed) => (Some(renewed.serial.clone()), renewed.holder.clone()),
        None => (None, serial.clone()),
    };
    CertificateRecord {
        serial,
        spiffe_id: issued.leaf.id,
        holder,
        previous,
        chain: issued.chain,
        issuer: issued.issuer,
        public_key_hash: Hash::of(&issued.leaf.public_key),
        instance,
        attestation: subject.attestation,
        attested_at: subject.attested_at,
        issued_at: now,
        not_before: issued.leaf.not_before,
        not_after: issued.leaf.not_after,
    }
}

fn limited(Limited { first }: Limited) -> Refusal {
    Refusal::RateLimited { first }
}

/// It is shown to operators, in terminals too.
fn check_holder(holder: &Holder) -> Result<(), Refusal> {
    let texts = [&holder.host, &holder.pod_name, &holder.pod_uid, &holder.node_name, &holder.version];
    let fine = |text: &&String| text.len() <= 253 && !text.chars().any(char::is_control);
    if texts.iter().all(fine) { Ok(()) } else { Err(Refusal::Instance) }
}
