use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// A port of every address of the machine, IPv4 and IPv6.
    Port(u16),
    /// One address.
    Address(SocketAddr),
}

/// Not an address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a port such as 15011, or an address and a port such as 127.0.0.1:15011 or [::1]:15011")]
pub struct ListenError;

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        match text.parse() {
            Ok(port) => Ok(Self::Port(port)),
            Err(_) => text.parse().map(Self::Address).map_err(|_| ListenError),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => port.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A duration above zero, no longer than a certificate can say.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() && duration <= LONGEST => Ok(duration),
        Ok(_) => Err("expected a duration above zero, of at most 100 years".to_owned()),
        Err(error) => Err(format!("{error}; expected a duration such as 30s, 10m, 4h or 90d")),
    }
}

/// A DNS name as a certificate may hold it.
pub(crate) fn dns_name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err("expected a DNS name such as kith-ca.kith.svc".to_owned())
    }
}
