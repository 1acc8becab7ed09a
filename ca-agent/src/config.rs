//! The flags, which are environment variables too, and what they make of each module's settings.

mod values;

use std::{path::PathBuf, time::Duration};

use kith_identity::{IdPattern, TrustDomain};
use kith_runtime::telemetry::LogFormat;

use self::values::dns_name;
pub(crate) use self::values::duration;
pub use self::values::{Listen, ListenError};
use crate::{authority, issuance, serving};

/// Where the agent keeps its state when nobody says.
pub(crate) const STATE_DIR: &str = "/var/lib/kith-ca-agent";
/// The admin socket's name in the state directory.
pub(crate) const ADMIN_SOCKET: &str = "admin.sock";

/// An SVID that is shorter could not be renewed in time.
const SHORTEST_SVID: Duration = Duration::from_secs(5);

/// The settings of `kith-ca-agent serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct Serve {
    /// The trust domain to issue for, such as example.org. A state directory belongs to one for good
    #[arg(long, env = "KITH_TRUST_DOMAIN", value_name = "NAME")]
    pub trust_domain: TrustDomain,

    /// Where keys and the store are kept; made with mode 0700 if it is not there
    #[arg(long, env = "KITH_STATE_DIR", value_name = "DIR", default_value = STATE_DIR)]
    pub state_dir: PathBuf,

    /// gRPC over server-authenticated TLS: attestation, trust bundles
    #[arg(long, env = "KITH_LISTEN_ATTEST", value_name = "PORT|ADDRESS:PORT", default_value = "15011")]
    pub listen_attest: Listen,

    /// gRPC over mutual TLS: renewal, trust bundles, status
    #[arg(long, env = "KITH_LISTEN_MTLS", value_name = "PORT|ADDRESS:PORT", default_value = "15012")]
    pub listen_mtls: Listen,

    /// HTTP: /livez, /readyz, /metrics
    #[arg(long, env = "KITH_ADMIN_LISTEN", value_name = "PORT|ADDRESS:PORT", default_value = "15020")]
    pub admin_listen: Listen,

    /// The socket for local administration, mode 0600 [default: STATE-DIR/admin.sock]
    #[arg(long, env = "KITH_ADMIN_SOCKET", value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,

    /// How long an SVID lives; it never outlives the authority that issued it
    #[arg(long, env = "KITH_SVID_LIFETIME", value_name = "DURATION", default_value = "4h", value_parser = duration)]
    pub svid_lifetime: Duration,

    /// How long an issuing authority lives; it replaces itself when a third of that is left
    #[arg(long, env = "KITH_ISSUING_LIFETIME", value_name = "DURATION", default_value = "90d", value_parser = duration)]
    pub issuing_lifetime: Duration,

    /// How long the root lives that the first start makes
    #[arg(long, env = "KITH_ROOT_LIFETIME", value_name = "DURATION", default_value = "3650d", value_parser = duration)]
    pub root_lifetime: Duration,

    /// A DNS name for the agent's own certificate, for ordinary gRPC clients; may be given more than once
    #[arg(long = "dns-name", env = "KITH_DNS_NAME", value_name = "NAME", value_delimiter = ',', value_parser = dns_name)]
    pub dns_names: Vec<String>,

    /// A SPIFFE ID, or a pattern of them, that may ask for MeshStatus on the mTLS port; may be given more than once
    #[arg(long = "admin-id", env = "KITH_ADMIN_ID", value_name = "PATTERN", value_delimiter = ',')]
    pub admin_ids: Vec<IdPattern>,

    /// The operator's own issuing authority in place of ours: its certificate, then what leads on to the root, as PEM.
    /// No root key is made then, and nothing replaces itself
    #[arg(long, env = "KITH_ISSUING_CERT", value_name = "FILE", requires_all = ["issuing_key", "root_bundle"])]
    pub issuing_cert: Option<PathBuf>,

    /// The private key of --issuing-cert, as PEM; not readable by everybody
    #[arg(long, env = "KITH_ISSUING_KEY", value_name = "FILE", requires = "issuing_cert")]
    pub issuing_key: Option<PathBuf>,

    /// The roots that workloads trust, for --issuing-cert, as PEM
    #[arg(long, env = "KITH_ROOT_BUNDLE", value_name = "FILE", requires = "issuing_cert")]
    pub root_bundle: Option<PathBuf>,

    /// Lets join tokens name /ns/NAMESPACE/sa/SERVICE-ACCOUNT, the identities of Kubernetes workloads
    #[arg(long, env = "KITH_JOIN_TOKENS_FOR_WORKLOADS")]
    pub join_tokens_for_workloads: bool,

    /// How long after its last attestation an SVID may still be renewed [default: for ever]
    #[arg(long, env = "KITH_MAX_AGE_SINCE_ATTESTATION", value_name = "DURATION", value_parser = duration)]
    pub max_age_since_attestation: Option<Duration>,

    /// Requests for certificates a minute from one address, and for one identity; 0 is without limit
    #[arg(long, env = "KITH_REQUESTS_PER_MINUTE", value_name = "NUMBER", default_value_t = 6000)]
    pub requests_per_minute: u32,

    /// How long expired certificates, tokens and audit records are kept
    #[arg(long, env = "KITH_RETENTION", value_name = "DURATION", default_value = "30d", value_parser = duration)]
    pub retention: Duration,

    /// What is logged: a level, or directives such as warn,kith_ca_agent=debug
    #[arg(long, env = "KITH_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// How a line of the log is written: text or json
    #[arg(long, env = "KITH_LOG_FORMAT", value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// The settings of everything.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) state_dir: PathBuf,
    pub(crate) listeners: Listeners,
    pub(crate) admin_ids: Vec<IdPattern>,
    pub(crate) authority: authority::Config,
    pub(crate) issuance: issuance::Config,
    pub(crate) serving: serving::Config,
    pub(crate) retention: Duration,
}

