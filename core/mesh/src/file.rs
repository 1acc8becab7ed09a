use kith_identity::TrustDomain;
use serde::Deserialize;

use crate::Mesh;

mod build;
mod error;
mod names;
mod policies;
mod scalars;
mod services;
#[cfg(test)]
mod tests;
mod workloads;

pub use error::{MeshFileError, Problem};
use policies::PolicyEntry;
use scalars::{Ip, Network, NonEmpty};
use services::ServiceEntry;
use workloads::WorkloadEntry;

/// The mesh file: one YAML document that describes the whole mesh. `core/mesh/examples/mesh.yaml` shows every field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshFile {
    trust_domain: TrustDomain,
    mesh_networks: NonEmpty<Network>,
    #[serde(default)]
    outbound: Outbound,
    #[serde(default)]
    workloads: Vec<WorkloadEntry>,
    #[serde(default)]
    services: Vec<ServiceEntry>,
    #[serde(default)]
    policies: Vec<PolicyEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outbound {
    #[serde(default)]
    except_networks: Vec<Network>,
}

impl MeshFile {
    /// The longest text that is read, in bytes.
    pub const MAX_LEN: usize = 16 << 20;

    /// Reads and checks a mesh file's text.
    ///
    /// # Errors
    /// At the first thing that is wrong, with its line, its field and what was expected there.
    pub fn parse(text: &str) -> Result<Mesh, MeshFileError> {
        if text.len() > Self::MAX_LEN {
            return Err(MeshFileError { line: 1, field: String::new(), problem: Problem::TooLarge });
        }
        // serde knows the path of what it reads, and the YAML parser its line: an error wants both.
        let mut path = None;
        let file = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
            serde_path_to_error::deserialize(yaml).map_err(|error| {
                path = Some(error.path().clone());
                error.into_inner()
            })
        });
        let file: Self = file.map_err(|error| MeshFileError::syntax(path.as_ref(), &error))?;
        build::mesh(file)
    }
}

/// Limits beyond which a text is no mesh file but an attempt to exhaust us.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: 32,
            max_nodes: 2_000_000,
            max_events: 4_000_000,
            max_aliases: 10_000,
            max_anchors: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 8,
        },
        strict_booleans: true,
        with_snippet: false,
    }
}
