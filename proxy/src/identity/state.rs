use std::time::{Duration, SystemTime};

use kith_identity::{Serial, SpiffeId, X509Svid, issuer_name};
use serde::{Deserialize, Serialize};

use super::{config::Instance, csr::KEY_TYPE};

/// What this workload is, and how its identity fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityState {
    /// Where it runs.
    pub instance: Instance,
    /// The version of this program.
    pub version: &'static str,
    /// The SVID it received last; absent before the first. It may have expired.
    pub svid: Option<SvidFacts>,
    /// When that SVID replaced an earlier one.
    pub last_rotation: Option<SystemTime>,
    /// When it is to be renewed.
    pub next_rotation: Option<SystemTime>,
    /// How often it was replaced since this process started.
    pub rotations: u64,
    /// Whether the trust bundle still vouches for the SVID.
    pub trusted: bool,
    /// That the last attempt to obtain an SVID failed.
    pub failing: Option<Failing>,
}

/// What there is to say of an SVID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SvidFacts {
    /// Whose it is.
    pub id: SpiffeId,
    /// The leaf's serial number.
    pub serial: Serial,
    /// The issuer's name, as an RFC 4514 string.
    pub issuer: String,
    /// The first second of its validity.
    pub not_before: SystemTime,
    /// The last second of its validity.
    pub not_after: SystemTime,
    /// The kind of key.
    pub key_type: &'static str,
    /// How this workload proved itself for it.
    pub attestation: AttestationKind,
}

/// How a workload proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttestationKind {
    /// By a one-time token.
    JoinToken,
    /// By the SVID that it had.
    CurrentSvid,
}

/// That attempts to obtain an SVID fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Since when.
    pub since: SystemTime,
    /// The stable label of the last failure.
    pub reason: String,
    /// The last failure in words.
    pub error: String,
}

impl AttestationKind {
    /// The stable label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JoinToken => "join_token",
            Self::CurrentSvid => "current_svid",
        }
    }
}

impl SvidFacts {
    pub(super) fn new(svid: &X509Svid, attestation: AttestationKind) -> Self {
        Self {
            id: svid.id().clone(),
            serial: svid.serial().clone(),
            issuer: svid.chain().first().map(|leaf| issuer_name(leaf)).unwrap_or_default(),
            not_before: svid.not_before(),
            not_after: svid.not_after(),
            key_type: KEY_TYPE,
            attestation,
        }
    }

    /// When it stops being accepted.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        expires(self.not_after)
    }
}

/// The last second of a validity is part of it (RFC 5280 §4.1.2.5): what is over is over a second later.
pub(super) fn expires(not_after: SystemTime) -> SystemTime {
    not_after + Duration::from_secs(1)
}

impl IdentityState {
    pub(super) fn new(instance: Instance, version: &'static str) -> Self {
        Self {
            instance,
            version,
            svid: None,
            last_rotation: None,
            next_rotation: None,
            rotations: 0,
            trusted: true,
            failing: None,
        }
    }

    /// Why this workload can't show an identity at this time; `None` when it can.
    #[must_use]
    pub fn unready(&self, now: SystemTime) -> Option<String> {
        let last = self.failing.as_ref().map(|failing| failing.error.as_str());
        let because = |what: String| match last {
            Some(error) => format!("{what}: {error}"),
            None => what,
        };
        let Some(svid) = &self.svid else {
            return Some(because("no SVID yet".to_owned()));
        };
        if now >= svid.expires() {
            return Some(because(format!("the SVID expired at {}", super::rfc3339(svid.not_after))));
        }
        (!self.trusted).then(|| because("the trust bundle no longer vouches for the SVID".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn state() -> IdentityState {
        let svid = SvidFacts {
            id: "spiffe://example.org/a".parse().unwrap(),
            serial: "01".parse().unwrap(),
            issuer: String::new(),
            not_before: UNIX_EPOCH,
            not_after: UNIX_EPOCH + Duration::from_secs(100),
            key_type: KEY_TYPE,
            attestation: AttestationKind::JoinToken,
        };
        IdentityState { svid: Some(svid), ..IdentityState::new(Instance::default(), "0") }
    }

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn unready_names_the_reason_and_the_last_failure() {
        let failing = Some(Failing { since: at(0), reason: "unreachable".into(), error: "nobody answers".into() });
        let none = IdentityState::new(Instance::default(), "0");
        assert_eq!(none.unready(at(0)).unwrap(), "no SVID yet");
        let none = IdentityState { failing: failing.clone(), ..none };
        assert_eq!(none.unready(at(0)).unwrap(), "no SVID yet: nobody answers");

        let good = IdentityState { failing, ..state() };
        assert_eq!(good.unready(at(99_000)), None, "a failed renewal is no reason while the SVID lasts");
        assert_eq!(good.unready(at(100_999)), None, "the last second counts");
        assert_eq!(good.unready(at(101_000)).unwrap(), "the SVID expired at 1970-01-01T00:01:40Z: nobody answers");
        let untrusted = IdentityState { trusted: false, ..state() };
        assert!(untrusted.unready(at(0)).unwrap().contains("no longer vouches"));
    }
}
