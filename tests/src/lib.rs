//! The harness of the end-to-end tests: pods as network namespaces, real programs in them, and the wire between them
//! under observation.
//!
//! A test begins with a [`Net`], puts [`Pod`]s on it, runs programs in them through [`Pod::command`] and looks at the
//! wire with [`Net::capture`]. Everything a test has made goes away with its [`Net`], also when it panics; what a killed
//! test left behind is swept by the next one. The tests need root, nftables, tcpdump and tshark.

pub mod agent;
pub mod capture;
pub mod http;
pub mod mesh_file;
pub mod net;
pub mod peers;
pub mod pki;
pub mod pod;
pub mod process;
pub mod programs;
pub mod sidecar;
pub mod tcp;
pub mod wait;

pub use agent::{Agent, spiffe_id};
pub use capture::{Capture, Captured, Stream};
pub use mesh_file::MeshFile;
pub use net::Net;
pub use pki::{Defect, Issued, Leaf, Pki};
pub use pod::Pod;
pub use process::{Finished, PodCommand, Process};
pub use programs::{grpcurl, kith_ca_agent, kith_proxy};
pub use sidecar::Sidecar;
pub use wait::{wait_for, wait_until};
