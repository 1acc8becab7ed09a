use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use kith_identity::{IdPattern, SpiffeId, TrustDomain};

mod inbound;
#[cfg(test)]
mod tests;

pub use inbound::{BuiltIn, DecidedBy, Decision, InboundPolicy};

/// Who asks to come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A peer that proved this SPIFFE ID.
    Identity(SpiffeId),
    /// A plaintext client, which proved nothing.
    Unauthenticated,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(id) => id.fmt(f),
            Self::Unauthenticated => f.write_str("unauthenticated"),
        }
    }
}

/// How far a policy reaches; a later one is more specific.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// Every workload.
    Mesh,
    /// The workloads of one namespace.
    Namespace,
    /// Workloads by name.
    Workload,
}

/// What a port accepts; a later one is stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Not ours: the port is reached in plaintext and nothing is asked of its clients.
    Disable,
    /// mTLS or plaintext.
    Permissive {
        /// Every TLS client is terminated, so that those which are not Kith come in with their SVIDs.
        foreign_mtls: bool,
    },
    /// mTLS only.
    Strict,
}

impl Mode {
    /// The name, as it is written in policies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "DISABLE",
            Self::Permissive { .. } => "PERMISSIVE",
            Self::Strict => "STRICT",
        }
    }
}

/// One policy: modes and rules for the workloads that its layer selects. Ports are those of the pod, never a Service's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Unique among the policies; with `order` it decides which of several matching rules is named.
    pub name: String,
    /// Lower comes first.
    pub order: i32,
    /// How specific it is.
    pub layer: Layer,
    /// The mode of every port that `ports` gives none.
    pub mode: Option<Mode>,
    /// What it states for single ports.
    pub ports: BTreeMap<u16, PortSettings>,
    /// Its rules; their sequence only chooses which matching one is named.
    pub rules: Vec<Rule>,
}

/// What a policy states for one port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSettings {
    /// The port's mode.
    pub mode: Option<Mode>,
    /// The ALPN IDs that a client which is not Kith may choose from, most wanted first.
    pub alpn: Option<Arc<[Vec<u8>]>>,
}

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `<policy>/<rule>`: what a decision, a log line and a metric call it.
    pub name: Arc<str>,
    /// What a match means.
    pub action: Action,
    /// The ports it is for; none means all.
    pub ports: Option<BTreeSet<u16>>,
    /// It matches when one of these does.
    pub from: Vec<Source>,
}

/// What a matching rule means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Lets the peer in, if its layer decides and no rule denies.
    Allow,
    /// Refuses, whatever else matches.
    Deny,
    /// Decides nothing; the decision records it.
    Audit,
}

/// Whom a rule matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Every SPIFFE ID that the pattern covers, of any trust domain.
    SpiffeId(IdPattern),
    /// Every service account of a namespace of our own trust domain.
    Namespace(String),
    /// One service account of our own trust domain.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Plaintext clients.
    Unauthenticated,
}

impl Rule {
    fn is_for(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }

    fn matches(&self, peer: &Principal, own: &TrustDomain) -> bool {
        self.from.iter().any(|source| source.matches(peer, own))
    }
}

impl Source {
    fn matches(&self, peer: &Principal, own: &TrustDomain) -> bool {
        let Principal::Identity(id) = peer else {
            return matches!(self, Self::Unauthenticated);
        };
        // A namespace of another trust domain is another namespace, whatever its name.
        let names = || id.namespace_and_service_account().filter(|_| id.trust_domain() == own);
        match self {
            Self::SpiffeId(pattern) => pattern.matches(id),
            Self::Namespace(namespace) => names().is_some_and(|(ns, _)| ns == namespace),
            Self::ServiceAccount { namespace, name } => names() == Some((namespace, name)),
            Self::Unauthenticated => false,
        }
    }
}
