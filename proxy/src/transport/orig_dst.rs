//! The original destination: how capture's REDIRECT remembers where a connection wanted to go.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::addrs::OrigDst;

/// Asks the kernel's connection tracking (`SO_ORIGINAL_DST`). `None` for a connection that nobody redirected.
#[must_use]
pub fn original_destination(stream: &TcpStream) -> Option<OrigDst> {
    let socket = SockRef::from(stream);
    let local = stream.local_addr().ok()?;
    let original = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    let original = OrigDst::new(original.ok()?.as_socket()?);
    // Without a translation the kernel answers with the address that was dialled: our own listener.
    (original != OrigDst::new(local)).then_some(original)
}
