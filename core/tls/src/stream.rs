use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use kith_identity::Leaf;
use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::{alert_label, alert_of};

/// One TLS connection whose peer is known.
///
/// Reading yields `UnexpectedEof` when the peer's FIN came without close_notify: truncation (RFC 8446 §6.1).
/// Shutting down sends close_notify, then FIN; the other direction stays open.
#[derive(Debug)]
pub struct TlsStream<IO> {
    inner: tokio_rustls::TlsStream<IO>,
    peer: Option<Leaf>,
    parameters: Parameters,
}

/// What a handshake agreed on, in the names of the IANA registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Such as `TLSv1.3`.
    pub version: &'static str,
    /// Such as `TLS13_AES_128_GCM_SHA256`.
    pub cipher_suite: &'static str,
    /// Such as `X25519MLKEM768`; empty when unknown.
    pub key_exchange_group: String,
    /// The ALPN protocol ID, if one was chosen.
    pub alpn: Option<Vec<u8>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl<IO> TlsStream<IO> {
    pub(crate) fn new(inner: tokio_rustls::TlsStream<IO>, peer: Option<Leaf>) -> Self {
        let (_, session) = inner.get_ref();
        let parameters = Parameters {
            // No other version is compiled in.
            version: "TLSv1.3",
            cipher_suite: session.negotiated_cipher_suite().and_then(|s| s.suite().as_str()).unwrap_or_default(),
            key_exchange_group: session
                .negotiated_key_exchange_group()
                .map(|group| format!("{:?}", group.name()))
                .unwrap_or_default(),
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        };
        Self { inner, peer, parameters }
    }

    /// Who the peer proved to be; `None` only on servers that ask for no certificate.
    #[must_use]
    pub fn peer(&self) -> Option<&Leaf> {
        self.peer.as_ref()
    }

    /// What the handshake agreed on.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The connection below, for socket options and its end.
    #[must_use]
    pub fn io(&self) -> &IO {
        self.inner.get_ref().0
    }

    /// The label of the fatal alert that a read of such a stream failed with. A write never tells: where one fails,
    /// reading may still find the alert that says why.
    #[must_use]
    pub fn alert(error: &io::Error) -> Option<&'static str> {
        alert_of(error).map(alert_label)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
