use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    Ip, MeshFileError, NonEmpty, Problem,
    names::Names,
    scalars::{Name, Port},
    workloads::Workloads,
};
use crate::{Destination, Endpoint, PlainReason, Reach, Workload, mesh::Networks};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceEntry {
    name: Spanned<Name>,
    addresses: NonEmpty<Spanned<Ip>>,
    ports: NonEmpty<ServicePort>,
    #[serde(default)]
    endpoints: Vec<Spanned<EndpointEntry>>,
    #[serde(default)]
    client_ip_affinity: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServicePort {
    #[expect(dead_code, reason = "it is for people to read")]
    name: Option<Name>,
    port: Spanned<Port>,
    target_port: Option<Port>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EndpointEntry {
    Workload(Name),
    Address(Ip),
}

/// What an endpoint entry refers to.
enum Backend<'a> {
    /// A workload at whichever of its addresses fits.
    Workload(&'a Workload),
    /// A workload at this address.
    WorkloadAt(&'a Workload, IpAddr),
    /// An address that is no workload's.
    Plain(IpAddr, PlainReason),
}

pub(super) fn build(
    entries: &[ServiceEntry],
    networks: &Networks,
    workloads: &Workloads,
) -> Result<HashMap<SocketAddr, Arc<Destination>>, MeshFileError> {
    let (mut names, mut owners, mut destinations) = (Names::default(), HashMap::new(), HashMap::new());
    for (index, entry) in entries.iter().enumerate() {
        let field = |name: &str| format!("services[{index}].{name}");
        names.add(&entry.name, field("name"))?;
        let backends = backends(entry, networks, workloads, &field("endpoints"))?;
        check_ports(entry, &field("ports"))?;
        for address in &entry.addresses.0 {
            check_address(address, networks, workloads, &owners)
                .map_err(|problem| MeshFileError::at(address, field("addresses"), problem))?;
            owners.insert(address.value.0, &entry.name.value.0);
            for port in &entry.ports.0 {
                let target = port.target_port.unwrap_or(port.port.value).0;
                let endpoints = backends.iter().filter_map(|b| b.endpoint(address.value.0, target)).collect();
                let destination = Destination { endpoints, client_ip_affinity: entry.client_ip_affinity };
                let virtual_address = SocketAddr::new(address.value.0, port.port.value.0);
                destinations.insert(virtual_address, Arc::new(destination));
            }
        }
    }
    Ok(destinations)
}

fn check_address(
    address: &Spanned<Ip>,
    networks: &Networks,
    workloads: &Workloads,
    owners: &HashMap<IpAddr, &String>,
) -> Result<(), Problem> {
    let address = address.value.0;
    if let Some(workload) = workloads.by_address.get(&address) {
        Err(Problem::DuplicateAddress { address, owner: format!("workload {}", workload.name) })
    } else if let Some(service) = owners.get(&address) {
        Err(Problem::DuplicateAddress { address, owner: format!("service {service}") })
    } else if !networks.contain(address) {
        Err(Problem::OutsideMeshNetworks(address))
    } else if networks.except(address) {
        Err(Problem::InExceptNetworks(address))
    } else {
        Ok(())
    }
}

fn check_ports(entry: &ServiceEntry, field: &str) -> Result<(), MeshFileError> {
    let mut seen = HashSet::new();
    match entry.ports.0.iter().find(|port| !seen.insert(port.port.value)) {
        Some(port) => Err(MeshFileError::at(&port.port, field, Problem::DuplicatePort(port.port.value.0))),
        None => Ok(()),
    }
}

fn backends<'a>(
    entry: &ServiceEntry,
    networks: &Networks,
    workloads: &'a Workloads,
    field: &str,
) -> Result<Vec<Backend<'a>>, MeshFileError> {
    let mut seen = HashSet::new();
    let mut backends = Vec::new();
    for endpoint in &entry.endpoints {
        let backend = backend(&endpoint.value, networks, workloads)
            .map_err(|problem| MeshFileError::at(endpoint, field, problem))?;
        let key = backend.key();
        if seen.contains(&key) {
            return Err(MeshFileError::at(endpoint, field, Problem::DuplicateEndpoint(key)));
        }
        seen.insert(key);
        backends.push(backend);
    }
    Ok(backends)
}

/// An address that belongs to a workload is reached as that workload, so that no endpoint turns it plain.
fn backend<'a>(
    endpoint: &EndpointEntry,
    networks: &Networks,
    workloads: &'a Workloads,
) -> Result<Backend<'a>, Problem> {
    match endpoint {
        EndpointEntry::Workload(Name(name)) => match workloads.by_name.get(name) {
            Some(workload) => Ok(Backend::Workload(workload)),
            None => Err(Problem::UnknownWorkload(name.clone())),
        },
        EndpointEntry::Address(Ip(address)) => match workloads.by_address.get(address) {
            Some(workload) => Ok(Backend::WorkloadAt(workload, *address)),
            None => match networks.plain_reason(*address) {
                Some(reason) => Ok(Backend::Plain(*address, reason)),
                None => Err(Problem::UnlistedEndpoint(*address)),
            },
        },
    }
}

impl Backend<'_> {
    /// What makes two endpoints the same one. A workload given by name and by address would count twice.
    fn key(&self) -> String {
        match self {
            Self::Workload(workload) | Self::WorkloadAt(workload, _) => workload.name.clone(),
            Self::Plain(address, _) => address.to_string(),
        }
    }

    /// The endpoint behind a virtual address of this family; a workload that has none of the family is reached by another.
    fn endpoint(&self, virtual_address: IpAddr, port: u16) -> Option<Endpoint> {
        let (address, reach) = match self {
            Self::Workload(workload) => {
                let of_the_family = |a: &&IpAddr| a.is_ipv4() == virtual_address.is_ipv4();
                let address = workload.addresses.iter().find(of_the_family).or(workload.addresses.first())?;
                (*address, workload.reach(port))
            }
            Self::WorkloadAt(workload, address) => (*address, workload.reach(port)),
            Self::Plain(address, reason) => (*address, Reach::Plain(*reason)),
        };
        Some(Endpoint { address: SocketAddr::new(address, port), reach })
    }
}
