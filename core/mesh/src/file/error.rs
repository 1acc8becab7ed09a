use std::{fmt, net::IpAddr};

use kith_identity::{SpiffeId, TrustDomain};
use serde_path_to_error::{Path, Segment};
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};

/// What is wrong with a mesh file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshFileError {
    /// The line, from 1.
    pub line: u64,
    /// The field, as a path such as `workloads[0].addresses`; empty for the whole document.
    pub field: String,
    /// What is wrong, and what was expected.
    pub problem: Problem,
}

/// What is wrong with a mesh file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Not YAML, not the shape of a mesh file, or a value that is not what its field holds.
    #[error("{0}")]
    Syntax(String),
    /// Longer than a mesh file may be.
    #[error("the file is longer than 16 MiB")]
    TooLarge,
    /// A name that stands for something else already.
    #[error("the name {name} was given on line {line} already: names are unique")]
    DuplicateName {
        /// The name.
        name: String,
        /// Where it was given first.
        line: u64,
    },
    /// An address that belongs to something else.
    #[error("the address {address} belongs to {owner} already: an address belongs to one workload or one service")]
    DuplicateAddress {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        owner: String,
    },
    /// A workload or service outside the mesh networks.
    #[error("the address {0} lies outside mesh_networks: expected an address inside, or a network there that holds it")]
    OutsideMeshNetworks(IpAddr),
    /// An address that would be both meshed and excepted.
    #[error("the address {0} lies in outbound.except_networks, which would send its connections in plaintext")]
    InExceptNetworks(IpAddr),
    /// A workload that mTLS is expected of, without an identity.
    #[error("spiffe_id is missing: a workload of kind meshed or foreign has one")]
    MissingId,
    /// A meshed workload of another trust domain.
    #[error("{id} is not of the trust domain {expected}: a meshed workload is")]
    OtherTrustDomain {
        /// The identity.
        id: SpiffeId,
        /// The trust domain of the mesh.
        expected: TrustDomain,
    },
    /// A reserved identity.
    #[error("{0} is reserved: only /kith/ca and /kith/discovery are listed, and never as meshed")]
    ReservedId(SpiffeId),
    /// ALPN IDs for a workload that is not foreign.
    #[error("alpn is only for a workload of kind foreign")]
    AlpnWithoutForeign,
    /// A port of a service given twice.
    #[error("the port {0} is given twice: a service has each port once")]
    DuplicatePort(u16),
    /// An endpoint given twice.
    #[error("the endpoint {0} is given twice")]
    DuplicateEndpoint(String),
    /// An endpoint that nobody says how to reach.
    #[error(
        "the address {0} is inside mesh_networks and no workload has it: list the workload, of kind plain if it is"
    )]
    UnlistedEndpoint(IpAddr),
    /// A workload that is not listed.
    #[error("there is no workload {0}: expected the name of a listed one")]
    UnknownWorkload(String),
    /// A namespace that no workload is in.
    #[error("no workload's SPIFFE ID is in the namespace {0}: expected the namespace of a listed one")]
    UnknownNamespace(String),
    /// foreign_mtls where it means nothing.
    #[error("foreign_mtls is only for a port whose mode is stated as PERMISSIVE beside it")]
    ForeignMtlsWithoutPermissive,
    /// A mode that this version does not serve.
    #[error("PERMISSIVE is not served yet: expected STRICT or DISABLE")]
    PermissiveNotServed,
}

impl Problem {
    /// The stable label for metrics and logs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "syntax",
            Self::TooLarge => "too_large",
            Self::DuplicateName { .. } => "duplicate_name",
            Self::DuplicateAddress { .. } => "duplicate_address",
            Self::OutsideMeshNetworks(_) => "outside_mesh_networks",
            Self::InExceptNetworks(_) => "in_except_networks",
            Self::MissingId => "missing_spiffe_id",
            Self::OtherTrustDomain { .. } => "other_trust_domain",
            Self::ReservedId(_) => "reserved_spiffe_id",
            Self::AlpnWithoutForeign => "alpn_without_foreign",
            Self::DuplicatePort(_) => "duplicate_port",
            Self::DuplicateEndpoint(_) => "duplicate_endpoint",
            Self::UnlistedEndpoint(_) => "unlisted_endpoint",
            Self::UnknownWorkload(_) => "unknown_workload",
            Self::UnknownNamespace(_) => "unknown_namespace",
            Self::ForeignMtlsWithoutPermissive => "foreign_mtls_without_permissive",
            Self::PermissiveNotServed => "permissive_not_served",
        }
    }
}

impl MeshFileError {
    /// The stable label for metrics and logs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.problem.as_str()
    }

    /// A problem with this value.
    pub(super) fn at<T>(value: &Spanned<T>, field: impl Into<String>, problem: Problem) -> Self {
        Self { line: value.referenced.line(), field: field.into(), problem }
    }

    pub(super) fn syntax(path: Option<&Path>, error: &serde_saphyr::Error) -> Self {
        let line = error.location().as_ref().map_or(1, Location::line);
        let message = UserMessageFormatter.format_message(error).into_owned();
        let mut field = path.map(field_of).unwrap_or_default();
        if let serde_saphyr::Error::SerdeMissingField { field: missing, .. } = error {
            push_name(&mut field, missing);
        }
        Self { line, field, problem: Problem::Syntax(message) }
    }
}

/// The path without the steps that `Spanned` puts in.
fn field_of(path: &Path) -> String {
    let mut field = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => field.push_str(&format!("[{index}]")),
            Segment::Map { key } if key != "value" => push_name(&mut field, key),
            _ => {}
        }
    }
    field
}

fn push_name(field: &mut String, name: &str) {
    let dot = if field.is_empty() { "" } else { "." };
    field.push_str(&format!("{dot}{name}"));
}

impl fmt::Display for MeshFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "line {}: {}", self.line, self.problem),
            field => write!(f, "line {}, {field}: {}", self.line, self.problem),
        }
    }
}

impl std::error::Error for MeshFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None
    }
}
