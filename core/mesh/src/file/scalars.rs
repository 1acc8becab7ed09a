//! The values of a mesh file that have a form of their own; each says what was expected when it is wrong.

use std::{fmt, marker::PhantomData, net::IpAddr, num::NonZeroU16};

use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// A network, without host bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network(pub(super) IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let network: IpNet = text.parse().map_err(|_| {
            D::Error::custom(format_args!("{text:?} is no network: expected one such as 10.0.0.0/8 or fd00::/48"))
        })?;
        // Addresses are compared in their IPv4 form, which a mapped network would never hold.
        if network.addr() != network.addr().to_canonical() {
            return Err(D::Error::custom(format_args!("{text:?} is an IPv4 network: expected it in IPv4 form")));
        }
        if network != network.trunc() {
            let expected = network.trunc();
            return Err(D::Error::custom(format_args!("{text:?} has bits beyond its prefix: expected {expected}")));
        }
        Ok(Self(network))
    }
}

/// An address that something can be reached at through the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ip(pub(super) IpAddr);

impl<'de> Deserialize<'de> for Ip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let address: IpAddr = text
            .parse()
            .map_err(|_| D::Error::custom(format_args!("{text:?} is no IP address: expected one, without port")))?;
        let address = address.to_canonical();
        let (link_local, broadcast) = match address {
            IpAddr::V4(v4) => (v4.is_link_local(), v4.is_broadcast()),
            IpAddr::V6(v6) => (v6.is_unicast_link_local(), false),
        };
        if link_local || broadcast || address.is_unspecified() || address.is_multicast() {
            return Err(D::Error::custom(format_args!(
                "{text} is never captured: expected a unicast address that is not link-local"
            )));
        }
        Ok(Self(address))
    }
}

/// What workloads, services, policies and rules are called: it becomes part of log lines and of metric labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name(pub(super) String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        // These are also the names that a segment of a SPIFFE ID may have.
        if matches!(name.len(), 1..=253) && name.chars().all(allowed) && name != "." && name != ".." {
            Ok(Self(name))
        } else {
            Err(D::Error::custom("expected a name: 1 to 253 of a-z, A-Z, 0-9, '.', '-' and '_'"))
        }
    }
}

/// A TCP port. It has one spelling, so that as a key it is given once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Port(pub(super) u16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse::<NonZeroU16>() {
            Ok(port) if port.to_string() == text => Ok(Self(port.get())),
            _ => Err(D::Error::custom(format_args!("{text:?} is no port: expected a number from 1 to 65535"))),
        }
    }
}

/// An ALPN ID (RFC 7301 §3.1) other than Kith's own, which say that the speaker is a sidecar.
#[derive(Debug, Clone)]
pub(super) struct Alpn(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Alpn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = String::deserialize(deserializer)?;
        if !matches!(id.len(), 1..=255) || id.starts_with("kith/") || id.starts_with("kith-tunnel/") {
            return Err(D::Error::custom("expected an ALPN ID of 1 to 255 bytes that is not one of Kith's own"));
        }
        Ok(Self(id.into_bytes()))
    }
}

/// A list in which nothing at all would be a mistake.
#[derive(Debug, Clone)]
pub(super) struct NonEmpty<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NonEmpty<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = NonEmpty<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of at least one element")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                if elements.is_empty() { Err(A::Error::invalid_length(0, &self)) } else { Ok(NonEmpty(elements)) }
            }
        }

        deserializer.deserialize_seq(Elements(PhantomData))
    }
}
