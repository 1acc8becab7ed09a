use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
};

/// Where a client wanted to go before capture led it to us; IPv4 is never written as mapped IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OrigDst(SocketAddr);

impl OrigDst {
    /// Takes an address as the kernel reports it.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// Address and port.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        self.0
    }

    /// The address alone.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// The port alone.
    #[must_use]
    pub fn port(self) -> u16 {
        self.0.port()
    }
}

impl fmt::Display for OrigDst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The pod's own addresses at which other pods may reach it: neither loopback nor link-local. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct OwnAddresses(Arc<RwLock<BTreeSet<IpAddr>>>);

impl OwnAddresses {
    /// Reads the interfaces anew, and says whether anything has changed. What could not be read stays as it was.
    pub fn refresh(&self) -> bool {
        let Ok(interfaces) = if_addrs::get_if_addrs() else { return false };
        let fresh: BTreeSet<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).filter(is_reachable).collect();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *known != fresh;
        *known = fresh;
        changed
    }

    /// Whether this is one of them, as last read.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&address.to_canonical())
    }

    /// All of them, as last read.
    #[must_use]
    pub fn list(&self) -> Vec<IpAddr> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

fn is_reachable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified() && !v4.is_multicast(),
        IpAddr::V6(v6) => {
            !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified() && !v6.is_multicast()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_link_local_are_never_ours() {
        for address in
            ["127.0.0.1", "127.8.8.8", "169.254.1.1", "0.0.0.0", "::1", "::", "fe80::1", "224.0.0.1", "ff02::1"]
        {
            assert!(!is_reachable(&address.parse().unwrap()), "{address}");
        }
        for address in ["10.0.0.1", "192.0.2.1", "2001:db8::1", "fd00::1"] {
            assert!(is_reachable(&address.parse().unwrap()), "{address}");
        }
        let own = OwnAddresses::default();
        own.refresh();
        assert!(!own.contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mapped = OrigDst::new("[::ffff:192.0.2.7]:80".parse().unwrap());
        assert_eq!(mapped, OrigDst::new("192.0.2.7:80".parse().unwrap()));
    }
}
