//! Sockets: where a connection wanted to go, what its first byte is, how to dial, how to move bytes and end rightly.

/// Addresses that are more than addresses.
pub mod addrs;
pub mod connect;
pub mod copy;
pub mod detect;
pub mod listening;
pub mod orig_dst;
/// TCP connections whose reset is noticed.
pub mod socket;
/// One leg, in clear or in TLS.
pub mod stream;

mod options;

pub use options::Options;
