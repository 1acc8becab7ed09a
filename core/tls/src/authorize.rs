use std::{fmt::Debug, time::SystemTime};

use kith_identity::{Leaf, SpiffeId};

use crate::{Rejection, Trust};

/// Who is wanted at the other end.
pub trait PeerPolicy: Debug + Send + Sync {
    /// Accepts a proved identity, or says why not.
    ///
    /// # Errors
    /// [`Rejection::NotExpected`] or [`Rejection::NotAllowed`].
    fn check(&self, peer: &SpiffeId) -> Result<(), Rejection>;
}

/// Secure naming: the peer is one of these, or refused. An empty list refuses everybody.
#[derive(Debug, Clone)]
pub struct ExpectedIds(pub Vec<SpiffeId>);

impl PeerPolicy for ExpectedIds {
    fn check(&self, peer: &SpiffeId) -> Result<(), Rejection> {
        if self.0.contains(peer) { Ok(()) } else { Err(Rejection::NotExpected) }
    }
}

/// Every proved identity of a trust domain that we know, for servers that decide by request.
#[derive(Debug, Clone, Copy)]
pub struct AnyIdentity;

impl PeerPolicy for AnyIdentity {
    fn check(&self, _: &SpiffeId) -> Result<(), Rejection> {
        Ok(())
    }
}

/// Whether a peer, whose chain was verified at some time, may be spoken to now.
///
/// It runs inside the verifier, so that the alert is right, and again after every handshake, because rustls looks at
/// nothing anew when a session is resumed.
///
/// # Errors
/// When the leaf is outside its validity, revoked, of a trust domain that is no longer trusted, or unwanted.
pub fn authorize(peer: &Leaf, now: SystemTime, trust: &Trust, policy: &dyn PeerPolicy) -> Result<(), Rejection> {
    check_validity(peer, now)?;
    if trust.anchors(peer.id.trust_domain()).is_none() {
        return Err(Rejection::UnknownTrustDomain);
    }
    let revocations = trust.revocations();
    if revocations.serials.contains(&peer.serial) || revocations.ids.contains(&peer.id) {
        return Err(Rejection::Revoked);
    }
    policy.check(&peer.id)
}

/// Both ends are inclusive and whole seconds (RFC 5280 §4.1.2.5).
pub(crate) fn check_validity(leaf: &Leaf, now: SystemTime) -> Result<(), Rejection> {
    if now < leaf.not_before {
        return Err(Rejection::NotYetValid);
    }
    match now.duration_since(leaf.not_after) {
        Ok(past) if past.as_secs() > 0 => Err(Rejection::Expired),
        _ => Ok(()),
    }
}
