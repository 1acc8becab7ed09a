use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use kith_identity::{SpiffeId, TrustDomain};

use crate::{Answer, Destination, Endpoint, InboundPolicy, MeshFileError, Meshed, Mode, PlainReason, Protocol, Reach};

#[cfg(test)]
mod tests;

/// The whole mesh, valid and resolved.
#[derive(Debug, Clone)]
pub struct Mesh {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) networks: Networks,
    pub(crate) workloads: Vec<Arc<Workload>>,
    pub(crate) by_address: HashMap<IpAddr, Arc<Workload>>,
    /// By virtual address and port.
    pub(crate) services: HashMap<SocketAddr, Arc<Destination>>,
    /// Where PERMISSIVE is stated first, if it is.
    pub(crate) permissive: Option<MeshFileError>,
}

/// A pod or machine of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its unique name.
    pub name: String,
    /// Its own addresses, each of which is nobody else's.
    pub addresses: Vec<IpAddr>,
    /// Who answers there; only a plain workload may have none.
    pub id: Option<SpiffeId>,
    /// How it is reached.
    pub kind: Kind,
    /// The ports that its sidecar does not take, or on which a foreign peer speaks no mTLS.
    pub skipped_ports: BTreeSet<u16>,
    /// What its sidecar asks of whoever comes in.
    pub inbound: Arc<InboundPolicy>,
}

/// How a workload is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Through its Kith sidecar.
    Meshed,
    /// By plain mTLS with a server that has an SVID of its own.
    Foreign {
        /// The ALPN IDs to offer it; none means no ALPN.
        alpn: Arc<[Vec<u8>]>,
    },
    /// In plaintext.
    Plain,
}

/// Why a sidecar does not find itself in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelfError {
    /// No workload has one of the addresses.
    #[error("the mesh file lists no workload with one of this host's addresses ({})", list(.0))]
    NotListed(Vec<IpAddr>),
    /// The addresses belong to more than one workload.
    #[error("this host's addresses belong to two workloads of the mesh file, {0} and {1}")]
    Several(String, String),
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

impl SelfError {
    /// The stable label for metrics and logs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotListed(_) => "not_listed",
            Self::Several(..) => "several_workloads",
        }
    }
}

impl Mesh {
    /// The trust domain of the mesh, which is every meshed workload's.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The mesh networks, which are never empty.
    #[must_use]
    pub fn networks(&self) -> &[IpNet] {
        &self.networks.mesh
    }

    /// The workloads, as they are listed.
    #[must_use]
    pub fn workloads(&self) -> &[Arc<Workload>] {
        &self.workloads
    }

    /// Who is behind an address and port, and how to get there. The endpoint of an address that nobody listed is the
    /// address itself.
    #[must_use]
    pub fn destination(&self, address: SocketAddr) -> Answer {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if let Some(destination) = self.services.get(&address) {
            return Answer::Known(Arc::clone(destination));
        }
        let reach = match self.by_address.get(&address.ip()) {
            Some(workload) => Some(workload.reach(address.port())),
            None => self.networks.plain_reason(address.ip()).map(Reach::Plain),
        };
        match reach {
            Some(reach) => Answer::Known(Arc::new(Destination::single(Endpoint { address, reach }))),
            None => Answer::Unknown,
        }
    }

    /// The workload that has these addresses, of which others may be unlisted: how a sidecar finds itself.
    ///
    /// # Errors
    /// When no workload has one of them, or two have.
    pub fn workload_at(&self, addresses: &[IpAddr]) -> Result<&Arc<Workload>, SelfError> {
        let mut found = addresses.iter().filter_map(|address| self.by_address.get(&address.to_canonical()));
        let workload = found.next().ok_or_else(|| SelfError::NotListed(addresses.to_vec()))?;
        match found.find(|other| other.name != workload.name) {
            Some(other) => Err(SelfError::Several(workload.name.clone(), other.name.clone())),
            None => Ok(workload),
        }
    }

    /// Whether this version serves every mode that the policies state.
    ///
    /// # Errors
    /// When a policy states PERMISSIVE, which is not served yet; the error says where.
    pub fn check_served(&self) -> Result<(), MeshFileError> {
        self.permissive.clone().map_or(Ok(()), Err)
    }
}

/// The sidecar's own ports, which capture leaves alone in every pod: whoever scrapes metrics there speaks to the sidecar.
const SIDECAR_PORTS: std::ops::RangeInclusive<u16> = 15020..=15022;

impl Workload {
    /// How one of its ports is reached. Modes are enforced by sidecars, so a foreign workload has none.
    pub(crate) fn reach(&self, port: u16) -> Reach {
        let protocol = match &self.kind {
            Kind::Plain => return Reach::Plain(PlainReason::PlainWorkload),
            _ if self.skipped_ports.contains(&port) => return Reach::Plain(PlainReason::SkippedPort),
            Kind::Meshed if SIDECAR_PORTS.contains(&port) => return Reach::Plain(PlainReason::SidecarPort),
            Kind::Meshed if self.inbound.mode(port) == Mode::Disable => return Reach::Plain(PlainReason::ModeDisable),
            Kind::Meshed => Protocol::Kith,
            Kind::Foreign { alpn } => Protocol::Foreign { alpn: Arc::clone(alpn) },
        };
        // Without an ID nobody may answer: never plaintext, never anyone.
        Reach::Meshed(Meshed { ids: self.id.iter().cloned().collect(), protocol })
    }
}

/// What is inside the mesh.
#[derive(Debug, Clone)]
pub(crate) struct Networks {
    pub(crate) mesh: Vec<IpNet>,
    pub(crate) except: Vec<IpNet>,
}

impl Networks {
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        self.mesh.iter().any(|network| network.contains(&address))
    }

    pub(crate) fn except(&self, address: IpAddr) -> bool {
        self.except.iter().any(|network| network.contains(&address))
    }

    /// Why an address that nobody listed may be reached in plaintext, if it may.
    pub(crate) fn plain_reason(&self, address: IpAddr) -> Option<PlainReason> {
        if !self.contain(address) {
            Some(PlainReason::Outside)
        } else {
            self.except(address).then_some(PlainReason::ExceptNetwork)
        }
    }
}
