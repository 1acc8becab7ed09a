use std::{fmt, path::PathBuf, str::FromStr};

use kith_identity::{SpiffeId, TrustDomain};
use kith_proto::ca;

use super::token::{JoinToken, TokenSource};

const CA_MTLS_PORT: u16 = 15012;

/// How this workload gets its identity.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Identity")]
#[group(id = "identity")]
pub struct Config {
    /// The trust domain that this workload belongs to.
    #[arg(long, env = "KITH_TRUST_DOMAIN", value_name = "NAME")]
    pub trust_domain: TrustDomain,
    /// Where the CA agent attests workloads.
    #[arg(long, env = "KITH_CA_ADDRESS", value_name = "HOST:PORT")]
    pub ca_address: HostPort,
    /// Where the CA agent renews SVIDs and streams trust bundles [default: the same host, port 15012].
    #[arg(long, env = "KITH_CA_MTLS_ADDRESS", value_name = "HOST:PORT")]
    pub ca_mtls_address: Option<HostPort>,
    /// The SPIFFE ID that the CA agent must prove [default: spiffe://TRUST-DOMAIN/kith/ca].
    #[arg(long, env = "KITH_CA_ID", value_name = "SPIFFE-ID")]
    pub ca_id: Option<SpiffeId>,
    /// A PEM file of the root certificates that vouch for the CA agent, read again for every connection to it.
    /// Not needed when the join token carries the root's pin.
    #[arg(long, env = "KITH_CA_BUNDLE", value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
    /// The one-time join token. Other users of this machine can read a process's arguments: prefer the file.
    #[arg(long, env = "KITH_JOIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    #[arg(conflicts_with = "join_token_file")]
    pub join_token: Option<JoinToken>,
    /// A file that holds the one-time join token, read again for every attempt.
    #[arg(long, env = "KITH_JOIN_TOKEN_FILE", value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// A directory (0700) that keeps key and SVID, so that a restart does not lose the identity.
    /// Without it the key never touches a disk.
    #[arg(long, env = "KITH_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where this workload runs.
    #[command(flatten)]
    pub instance: Instance,
}

/// Where this workload runs, in its own words: shown to operators, never used to decide.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Instance {
    /// The name of this host, for operators [default: the system's, outside Kubernetes].
    #[arg(long = "instance-host", env = "KITH_INSTANCE_HOST", value_name = "NAME", value_parser = told)]
    pub host: Option<String>,
    /// The name of this pod, for operators.
    #[arg(long, env = "KITH_POD_NAME", value_name = "NAME", value_parser = told)]
    pub pod_name: Option<String>,
    /// The UID of this pod, for operators.
    #[arg(long, env = "KITH_POD_UID", value_name = "UID", value_parser = told)]
    pub pod_uid: Option<String>,
    /// The name of this pod's node, for operators.
    #[arg(long, env = "KITH_NODE_NAME", value_name = "NAME", value_parser = told)]
    pub node_name: Option<String>,
}

/// Settings that are right one by one and wrong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Nothing to prove ourselves with.
    #[error(
        "neither --join-token-file (KITH_JOIN_TOKEN_FILE) nor --join-token nor --state-dir is set; expected a join \
         token, or the directory of an identity that was kept"
    )]
    NoAttestation,
    /// Nothing to prove the CA with.
    #[error(
        "--ca-bundle (KITH_CA_BUNDLE) is not set and --join-token carries no root pin; expected a PEM file of the \
         CA's roots, or a token that ends in '.' and the pin"
    )]
    NoTrust,
    /// The token is no token. Its value is not repeated: it may be secret.
    #[error("--join-token (KITH_JOIN_TOKEN) is empty; expected the token that the CA agent printed")]
    EmptyToken,
    /// The CA would belong to others.
    #[error("--ca-id (KITH_CA_ID) is '{ca_id}'; expected a SPIFFE ID of the trust domain {trust_domain}")]
    ForeignCa {
        /// What was given.
        ca_id: SpiffeId,
        /// Ours.
        trust_domain: TrustDomain,
    },
}

impl Config {
    /// Checks what no single setting shows.
    ///
    /// # Errors
    /// When settings contradict each other, or together can't lead to an identity.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.ca_id().trust_domain() != &self.trust_domain {
            return Err(ConfigError::ForeignCa { ca_id: self.ca_id(), trust_domain: self.trust_domain.clone() });
        }
        if let Some(token) = &self.join_token {
            if token.is_empty() {
                return Err(ConfigError::EmptyToken);
            }
            if self.ca_bundle.is_none() && self.state_dir.is_none() && token.pin().is_none() {
                return Err(ConfigError::NoTrust);
            }
        } else if self.join_token_file.is_none() && self.state_dir.is_none() {
            return Err(ConfigError::NoAttestation);
        }
        Ok(())
    }

    /// Whom the CA agent must prove to be.
    #[must_use]
    pub fn ca_id(&self) -> SpiffeId {
        self.ca_id.clone().unwrap_or_else(|| SpiffeId::ca_agent(self.trust_domain.clone()))
    }

    /// Where the CA agent speaks mutual TLS.
    #[must_use]
    pub fn ca_mtls_address(&self) -> HostPort {
        let beside = || HostPort { host: self.ca_address.host.clone(), port: CA_MTLS_PORT };
        self.ca_mtls_address.clone().unwrap_or_else(beside)
    }

    pub(super) fn token_source(&self) -> TokenSource {
        match (&self.join_token, &self.join_token_file) {
            (Some(token), _) => TokenSource::Given(token.clone()),
            (None, Some(path)) => TokenSource::File(path.clone()),
            (None, None) => TokenSource::None,
        }
    }
}

impl Instance {
    /// With the system's host name where none is given and this is no pod.
    #[must_use]
    pub fn or_this_host(mut self) -> Self {
        if self.host.is_none() && self.pod_name.is_none() {
            self.host = Some(rustix::system::uname().nodename().to_string_lossy().into_owned());
        }
        self
    }

    pub(super) fn to_wire(&self) -> ca::Instance {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        ca::Instance {
            host: text(&self.host),
            pod_name: text(&self.pod_name),
            pod_uid: text(&self.pod_uid),
            node_name: text(&self.node_name),
        }
    }
}

/// What operators are told: as long as a DNS name at most, which no CA agent refuses.
fn told(text: &str) -> Result<String, String> {
    if (1..=253).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 253 printable characters".to_owned())
    }
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    host: String,
    port: u16,
}

/// Not a host and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a host and a port, such as ca.example.org:15011 or [2001:db8::1]:15011")]
pub struct HostPortError;

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let (host, port) = text.rsplit_once(':').ok_or(HostPortError)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(HostPortError)?;
        let bare = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().map(|_| address).map_err(|_| HostPortError)?,
            None => host,
        };
        let is_bracketed = bare.len() != host.len();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bare.is_empty() || !(is_bracketed || bare.chars().all(is_name)) {
            return Err(HostPortError);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests;
