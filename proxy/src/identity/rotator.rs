use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use kith_runtime::{
    backoff::{Backoff, random},
    clock::Clock,
};
use kith_tls::{Material, PublishError};
use tracing::{info, warn};

use super::{
    ca_client::{Attestation, CaClient, CallError},
    csr::{KeyError, Request},
    publisher::{Issued, Publisher},
    schedule,
    state::expires,
    token::{JoinToken, TokenError, TokenSource},
};

/// Obtains the first SVID, and renews it for as long as the process lives.
#[derive(Debug)]
pub(super) struct Rotator {
    pub(super) ca: CaClient,
    pub(super) tokens: TokenSource,
    pub(super) publisher: Arc<Publisher>,
    pub(super) clock: Clock,
    /// The issuance that is under way.
    pub(super) pending: Option<Pending>,
    /// The token that has got us an SVID before.
    pub(super) spent: Option<JoinToken>,
}

/// A request that is kept through its retries: the CA gives the same certificate for the same token and key, so that
/// an answer which was lost costs nothing.
#[derive(Debug)]
pub(super) struct Pending {
    request: Request,
    token: Option<JoinToken>,
}

/// Why a renewal is due.
enum Due {
    /// It was planned so.
    InTime,
    /// The SVID has become worthless before.
    Early,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the SVID that the CA issued is not usable: {0}")]
    Publish(#[from] PublishError),
    #[error("the renewal failed: {renewal}; attesting anew failed too: {attestation}")]
    Both { renewal: Box<AttemptError>, attestation: Box<AttemptError> },
}

impl Rotator {
    /// Never returns.
    pub(super) async fn run(mut self) {
        if self.publisher.material().is_none() {
            self.obtain().await;
        }
        let (initial, cap) = schedule::EARLY;
        let mut early = Backoff::new(initial, cap);
        loop {
            match self.until_due().await {
                Due::InTime => early.reset(),
                // A withdrawn root concerns the whole fleet at once, and a CA whose bundles disown what it has just
                // issued must not be asked in circles.
                Due::Early => tokio::time::sleep(early.next(random())).await,
            }
            self.obtain().await;
        }
    }

    async fn until_due(&self) -> Due {
        let due = self.publisher.state().borrow().next_rotation.unwrap_or_else(|| self.clock.now());
        tokio::select! {
            () = self.clock.sleep_until_wall(due) => Due::InTime,
            () = self.publisher.renew_now() => Due::Early,
        }
    }

    /// Tries until it works.
    async fn obtain(&mut self) {
        let (initial, cap) = schedule::RETRY;
        let mut backoff = Backoff::new(initial, cap);
        while let Err(error) = self.attempt().await {
            let now = self.clock.now();
            let expires = self.publisher.material().map(|material| expires(material.svid().not_after()));
            let wait = schedule::retry(backoff.next(random()), now, expires);
            self.publisher.failed(error.as_str(), error.to_string(), now);
            log_failure(&error, now, expires, wait);
            // A changed bundle may be what the CA's answer waits for.
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.publisher.renew_now() => {}
            }
        }
    }

    async fn attempt(&mut self) -> Result<(), AttemptError> {
        let now = self.clock.now();
        let usable = self.publisher.material().filter(|material| now < expires(material.svid().not_after()));
        let Some(material) = usable else { return self.attest().await };
        match self.renew(&material).await {
            Err(AttemptError::Call(error)) if error.is_refusal() && self.tokens.is_configured() => {
                let both = |attestation| AttemptError::Both {
                    renewal: Box::new(error.into()),
                    attestation: Box::new(attestation),
                };
                self.attest().await.map_err(both)
            }
            result => result,
        }
    }

    async fn renew(&mut self, material: &Material) -> Result<(), AttemptError> {
        let token = self.pending.as_ref().and_then(|pending| pending.token.clone());
        let attestation = Attestation::CurrentSvid { id: material.svid().id() };
        let request = request(&mut self.pending, token)?;
        let issued = self.ca.issue(request, attestation).await?;
        self.publish(issued).await
    }

    async fn attest(&mut self) -> Result<(), AttemptError> {
        let token = self.tokens.read()?;
        // A token that brought an SVID already is older than the trust bundle that came with it; an operator who
        // gives another one says whom to believe from now on.
        let pin_counts = self.publisher.material().is_none() || self.spent.as_ref() != Some(&token);
        let request = request(&mut self.pending, Some(token.clone()))?;
        let issued = self.ca.issue(request, Attestation::JoinToken { token: &token, pin_counts }).await?;
        self.publish(issued).await?;
        self.spent = Some(token);
        Ok(())
    }

    async fn publish(&mut self, issued: Issued) -> Result<(), AttemptError> {
        let now = self.clock.now();
        let (id, serial) = (issued.svid.id().clone(), issued.svid.serial().clone());
        let (attestation, end) = (issued.attestation, expires(issued.svid.not_after()));
        let next = schedule::renewal(now, end, random());
        let replaced = self.publisher.material().map(|material| material.svid().id().clone());
        self.publisher.publish(issued, now, next)?;
        self.pending = None;
        self.publisher.metrics().rotations.with(["success"]).inc();
        let (expires_in, renewal_in) = (until(now, end), until(now, next));
        match replaced {
            None => info!(%id, %serial, ?expires_in, ?renewal_in, by = attestation.as_str(), "Received the SVID"),
            Some(before) if before == id => info!(%serial, ?expires_in, ?renewal_in, "Renewed the SVID"),
            Some(before) => warn!(%before, %id, %serial, "The join token gave this workload another identity"),
        }
        self.publisher.keep().await;
        Ok(())
    }
}

/// The request that is under way for this token, or a new one.
fn request(pending: &mut Option<Pending>, token: Option<JoinToken>) -> Result<&Request, KeyError> {
    // Asking with another token is another issuance, while a request that no token has seen yet fits any.
    let kept = pending.take().filter(|kept| kept.token.is_none() || kept.token == token);
    let request = match kept {
        Some(kept) => kept.request,
        None => Request::new()?,
    };
    Ok(&pending.insert(Pending { request, token }).request)
}

fn until(now: SystemTime, then: SystemTime) -> Duration {
    Duration::from_secs(then.duration_since(now).unwrap_or_default().as_secs())
}

fn log_failure(error: &AttemptError, now: SystemTime, expires: Option<SystemTime>, retry_in: Duration) {
    let reason = error.as_str();
    match expires {
        None => warn!(reason, %error, ?retry_in, "No SVID yet"),
        Some(expires) if now >= expires => warn!(reason, %error, ?retry_in, "The SVID has expired"),
        Some(expires) => {
            let lasts = until(now, expires);
            warn!(reason, %error, ?lasts, ?retry_in, "The SVID could not be renewed; the one there is stays in use");
        }
    }
}

impl AttemptError {
    /// The stable label.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Token(error) => error.as_str(),
            Self::Key(_) => "no_key",
            Self::Call(error) => error.as_str(),
            Self::Publish(error) => error.as_str(),
            Self::Both { renewal, .. } => renewal.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Option<JoinToken> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_key_lasts_through_the_retries_of_one_issuance_and_no_longer() {
        let mut pending = None;
        let mut key = |token| request(&mut pending, token).unwrap().public_key().to_vec();
        let first = key(None);
        assert_eq!(key(None), first, "a renewal that is tried again");
        assert_eq!(key(token("a")), first, "the token that helps a refused renewal");
        assert_eq!(key(token("a")), first, "the token that is tried again");
        assert_ne!(key(token("b")), first, "another token");
    }
}
