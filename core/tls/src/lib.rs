//! Mutual TLS 1.3 with SPIFFE identities: what we present, whom we believe, and the handshakes that use both.
//!
//! Credentials enter through [`Credentials`], which checks them as a peer would, and are read as one immutable
//! [`Material`]. [`verify()`] and [`authorize()`] are pure; [`accept`] and [`connect`] run them inside rustls and again
//! after it. The byte path sees [`TlsStream`] only.

pub mod alpn;
pub mod answer;
mod authorize;
mod credentials;
mod error;
pub mod grpc;
mod handshake;
mod linger;
mod material;
mod provider;
mod rejection;
mod stream;
mod trust;
mod verifier;
mod verify;

pub use authorize::{AnyIdentity, ExpectedIds, PeerPolicy, authorize};
pub use credentials::{Credentials, CredentialsReader, PublishError};
pub use error::{HandshakeError, alert_label};
pub use handshake::{Client, Failed, Server, accept, connect};
pub use linger::linger;
pub use material::{Material, MaterialError};
pub use rejection::Rejection;
pub use stream::{Parameters, TlsStream};
pub use trust::{Revocations, RootPin, Roots, Trust};
pub use verify::verify;
