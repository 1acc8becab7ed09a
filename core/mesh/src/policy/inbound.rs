use std::{fmt, sync::Arc};

use kith_identity::TrustDomain;

use super::{Action, Layer, Mode, Policy, PortSettings, Principal, Rule};

/// Everything that one workload's sidecar asks of whoever comes in: the policies of all three layers that select it.
/// It refers to nothing else, so it can be handed around by itself, in an `Arc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundPolicy {
    trust_domain: TrustDomain,
    unlisted: Mode,
    /// By order, then name, so that the first match is the one to name.
    policies: Vec<Arc<Policy>>,
}

/// May this principal reach this port, who says so, and what else matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may.
    pub allowed: bool,
    /// The rule that decided.
    pub rule: DecidedBy,
    /// The names of the audit rules that matched; they had no part in the decision.
    pub audits: Vec<Arc<str>>,
}

/// The rule that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecidedBy {
    /// A rule of a policy, as `<policy>/<rule>`.
    Rule(Arc<str>),
    /// What holds without one.
    BuiltIn(BuiltIn),
}

/// What holds where no rule of a policy decides. No rule has such a name, since theirs hold a slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BuiltIn {
    /// There are rules for the port, and none lets the peer in: refused.
    NoAllow,
    /// There is no allow rule, and the peer is of our own trust domain: allowed.
    OwnTrustDomain,
    /// There is no allow rule, and the peer is of another trust domain: refused.
    OtherTrustDomain,
    /// A plaintext client on a STRICT port: refused, whatever the rules.
    Strict,
    /// A plaintext client on a PERMISSIVE port without any rule: allowed.
    Permissive,
    /// A plaintext client on a port that is not ours, without any rule: allowed.
    Disable,
}

impl DecidedBy {
    /// The name for logs and metrics.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Rule(name) => name,
            Self::BuiltIn(rule) => rule.as_str(),
        }
    }
}

impl fmt::Display for DecidedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl BuiltIn {
    /// The stable name for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAllow => "no-allow",
            Self::OwnTrustDomain => "own-trust-domain",
            Self::OtherTrustDomain => "other-trust-domain",
            Self::Strict => "strict",
            Self::Permissive => "permissive",
            Self::Disable => "disable",
        }
    }
}

impl InboundPolicy {
    /// The view of a workload of this trust domain that these policies select, in whatever sequence;
    /// `unlisted` is the mode of a port for which none states one.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, unlisted: Mode, mut policies: Vec<Arc<Policy>>) -> Self {
        policies.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        Self { trust_domain, unlisted, policies }
    }

    /// The trust domain whose identities are our own.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The mode of a port for which no policy states one.
    #[must_use]
    pub fn unlisted_mode(&self) -> Mode {
        self.unlisted
    }

    /// The policies, by order and then name.
    #[must_use]
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// The port's mode: that of the most specific layer which states one. Within a layer a mode stated for the port goes
    /// before one stated for all, and of two the stricter holds.
    #[must_use]
    pub fn mode(&self, port: u16) -> Mode {
        let for_the_port = |p: &Policy| p.ports.get(&port).and_then(|settings| settings.mode);
        let specificity = |p: &Policy| match for_the_port(p) {
            Some(mode) => Some((p.layer, true, mode)),
            None => p.mode.map(|mode| (p.layer, false, mode)),
        };
        let stated = self.policies.iter().filter_map(|policy| specificity(policy)).max();
        stated.map_or(self.unlisted, |(_, _, mode)| mode)
    }

    /// The ALPN IDs for clients of the port that are not Kith, most wanted first: those of the most specific layer which
    /// states some, and there of the first policy.
    #[must_use]
    pub fn alpn(&self, port: u16) -> &[Vec<u8>] {
        let stated = |settings: &'_ PortSettings| settings.alpn.is_some();
        let policies = self.policies.iter().filter(|p| p.ports.get(&port).is_some_and(stated));
        // `rev`, because of equal layers `max_by_key` takes the last.
        let policy = policies.rev().max_by_key(|p| p.layer);
        policy.and_then(|p| p.ports.get(&port)).and_then(|settings| settings.alpn.as_deref()).unwrap_or_default()
    }

    /// Whether this principal may reach this port.
    ///
    /// A matching deny in any layer refuses. Else the most specific layer that has an allow rule for the port decides
    /// alone. Without any allow rule every identity of our own trust domain may, and a plaintext client where the mode
    /// lets it and the port has no rule at all. Audit rules never decide.
    #[must_use]
    pub fn decide(&self, port: u16, peer: &Principal) -> Decision {
        let found = self.search(port, peer);
        let by_rule = |rule: &Rule| DecidedBy::Rule(Arc::clone(&rule.name));
        let plaintext_on_strict = *peer == Principal::Unauthenticated && self.mode(port) == Mode::Strict;
        let (allowed, rule) = match (found.deny, found.allow) {
            (Some(rule), _) => (false, by_rule(rule)),
            // Not reached through the listeners, which want mTLS here; a rule must not open what the mode closes.
            _ if plaintext_on_strict => (false, DecidedBy::BuiltIn(BuiltIn::Strict)),
            (None, Some((_, Some(rule)))) => (true, by_rule(rule)),
            (None, Some((_, None))) => (false, DecidedBy::BuiltIn(BuiltIn::NoAllow)),
            (None, None) => self.without_allow_rule(port, peer, found.any_deny),
        };
        Decision { allowed, rule, audits: found.audits }
    }

    fn search(&self, port: u16, peer: &Principal) -> Found<'_> {
        let mut found = Found::default();
        let rules = self.policies.iter().flat_map(|p| p.rules.iter().map(|rule| (p.layer, rule)));
        for (layer, rule) in rules.filter(|(_, rule)| rule.is_for(port)) {
            let matching = rule.matches(peer, &self.trust_domain).then_some(rule);
            match rule.action {
                Action::Deny => {
                    found.any_deny = true;
                    found.deny = found.deny.or(matching);
                }
                Action::Allow => {
                    found.allow = match found.allow {
                        Some((deciding, earlier)) if deciding == layer => Some((deciding, earlier.or(matching))),
                        Some((deciding, earlier)) if deciding > layer => Some((deciding, earlier)),
                        _ => Some((layer, matching)),
                    }
                }
                Action::Audit => found.audits.extend(matching.map(|rule| Arc::clone(&rule.name))),
            }
        }
        found
    }

    fn without_allow_rule(&self, port: u16, peer: &Principal, any_deny: bool) -> (bool, DecidedBy) {
        let (allowed, rule) = match peer {
            Principal::Identity(id) if *id.trust_domain() == self.trust_domain => (true, BuiltIn::OwnTrustDomain),
            Principal::Identity(_) => (false, BuiltIn::OtherTrustDomain),
            // Whoever is denied by name must not come in by leaving its name at home.
            Principal::Unauthenticated if any_deny => (false, BuiltIn::NoAllow),
            Principal::Unauthenticated => match self.mode(port) {
                Mode::Strict => (false, BuiltIn::Strict),
                Mode::Permissive { .. } => (true, BuiltIn::Permissive),
                Mode::Disable => (true, BuiltIn::Disable),
            },
        };
        (allowed, DecidedBy::BuiltIn(rule))
    }
}

/// What the rules for a port say of one peer.
#[derive(Default)]
struct Found<'a> {
    deny: Option<&'a Rule>,
    any_deny: bool,
    /// The most specific layer that has an allow rule, and the first one in it that matches.
    allow: Option<(Layer, Option<&'a Rule>)>,
    audits: Vec<Arc<str>>,
}
