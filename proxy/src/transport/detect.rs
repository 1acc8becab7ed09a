//! What a client speaks, by its first byte.

use std::{io, time::Duration};

use tokio::{io::AsyncReadExt as _, time::timeout};

use super::socket::Socket;

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// A TLS handshake record (RFC 8446 §5.1).
    Tls,
    /// Anything else.
    Plaintext,
    /// Nothing: it closed.
    Nothing,
}

const HANDSHAKE_RECORD: u8 = 22;

/// Reads the first byte and puts it back. No application protocol that is plaintext begins with this control character,
/// and a hello split into single bytes is told as well as any other.
///
/// # Errors
/// `TimedOut` when the client says nothing, or what reading yields.
pub async fn detect(socket: &mut Socket, deadline: Duration) -> io::Result<Spoken> {
    let mut first = [0; 1];
    let read = timeout(deadline, socket.read(&mut first)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let [byte] = first;
    if read == 0 {
        return Ok(Spoken::Nothing);
    }
    socket.put_back(byte);
    Ok(if byte == HANDSHAKE_RECORD { Spoken::Tls } else { Spoken::Plaintext })
}
