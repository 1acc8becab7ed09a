//! The words of Kith's domain as types: parsed once, valid from then on, and free of I/O.
//!
//! Identities follow the SPIFFE standards: SPIFFE-ID §2 for names, X509-SVID §2–5 for certificates.

mod bundle;
mod distinguished_name;
mod id;
mod leaf;
mod pattern;
mod serial;
mod svid;
mod trust_domain;

pub use bundle::{BundleError, TrustBundle, TrustBundles};
pub use distinguished_name::{issuer_name, subject_name};
pub use id::{IdError, SpiffeId};
pub use leaf::{Leaf, LeafError};
pub use pattern::{IdPattern, PatternError};
pub use serial::{Serial, SerialError};
pub use svid::{PrivateKey, SvidError, X509Svid};
pub use trust_domain::{TrustDomain, TrustDomainError};
