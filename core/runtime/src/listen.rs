//! Listening sockets, bound before anything else is started, so that a taken port is known at once
//! and tests can ask for port 0.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// How many connections the kernel keeps for us to accept; it lowers this to `net.core.somaxconn`.
pub const BACKLOG: u32 = 4096;

/// How often a port that the kernel chose for IPv4 may turn out to be taken for IPv6.
const PORT_ATTEMPTS: usize = 16;

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// From where a port can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// 127.0.0.1 and ::1.
    LoopbackOnly,
    /// Every address of the machine.
    Any,
}

/// The listening sockets of one port: IPv4, and IPv6 where there is any.
#[derive(Debug)]
pub struct Bound {
    /// The sockets.
    pub listeners: Vec<TcpListener>,
    /// Where each of them listens, in the same order; the port is the true one.
    pub addresses: Vec<SocketAddr>,
}

/// Listens on one address. Must be called within a tokio runtime.
/// A socket for IPv6 takes IPv6 alone, and a port is free as soon as its last listener is gone.
///
/// # Errors
/// When the kernel refuses.
pub fn bind(address: SocketAddr, backlog: u32) -> Result<TcpListener, BindError> {
    listening(address, backlog).map_err(|source| BindError { address, source })
}

/// Listens on a port in both families, IPv4 first. Port 0 takes one that is free in both.
/// A machine without IPv6 is fine, one without IPv4 is not.
///
/// # Errors
/// When the port is taken in either family, or the kernel refuses otherwise.
pub fn bind_all(port: u16, reach: Reach) -> Result<Bound, BindError> {
    let mut attempts = if port == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match bind_both(port, reach) {
            Err(error) if attempts > 0 && is(&error.source, Errno::ADDRINUSE) => {}
            result => return result,
        }
    }
}

impl Reach {
    fn v4(self) -> Ipv4Addr {
        match self {
            Self::LoopbackOnly => Ipv4Addr::LOCALHOST,
            Self::Any => Ipv4Addr::UNSPECIFIED,
        }
    }

    fn v6(self) -> Ipv6Addr {
        match self {
            Self::LoopbackOnly => Ipv6Addr::LOCALHOST,
            Self::Any => Ipv6Addr::UNSPECIFIED,
        }
    }
}

fn bind_both(port: u16, reach: Reach) -> Result<Bound, BindError> {
    let (v4, v4_address) = bind_named(reach.v4().into(), port)?;
    let mut bound = Bound { listeners: vec![v4], addresses: vec![v4_address] };
    match bind_named(reach.v6().into(), v4_address.port()) {
        Ok((v6, v6_address)) => {
            bound.listeners.push(v6);
            bound.addresses.push(v6_address);
        }
        Err(error) if is_family_missing(&error.source) => {}
        Err(error) => return Err(error),
    }
    Ok(bound)
}

fn bind_named(address: IpAddr, port: u16) -> Result<(TcpListener, SocketAddr), BindError> {
    let wanted = SocketAddr::new(address, port);
    let listener = bind(wanted, BACKLOG)?;
    let address = listener.local_addr().map_err(|source| BindError { address: wanted, source })?;
    Ok((listener, address))
}

fn listening(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the process before it to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Otherwise [::] would take IPv4 too, and collide with the socket that has it.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// The kernel was built or started without IPv6, or has it switched off on the interface.
fn is_family_missing(error: &io::Error) -> bool {
    is(error, Errno::AFNOSUPPORT) || is(error, Errno::ADDRNOTAVAIL)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[tokio::test]
    async fn both_families_share_the_port_that_was_chosen() {
        for reach in [Reach::LoopbackOnly, Reach::Any] {
            let bound = bind_all(0, reach).unwrap();
            assert_eq!(bound.listeners.len(), bound.addresses.len());
            let port = bound.addresses[0].port();
            assert_ne!(port, 0);
            assert_eq!(bound.addresses[0], SocketAddr::new(reach.v4().into(), port));
            assert_eq!(bound.addresses[1], SocketAddr::new(reach.v6().into(), port));
            for (listener, address) in bound.listeners.iter().zip(&bound.addresses) {
                assert_eq!(listener.local_addr().unwrap(), *address);
                let dial = if address.is_ipv4() { loopback(port) } else { (Ipv6Addr::LOCALHOST, port).into() };
                let client = TcpStream::connect(dial).await.unwrap();
                // Accepted by the socket of its own family, from an address of that family.
                let (_, peer) = listener.accept().await.unwrap();
                assert_eq!(peer, client.local_addr().unwrap());
            }
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_names_the_address() {
        let taken = bind(loopback(0), 1).unwrap().into_std().unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(address, 1).unwrap_err();
        assert_eq!(error.address, address);
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), format!("can't listen on {address}"));
        assert!(bind_all(address.port(), Reach::Any).is_err());
    }

    #[tokio::test]
    async fn a_port_that_only_ipv6_has_taken_is_an_error_too() {
        let taken = bind((Ipv6Addr::LOCALHOST, 0).into(), 1).unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind_all(address.port(), Reach::LoopbackOnly).unwrap_err();
        assert_eq!(error.address, address);
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn a_port_is_free_again_while_its_old_connections_time_out() {
        let listener = bind(loopback(0), 1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        // Whoever closes first keeps the port in TIME_WAIT: here it is the server.
        drop(listener.accept().await.unwrap());
        let end = tokio::io::AsyncReadExt::read(&mut client, &mut [0]).await.unwrap();
        assert_eq!(end, 0);
        drop((client, listener));
        bind(address, 1).unwrap();
    }

    #[test]
    fn only_a_missing_family_is_tolerated() {
        let missing = |errno: Errno| is_family_missing(&io::Error::from(errno));
        assert!(missing(Errno::AFNOSUPPORT));
        assert!(missing(Errno::ADDRNOTAVAIL));
        assert!(!missing(Errno::ADDRINUSE));
        assert!(!missing(Errno::ACCESS));
        assert!(!is_family_missing(&io::Error::other("no number")));
    }
}
