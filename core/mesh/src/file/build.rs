//! From what is written to what it means. Each step may rely on what the steps before it have checked.

use super::{MeshFile, MeshFileError, Network, policies, services, workloads};
use crate::{Mesh, mesh::Networks};

pub(super) fn mesh(file: MeshFile) -> Result<Mesh, MeshFileError> {
    let networks = |list: Vec<Network>| list.into_iter().map(|network| network.0).collect();
    let networks = Networks { mesh: networks(file.mesh_networks.0), except: networks(file.outbound.except_networks) };
    let policies = policies::build(file.policies, &file.trust_domain, &file.workloads)?;
    let workloads = workloads::build(file.workloads, &file.trust_domain, &networks, &policies.selected)?;
    let services = services::build(&file.services, &networks, &workloads)?;
    Ok(Mesh {
        trust_domain: file.trust_domain,
        networks,
        workloads: workloads.listed,
        by_address: workloads.by_address,
        services,
        permissive: policies.permissive,
    })
}
