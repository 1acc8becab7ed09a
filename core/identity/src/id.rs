use std::{fmt, str::FromStr, sync::Arc};

use crate::{TrustDomain, TrustDomainError};

/// A SPIFFE ID that names a workload: `spiffe://<trust-domain>/<path>`, with a path (SPIFFE-ID §2, X509-SVID §2).
///
/// The bare ID of a trust domain, which has no path, names an authority and is never a `SpiffeId` here.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: Arc<str>,
}

/// Why a string is no SPIFFE ID of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The scheme is another.
    #[error("a SPIFFE ID begins with spiffe://")]
    Scheme,
    /// The trust domain is wrong.
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    /// Only a trust domain.
    #[error("a workload's SPIFFE ID has a path")]
    NoPath,
    /// `//`, a trailing `/`, `.` or `..`.
    #[error("a SPIFFE ID's path has no empty, '.' or '..' segment and no trailing '/'")]
    Segment,
    /// Percent-encoding, query, fragment, or any other character outside the set.
    #[error("a SPIFFE ID's path holds only a-z, A-Z, 0-9, '.', '-', '_' and '/', not {0:?}")]
    Character(char),
    /// More than 2048 bytes.
    #[error("a SPIFFE ID has at most 2048 characters")]
    TooLong,
}

const SCHEME: &str = "spiffe://";

impl SpiffeId {
    /// The longest ID, in bytes, scheme included.
    pub const MAX_LEN: usize = 2048;

    /// The ID `spiffe://<trust-domain><path>`; the path begins with `/`.
    ///
    /// # Errors
    /// When the path is not one of a SPIFFE ID.
    pub fn new(trust_domain: TrustDomain, path: &str) -> Result<Self, IdError> {
        if SCHEME.len() + trust_domain.as_str().len() + path.len() > Self::MAX_LEN {
            return Err(IdError::TooLong);
        }
        let segments = path.strip_prefix('/').ok_or(IdError::NoPath)?;
        segments.split('/').try_for_each(check_segment)?;
        Ok(Self { trust_domain, path: path.into() })
    }

    /// The identity of a Kubernetes-style workload: `/ns/<namespace>/sa/<service-account>`.
    ///
    /// # Errors
    /// When a name is not one path segment.
    pub fn workload(trust_domain: TrustDomain, namespace: &str, service_account: &str) -> Result<Self, IdError> {
        check_segment(namespace)?;
        check_segment(service_account)?;
        Self::new(trust_domain, &format!("/ns/{namespace}/sa/{service_account}"))
    }

    /// The reserved identity of the CA agent: `/kith/ca`.
    #[must_use]
    pub fn ca_agent(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, path: "/kith/ca".into() }
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path, with its leading `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path's segments.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').skip(1)
    }

    /// `/kith/*`: Kith's own processes, which no attestation of a workload obtains.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.segments().next() == Some("kith")
    }

    /// The namespace and the service account, if the path is `/ns/<namespace>/sa/<service-account>`.
    #[must_use]
    pub fn namespace_and_service_account(&self) -> Option<(&str, &str)> {
        let mut segments = self.segments();
        let parts = [segments.next()?, segments.next()?, segments.next()?, segments.next()?];
        match (parts, segments.next()) {
            (["ns", namespace, "sa", service_account], None) => Some((namespace, service_account)),
            _ => None,
        }
    }
}

fn check_segment(segment: &str) -> Result<(), IdError> {
    if matches!(segment, "" | "." | "..") {
        return Err(IdError::Segment);
    }
    match segment.chars().find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_')) {
        Some(c) => Err(IdError::Character(c)),
        None => Ok(()),
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        if id.len() > Self::MAX_LEN {
            return Err(IdError::TooLong);
        }
        let rest = id.strip_prefix(SCHEME).ok_or(IdError::Scheme)?;
        let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Self::new(trust_domain.parse()?, path)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.trust_domain, self.path)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({self})")
    }
}

macro_rules! serde_as_string {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_string;

serde_as_string!(SpiffeId);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_the_standard_allows() {
        let id: SpiffeId = "spiffe://example.org/ns/shop/sa/Web-1.0".parse().unwrap();
        assert_eq!(id.trust_domain().as_str(), "example.org");
        assert_eq!(id.path(), "/ns/shop/sa/Web-1.0");
        assert_eq!(id.namespace_and_service_account(), Some(("shop", "Web-1.0")));
        assert_eq!(id, SpiffeId::workload("example.org".parse().unwrap(), "shop", "Web-1.0").unwrap());
    }

    #[test]
    fn refuses_everything_else() {
        let cases = [
            ("https://example.org/a", IdError::Scheme),
            ("SPIFFE://example.org/a", IdError::Scheme),
            ("spiffe://example.org", IdError::NoPath),
            ("spiffe://example.org/", IdError::Segment),
            ("spiffe://example.org/a/", IdError::Segment),
            ("spiffe://example.org//a", IdError::Segment),
            ("spiffe://example.org/a/../b", IdError::Segment),
            ("spiffe://example.org/./b", IdError::Segment),
            ("spiffe://example.org/a%20b", IdError::Character('%')),
            ("spiffe://example.org/a?b", IdError::Character('?')),
            ("spiffe://example.org/a#b", IdError::Character('#')),
            ("spiffe:///a", IdError::TrustDomain(TrustDomainError::Empty)),
            ("spiffe://example.org:80/a", IdError::TrustDomain(TrustDomainError::Character(':'))),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<SpiffeId>(), Err(error), "{text}");
        }
        assert_eq!(format!("spiffe://a/{}", "x".repeat(2048)).parse::<SpiffeId>(), Err(IdError::TooLong));
    }

    #[test]
    fn a_name_with_a_slash_cannot_climb_out_of_its_segment() {
        let domain: TrustDomain = "example.org".parse().unwrap();
        assert!(SpiffeId::workload(domain.clone(), "a/sa/b", "c").is_err());
        assert!(SpiffeId::workload(domain, "a", "..").is_err());
    }

    #[test]
    fn knows_the_reserved_ones() {
        assert!("spiffe://a/kith/ca".parse::<SpiffeId>().unwrap().is_reserved());
        assert!("spiffe://a/kith".parse::<SpiffeId>().unwrap().is_reserved());
        assert!(!"spiffe://a/kithy/ca".parse::<SpiffeId>().unwrap().is_reserved());
        assert!(!"spiffe://a/ns/kith/sa/x".parse::<SpiffeId>().unwrap().is_reserved());
    }

    proptest! {
        #[test]
        fn any_text_parses_to_itself_or_not_at_all(text in "\\PC{0,80}", tail in "[a-zA-Z0-9./_%-]{0,40}") {
            for candidate in [text.clone(), format!("spiffe://{text}"), format!("spiffe://example.org/{tail}")] {
                if let Ok(id) = candidate.parse::<SpiffeId>() {
                    prop_assert_eq!(id.to_string(), candidate);
                    prop_assert!(id.segments().all(|s| !s.is_empty() && s != "." && s != ".."));
                }
            }
        }
    }
}