/// Where the agent listens.
#[derive(Debug, Clone)]
pub(crate) struct Listeners {
    pub(crate) attest: Listen,
    pub(crate) mutual: Listen,
    pub(crate) admin: Listen,
    pub(crate) socket: PathBuf,
}

/// Settings that are fine each by itself, but not together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value '{value}' for '{name}': {expected}")]
pub struct SettingsError {
    name: &'static str,
    value: String,
    expected: String,
}

impl Serve {
    /// The settings of each module.
    pub(crate) fn into_config(self) -> Result<Config, SettingsError> {
        self.check()?;
        let operator = match (self.issuing_cert, self.issuing_key, self.root_bundle) {
            (Some(certificate), Some(key), Some(root_bundle)) => {
                Some(authority::OperatorFiles { certificate, key, root_bundle })
            }
            _ => None,
        };
        let admin_socket = self.admin_socket.unwrap_or_else(|| self.state_dir.join(ADMIN_SOCKET));
        Ok(Config {
            listeners: Listeners {
                attest: self.listen_attest,
                mutual: self.listen_mtls,
                admin: self.admin_listen,
                socket: admin_socket,
            },
            authority: authority::Config {
                trust_domain: self.trust_domain.clone(),
                issuing_lifetime: self.issuing_lifetime,
                root_lifetime: self.root_lifetime,
                operator,
            },
            issuance: issuance::Config {
                svid_lifetime: self.svid_lifetime,
                token_workloads: self.join_tokens_for_workloads,
                longest_since_attestation: self.max_age_since_attestation,
                requests_per_minute: self.requests_per_minute,
            },
            serving: serving::Config {
                trust_domain: self.trust_domain.clone(),
                dns_names: self.dns_names,
                lifetime: self.svid_lifetime,
            },
            trust_domain: self.trust_domain,
            state_dir: self.state_dir,
            admin_ids: self.admin_ids,
            retention: self.retention,
        })
    }

    fn check(&self) -> Result<(), SettingsError> {
        let shown = |duration: Duration| humantime::format_duration(duration).to_string();
        let wrong = |name, value: String, expected: String| Err(SettingsError { name, value, expected });
        if self.svid_lifetime < SHORTEST_SVID {
            let expected = format!("expected at least {}", shown(SHORTEST_SVID));
            return wrong("--svid-lifetime", shown(self.svid_lifetime), expected);
        }
        if self.issuing_cert.is_none() && self.svid_lifetime > self.issuing_lifetime {
            let expected = format!("expected at most --issuing-lifetime, which is {}", shown(self.issuing_lifetime));
            return wrong("--svid-lifetime", shown(self.svid_lifetime), expected);
        }
        if self.issuing_cert.is_none() && self.issuing_lifetime > self.root_lifetime {
            let expected = format!("expected at most --root-lifetime, which is {}", shown(self.root_lifetime));
            return wrong("--issuing-lifetime", shown(self.issuing_lifetime), expected);
        }
        for pattern in &self.admin_ids {
            if pattern.trust_domain() != &self.trust_domain {
                let expected = format!("expected a pattern of the trust domain {}", self.trust_domain);
                return wrong("--admin-id", pattern.to_string(), expected);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
