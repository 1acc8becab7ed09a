//! Proof by the SVID that a connection presented.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use kith_identity::Leaf;
use kith_tls::{AnyIdentity, Trust, grpc::ConnectionInfo};

use super::{AttestError, Subject, subject::Renewed};
use crate::hash::Hash;
use crate::store::{Attestation, CertificateRecord};

/// Who is at the other end of a connection now: it may have outlived its certificate.
pub(crate) fn caller(
    connection: Option<&ConnectionInfo>,
    trust: &Trust,
    now: SystemTime,
) -> Result<Arc<Leaf>, AttestError> {
    let leaf = connection.and_then(|connection| connection.peer.clone()).ok_or(AttestError::SvidMissing)?;
    kith_tls::authorize(&leaf, now, trust, &AnyIdentity).map_err(|_| AttestError::SvidExpired)?;
    Ok(leaf)
}

/// Judges a proved certificate by what we remember of it.
pub(crate) fn attest(
    leaf: &Leaf,
    known: Option<&CertificateRecord>,
    longest: Option<Duration>,
    now: SystemTime,
) -> Result<Subject, AttestError> {
    if leaf.id.is_reserved() {
        return Err(AttestError::Reserved);
    }
    let known = known.ok_or(AttestError::SvidUnknown)?;
    if known.spiffe_id != leaf.id || known.public_key_hash != Hash::of(&leaf.public_key) {
        return Err(AttestError::SvidUnknown);
    }
    let age = now.duration_since(known.attested_at).unwrap_or_default();
    if longest.is_some_and(|longest| age > longest) {
        return Err(AttestError::TooOld);
    }
    Ok(Subject {
        id: leaf.id.clone(),
        attestation: Attestation::CurrentSvid,
        attested_at: known.attested_at,
        renews: Some(Renewed { serial: known.serial.clone(), holder: known.holder.clone() }),
    })
}

#[cfg(test)]
mod tests {
    use kith_identity::Serial;

    use super::*;
    use crate::store::Holder;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn leaf(id: &str) -> Leaf {
        Leaf {
            id: id.parse().unwrap(),
            serial: "02".parse().unwrap(),
            not_before: at(0),
            not_after: at(9000),
            public_key: vec![1, 2, 3],
        }
    }

    fn record() -> CertificateRecord {
        let first: Serial = "01".parse().unwrap();
        CertificateRecord {
            serial: "02".parse().unwrap(),
            spiffe_id: "spiffe://td/web".parse().unwrap(),
            holder: first.clone(),
            previous: Some(first),
            chain: vec![],
            issuer: String::new(),
            public_key_hash: Hash::of(&[1, 2, 3]),
            instance: Holder::default(),
            attestation: Attestation::CurrentSvid,
            attested_at: at(1000),
            issued_at: at(2000),
            not_before: at(0),
            not_after: at(9000),
        }
    }

    #[test]
    fn a_renewal_carries_holder_and_attestation_along() {
        let subject = attest(&leaf("spiffe://td/web"), Some(&record()), None, at(5000)).unwrap();
        assert_eq!(subject.attested_at, at(1000));
        assert_eq!(
            subject.renews.map(|r| (r.serial.to_string(), r.holder.to_string())),
            Some(("02".into(), "01".into()))
        );
    }

    #[test]
    fn what_is_unknown_differs_or_is_too_old_is_no_proof() {
        let web = leaf("spiffe://td/web");
        assert_eq!(attest(&web, None, None, at(5000)), Err(AttestError::SvidUnknown));
        assert_eq!(attest(&leaf("spiffe://td/db"), Some(&record()), None, at(5000)), Err(AttestError::SvidUnknown));
        let other_key = Leaf { public_key: vec![9], ..web.clone() };
        assert_eq!(attest(&other_key, Some(&record()), None, at(5000)), Err(AttestError::SvidUnknown));
        assert_eq!(attest(&leaf("spiffe://td/kith/ca"), Some(&record()), None, at(5000)), Err(AttestError::Reserved));
        let hour = Some(Duration::from_secs(3600));
        assert!(attest(&web, Some(&record()), hour, at(4600)).is_ok());
        assert_eq!(attest(&web, Some(&record()), hour, at(4601)), Err(AttestError::TooOld));
    }
}
