use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use kith_identity::SpiffeId;

#[cfg(test)]
mod tests;

/// Discovery's answer for an address and port.
///
/// Of the three answers *meshed* and *plain* are said for each endpoint, because while a service moves into the mesh it
/// leads to both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Where to dial, and how.
    Known(Arc<Destination>),
    /// Inside the mesh networks, and nobody says who it is: never plaintext.
    Unknown,
}

/// The ready endpoints behind an address and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// None when the service has no ready endpoint.
    pub endpoints: Vec<Endpoint>,
    /// Connections of one client address go to one endpoint.
    pub client_ip_affinity: bool,
}

/// One place to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's own address and port.
    pub address: SocketAddr,
    /// Whether mTLS is spoken there.
    pub reach: Reach,
}

/// How an endpoint is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// By mTLS.
    Meshed(Meshed),
    /// In plaintext, for this reason.
    Plain(PlainReason),
}

/// Whom to expect behind a meshed endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meshed {
    /// The SPIFFE IDs that may answer there, and no other.
    pub ids: Arc<[SpiffeId]>,
    /// What is spoken inside TLS.
    pub protocol: Protocol,
}

/// What is spoken inside TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// The peer is a Kith sidecar: `kith/1`.
    Kith,
    /// Plain mTLS.
    Foreign {
        /// The ALPN IDs to offer; none means no ALPN.
        alpn: Arc<[Vec<u8>]>,
    },
}

/// Why an endpoint is reached in plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlainReason {
    /// The address lies outside the mesh networks.
    Outside,
    /// The address lies in one of `outbound.except_networks`.
    ExceptNetwork,
    /// The workload is listed as plain.
    PlainWorkload,
    /// The workload skips the port.
    SkippedPort,
    /// The port is the sidecar's own, which it does not capture.
    SidecarPort,
    /// A policy states DISABLE for the port.
    ModeDisable,
}

impl PlainReason {
    /// The stable label for metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::ExceptNetwork => "except_network",
            Self::PlainWorkload => "plain_workload",
            Self::SkippedPort => "skipped_port",
            Self::SidecarPort => "sidecar_port",
            Self::ModeDisable => "mode_disable",
        }
    }
}

impl Destination {
    /// A destination that is one endpoint.
    #[must_use]
    pub fn single(endpoint: Endpoint) -> Self {
        Self { endpoints: vec![endpoint], client_ip_affinity: false }
    }

    /// Picks the endpoint to dial, or none when each was tried.
    ///
    /// With client-IP affinity the same client gets the same endpoint while that is there, and when it goes or was tried
    /// the client's next one; other clients stay where they are. Else of two endpoints drawn at random the one with fewer
    /// open connections is taken. `open` counts them; `random` returns any number below its argument.
    #[must_use]
    pub fn choose(
        &self,
        client: IpAddr,
        tried: &[SocketAddr],
        open: impl Fn(SocketAddr) -> usize,
        mut random: impl FnMut(usize) -> usize,
    ) -> Option<&Endpoint> {
        let left: Vec<&Endpoint> = self.endpoints.iter().filter(|e| !tried.contains(&e.address)).collect();
        if self.client_ip_affinity {
            return left.into_iter().max_by_key(|e| affinity(client, e.address.ip()));
        }
        let mut draw = |below: usize| (below > 0).then(|| random(below) % below);
        let first = draw(left.len())?;
        let second = match draw(left.len() - 1) {
            Some(other) => (first + 1 + other) % left.len(),
            None => first,
        };
        let (first, second) = (left.get(first)?, left.get(second)?);
        Some(if open(second.address) < open(first.address) { second } else { first })
    }
}

/// Rendezvous hashing. The port has no part in it, so that a client meets the same pod on each port of a service.
fn affinity(client: IpAddr, endpoint: IpAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    (client.to_canonical(), endpoint).hash(&mut hasher);
    hasher.finish()
}
