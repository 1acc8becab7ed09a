//! Kith's gRPC contracts: the `.proto` files beside this crate, the code generated from them, and the only
//! conversions between the wire and the domain.

mod convert;

pub use convert::{ConvertError, bundles_from_wire, bundles_to_wire, system_time, timestamp};

/// `kith.ca.v1alpha1`: issuance, trust bundles, local administration.
#[path = "generated/kith.ca.v1alpha1.rs"]
#[rustfmt::skip]
pub mod ca;

/// `kith.discovery.v1alpha1`: the answers of discovery.
#[path = "generated/kith.discovery.v1alpha1.rs"]
#[rustfmt::skip]
pub mod discovery;

/// `kith.status.v1alpha1`: identities and connections.
#[path = "generated/kith.status.v1alpha1.rs"]
#[rustfmt::skip]
pub mod status;

/// All contracts as an encoded `google.protobuf.FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
