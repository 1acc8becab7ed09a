//! Dialling, with the reason when it fails.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use super::{Options, socket::Socket};
use crate::outcome::{Outcome, Reason};

/// Dials a peer outside this pod.
///
/// # Errors
/// The reason, for the record.
pub async fn dial_wire(address: SocketAddr, deadline: Duration, options: &Options) -> Result<Socket, Reason> {
    let stream = dial(address, deadline).await?;
    options.apply_to_wire(&stream).map_err(|error| failed(address, &error))?;
    Ok(Socket::new(stream))
}

/// Dials the pod's own application at one of the pod's own addresses.
///
/// # Errors
/// The reason, for the record.
pub async fn dial_own(address: SocketAddr, deadline: Duration, options: &Options) -> Result<Socket, Reason> {
    let stream = dial(address, deadline).await?;
    options.apply_to_application(&stream).map_err(|error| failed(address, &error))?;
    // The kernel answers a connection to an own address from that same address. From any other it left the pod, or came
    // from loopback, which an application may trust: not a byte may flow then.
    match stream.local_addr() {
        Ok(local) if local.ip() == address.ip() => Ok(Socket::new(stream)),
        _ => Err(Reason::NOT_OUR_ADDRESS),
    }
}

async fn dial(address: SocketAddr, deadline: Duration) -> Result<TcpStream, Reason> {
    match timeout(deadline, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failed(address, &error)),
        Err(_) => Err(Reason::new(Outcome::Failed, "dial_timeout", format!("{address} did not answer in time"))),
    }
}

fn failed(address: SocketAddr, error: &io::Error) -> Reason {
    let label = match error.kind() {
        io::ErrorKind::ConnectionRefused => "dial_refused",
        io::ErrorKind::TimedOut => "dial_timeout",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "dial_unreachable",
        _ => "dial_failed",
    };
    Reason::new(Outcome::Failed, label, format!("{address}: {error}"))
}
