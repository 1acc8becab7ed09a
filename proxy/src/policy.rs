//! Who may come in: the mesh file's policy, applied to one port in one handshake.

use std::sync::{Arc, OnceLock};

use kith_identity::SpiffeId;
use kith_mesh::{Decision, InboundPolicy, Principal};
use kith_tls::{PeerPolicy, Rejection};

/// The policy of one port, for one connection; remembers what it decided.
#[derive(Debug)]
pub struct PortPolicy {
    policy: Arc<InboundPolicy>,
    port: u16,
    decision: OnceLock<Decision>,
}

impl PortPolicy {
    /// For one connection to this target port.
    #[must_use]
    pub fn new(policy: Arc<InboundPolicy>, port: u16) -> Self {
        Self { policy, port, decision: OnceLock::new() }
    }

    /// What was decided, once somebody was authenticated.
    #[must_use]
    pub fn decision(&self) -> Option<&Decision> {
        self.decision.get()
    }
}

impl PeerPolicy for PortPolicy {
    fn check(&self, peer: &SpiffeId) -> Result<(), Rejection> {
        let decision = self.policy.decide(self.port, &Principal::Identity(peer.clone()));
        let verdict =
            if decision.allowed { Ok(()) } else { Err(Rejection::NotAllowed { rule: decision.rule.as_str().into() }) };
        // Asked again after the handshake; policy and peer are the same then, and so is the decision.
        let _ = self.decision.set(decision);
        verdict
    }
}
