use std::{collections::HashMap, net::IpAddr, sync::Arc};

use kith_identity::{SpiffeId, TrustDomain};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    Ip, MeshFileError, NonEmpty, Problem,
    names::Names,
    scalars::{Alpn, Name, Port},
};
use crate::{InboundPolicy, Kind, Mode, Policy, Workload, mesh::Networks};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkloadEntry {
    pub(super) name: Spanned<Name>,
    addresses: NonEmpty<Spanned<Ip>>,
    pub(super) spiffe_id: Option<Spanned<SpiffeId>>,
    kind: KindName,
    #[serde(default)]
    alpn: Vec<Alpn>,
    #[serde(default)]
    skip_ports: Vec<Port>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindName {
    Meshed,
    Foreign,
    Plain,
}

pub(super) struct Workloads {
    pub(super) listed: Vec<Arc<Workload>>,
    pub(super) by_name: HashMap<String, Arc<Workload>>,
    pub(super) by_address: HashMap<IpAddr, Arc<Workload>>,
}

/// `selected` gives the policies that select the workload at the same place of `entries`.
pub(super) fn build(
    entries: Vec<WorkloadEntry>,
    trust_domain: &TrustDomain,
    networks: &Networks,
    selected: &[Vec<Arc<Policy>>],
) -> Result<Workloads, MeshFileError> {
    let mut names = Names::default();
    let mut workloads = Workloads { listed: Vec::new(), by_name: HashMap::new(), by_address: HashMap::new() };
    for (index, entry) in entries.into_iter().enumerate() {
        let field = |name: &str| format!("workloads[{index}].{name}");
        names.add(&entry.name, field("name"))?;
        check_identity(&entry, trust_domain, &field)?;
        check_addresses(&entry, networks, &workloads.by_address, &field("addresses"))?;
        let policies = selected.get(index).cloned().unwrap_or_default();
        let workload = Arc::new(entry.workload(InboundPolicy::new(trust_domain.clone(), Mode::Strict, policies)));
        let by_address = workload.addresses.iter().map(|address| (*address, Arc::clone(&workload)));
        workloads.by_address.extend(by_address);
        workloads.by_name.insert(workload.name.clone(), Arc::clone(&workload));
        workloads.listed.push(workload);
    }
    Ok(workloads)
}

impl WorkloadEntry {
    fn workload(self, inbound: InboundPolicy) -> Workload {
        let kind = match self.kind {
            KindName::Meshed => Kind::Meshed,
            KindName::Foreign => Kind::Foreign { alpn: self.alpn.into_iter().map(|id| id.0).collect() },
            KindName::Plain => Kind::Plain,
        };
        Workload {
            name: self.name.value.0,
            addresses: self.addresses.0.into_iter().map(|address| address.value.0).collect(),
            id: self.spiffe_id.map(|id| id.value),
            kind,
            skipped_ports: self.skip_ports.into_iter().map(|port| port.0).collect(),
            inbound: Arc::new(inbound),
        }
    }
}

fn check_identity(
    entry: &WorkloadEntry,
    trust_domain: &TrustDomain,
    field: &impl Fn(&str) -> String,
) -> Result<(), MeshFileError> {
    if !entry.alpn.is_empty() && entry.kind != KindName::Foreign {
        return Err(MeshFileError::at(&entry.name, field("alpn"), Problem::AlpnWithoutForeign));
    }
    let Some(id) = &entry.spiffe_id else {
        return match entry.kind {
            KindName::Plain => Ok(()),
            _ => Err(MeshFileError::at(&entry.name, field("spiffe_id"), Problem::MissingId)),
        };
    };
    let meshed = entry.kind == KindName::Meshed;
    let of_the_control_plane = matches!(id.value.path(), "/kith/ca" | "/kith/discovery");
    let problem = if id.value.is_reserved() && (meshed || !of_the_control_plane) {
        Problem::ReservedId(id.value.clone())
    } else if meshed && id.value.trust_domain() != trust_domain {
        Problem::OtherTrustDomain { id: id.value.clone(), expected: trust_domain.clone() }
    } else {
        return Ok(());
    };
    Err(MeshFileError::at(id, field("spiffe_id"), problem))
}

fn check_addresses(
    entry: &WorkloadEntry,
    networks: &Networks,
    taken: &HashMap<IpAddr, Arc<Workload>>,
    field: &str,
) -> Result<(), MeshFileError> {
    let mut own = Vec::new();
    for address in &entry.addresses.0 {
        let ip = address.value.0;
        let owner = taken.get(&ip).map(|other| &other.name).or(own.contains(&ip).then_some(&entry.name.value.0));
        let problem = if let Some(owner) = owner {
            Problem::DuplicateAddress { address: ip, owner: format!("workload {owner}") }
        } else if !networks.contain(ip) {
            Problem::OutsideMeshNetworks(ip)
        } else if entry.kind != KindName::Plain && networks.except(ip) {
            Problem::InExceptNetworks(ip)
        } else {
            own.push(ip);
            continue;
        };
        return Err(MeshFileError::at(address, field, problem));
    }
    Ok(())
}
