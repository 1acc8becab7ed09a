use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

const MOST_BYTES: u64 = 64 * 1024;
const LONGEST: Duration = Duration::from_secs(1);

/// Ends a refused connection so that the alert arrives: closing a socket with unread data resets it, and a reset
/// makes the peer throw away what it has not read. So: shut down writing, discard what still comes, then close.
pub async fn linger(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let discard = async {
        io.shutdown().await?;
        tokio::io::copy(&mut (&mut io).take(MOST_BYTES), &mut tokio::io::sink()).await
    };
    // The peer is refused already: however this ends, the connection is closed.
    let _ = timeout(LONGEST, discard).await;
}
