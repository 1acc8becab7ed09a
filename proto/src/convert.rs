use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kith_identity::{BundleError, TrustBundle, TrustBundles, TrustDomainError};
use prost_types::Timestamp;

use crate::ca;

/// Why a message does not say what its contract promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A trust domain's name is wrong.
    #[error("a trust bundle's name is wrong: {0}")]
    TrustDomain(#[from] TrustDomainError),
    /// A trust bundle's content is wrong.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Reads a set of trust bundles.
///
/// # Errors
/// When a trust domain's name or one of its authorities is wrong.
pub fn bundles_from_wire(set: ca::TrustBundleSet) -> Result<TrustBundles, ConvertError> {
    let read = |bundle: ca::TrustBundle| -> Result<TrustBundle, ConvertError> {
        Ok(TrustBundle::new(bundle.trust_domain.parse()?, bundle.x509_authorities)?)
    };
    let bundles = set.bundles.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(TrustBundles::new(set.sequence, bundles))
}

/// Writes a set of trust bundles.
#[must_use]
pub fn bundles_to_wire(bundles: &TrustBundles) -> ca::TrustBundleSet {
    let write = |bundle: &TrustBundle| ca::TrustBundle {
        trust_domain: bundle.trust_domain().to_string(),
        x509_authorities: bundle.authorities().to_vec(),
    };
    ca::TrustBundleSet { sequence: bundles.sequence, bundles: bundles.iter().map(write).collect() }
}

/// Writes a moment; one before 1970 becomes 1970.
#[must_use]
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}

/// Reads a moment; one before 1970 becomes 1970.
#[must_use]
pub fn system_time(timestamp: &Timestamp) -> SystemTime {
    let seconds = u64::try_from(timestamp.seconds).unwrap_or(0);
    let nanos = u32::try_from(timestamp.nanos).unwrap_or(0).min(999_999_999);
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_the_wire() {
        let now = UNIX_EPOCH + Duration::new(1_800_000_000, 5);
        assert_eq!(system_time(&timestamp(now)), now);
        assert_eq!(system_time(&Timestamp { seconds: -5, nanos: -1 }), UNIX_EPOCH);
        assert!(system_time(&Timestamp { seconds: i64::MAX, nanos: i32::MAX }).duration_since(UNIX_EPOCH).is_ok());
    }

    #[test]
    fn a_set_with_a_broken_bundle_is_refused_whole() {
        let bundle =
            |name: &str, der: Vec<u8>| ca::TrustBundle { trust_domain: name.into(), x509_authorities: vec![der] };
        let set = |bundle| ca::TrustBundleSet { sequence: 1, bundles: vec![bundle] };
        assert_eq!(
            bundles_from_wire(set(bundle("example.org", b"garbage".to_vec()))),
            Err(ConvertError::Bundle(BundleError::NotACertificate))
        );
        assert!(matches!(bundles_from_wire(set(bundle("A", vec![]))), Err(ConvertError::TrustDomain(_))));
    }
}
