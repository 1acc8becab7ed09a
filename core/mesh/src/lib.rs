//! The mesh as one sidecar sees it: who is behind an address, and who may come in.
//!
//! Everything here is a pure function of what was read: no I/O, no clock, no randomness of its own. [`MeshFile::parse`]
//! turns the text of a mesh file into a [`Mesh`]; [`Mesh::destination`] is discovery's answer for an address and port;
//! [`InboundPolicy::decide`] is the policy language's; [`Destination::choose`] picks the endpoint to dial.

mod destination;
mod file;
mod mesh;
mod policy;

pub use destination::{Answer, Destination, Endpoint, Meshed, PlainReason, Protocol, Reach};
pub use file::{MeshFile, MeshFileError, Problem};
pub use mesh::{Kind, Mesh, SelfError, Workload};
pub use policy::{
    Action, BuiltIn, DecidedBy, Decision, InboundPolicy, Layer, Mode, Policy, PortSettings, Principal, Rule, Source,
};
