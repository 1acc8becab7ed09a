//! Whether the application still listens: read from the network namespace's own socket tables.

use std::{collections::BTreeSet, net::SocketAddr};

use procfs::net::{TcpNetEntry, TcpState};

/// The addresses in this network namespace that somebody besides us listens on.
///
/// # Errors
/// When `/proc` can't be read.
pub fn listening_besides(own_ports: &BTreeSet<u16>) -> Result<Vec<SocketAddr>, procfs::ProcError> {
    let mut entries = procfs::net::tcp()?;
    // A kernel without IPv6 has no such table.
    entries.extend(procfs::net::tcp6().unwrap_or_default());
    let listens = |entry: &TcpNetEntry| entry.state == TcpState::Listen;
    let addresses = entries.into_iter().filter(listens).map(|entry| entry.local_address);
    Ok(addresses.filter(|address| !own_ports.contains(&address.port())).collect())
}
