//! ALPN: who is speaking (RFC 7301).

/// Between two sidecars: the application's bytes after an answer byte. See `proto/WIRE.md`.
pub const KITH: &[u8] = b"kith/1";

/// Reserved for pooled tunnels; not spoken yet.
pub const KITH_TUNNEL: &[u8] = b"kith-tunnel/1";

/// gRPC and other HTTP/2.
pub const H2: &[u8] = b"h2";

/// The server's choice: the first of its own list that the client offers, else none; never an error.
///
/// A sidecar puts [`KITH`] first and then what the port's application speaks.
#[must_use]
pub fn choose<'a>(offered: &[&[u8]], ours: &'a [Vec<u8>]) -> Option<&'a [u8]> {
    ours.iter().map(Vec::as_slice).find(|id| offered.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_order_decides_and_a_mismatch_is_no_error() {
        let ours = [KITH.to_vec(), H2.to_vec()];
        assert_eq!(choose(&[b"h2", b"kith/1"], &ours), Some(KITH));
        assert_eq!(choose(&[b"http/1.1", b"h2"], &ours), Some(H2));
        assert_eq!(choose(&[b"http/1.1"], &ours), None);
        assert_eq!(choose(&[], &ours), None);
        assert_eq!(choose(&[b"h2"], &[]), None);
    }
}
