//! How every connection's story ends: one record, filled as the connection is understood, told when it is dropped.

mod connections;
mod reason;
mod record;

pub use connections::{Audience, ConnectionView, Connections};
pub use reason::{Outcome, Reason};
pub use record::{Bytes, Details, Record, Tls};

/// Seen from the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Into the pod.
    Inbound,
    /// Out of the pod.
    Outbound,
}

impl Direction {
    /// The stable label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}
