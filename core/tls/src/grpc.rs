//! gRPC over our own TLS: tonic's cannot rotate a client certificate, and knows no SPIFFE ID.

mod acceptor;
mod connector;
mod crowd;

use std::{sync::Arc, time::SystemTime};

pub use acceptor::{Acceptor, ConnectionInfo, FailureObserver, GrpcIo, Security};
pub use connector::{ConnectError, Connector, RootsSource};

/// Tells the time.
pub type Now = Arc<dyn Fn() -> SystemTime + Send + Sync>;
