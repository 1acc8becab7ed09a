//! From what is written to what it means. Each step may rely on what the steps before it have checked.

use std::collections::HashMap;

use serde_saphyr::Spanned;

use super::{MeshFile, MeshFileError, Network, Problem, policies, scalars::Name, services, workloads};
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

/// Names that must be unique, with the line on which each was given.
#[derive(Default)]
pub(super) struct Names(HashMap<String, u64>);

impl Names {
    pub(super) fn add(&mut self, name: &Spanned<Name>, field: impl Into<String>) -> Result<(), MeshFileError> {
        match self.0.insert(name.value.0.clone(), name.referenced.line()) {
            None => Ok(()),
            Some(line) => {
                let problem = Problem::DuplicateName { name: name.value.0.clone(), line };
                Err(MeshFileError::at(name, field, problem))
            }
        }
    }
}
