use std::time::{SystemTime, UNIX_EPOCH};

use kith_identity::{Leaf, LeafError};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, RequiredEkuNotFoundContext, VerifiedPath,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Rejection, Trust, authorize::check_validity, provider::provider, trust::Anchor};

/// The most certificates that a peer may send besides its leaf.
const MAX_INTERMEDIATES: usize = 5;

/// Proves whose certificate chain this is (X509-SVID §5): its form, its validity, and a path to a root of the leaf's
/// own trust domain that is itself within its validity.
///
/// # Errors
/// The first rule that the chain breaks.
pub fn verify(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: SystemTime,
    trust: &Trust,
) -> Result<Leaf, Rejection> {
    if intermediates.len() > MAX_INTERMEDIATES {
        return Err(Rejection::ChainTooLong);
    }
    let facts = Leaf::parse(leaf)?;
    check_validity(&facts, now)?;
    // Only the trust domain's own bundle may vouch for it: a federated root must not speak for us.
    let anchors = trust.anchors(facts.id.trust_domain()).ok_or(Rejection::UnknownTrustDomain)?;
    let (valid, invalid): (Vec<&Anchor>, Vec<&Anchor>) = anchors.iter().partition(|a| a.is_valid_at(now));
    match build_path(leaf, intermediates, now, &valid) {
        Ok(()) => Ok(facts),
        // Whatever else was found: a peer that sends its expired root along looks like an expired intermediate.
        Err(_) if build_path(leaf, intermediates, now, &invalid).is_ok() => Err(Rejection::ExpiredRoot),
        Err(rejection) => Err(rejection),
    }
}

fn build_path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: SystemTime,
    anchors: &[&Anchor],
) -> Result<(), Rejection> {
    // webpki reads more strictly in places than Leaf::parse does.
    let leaf = EndEntityCert::try_from(leaf).map_err(|_| LeafError::Malformed)?;
    let roots: Vec<TrustAnchor<'_>> = anchors.iter().map(|a| a.anchor.clone()).collect();
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    let algorithms = provider().signature_verification_algorithms.all;
    // Checked inside the path building, so that a bad path does not hide a good one.
    let check_path = |path: &VerifiedPath<'_>| check_path(path, anchors);
    leaf.verify_for_usage(algorithms, &roots, intermediates, now, BothPurposes, None, Some(&check_path))
        .map(|_| ())
        .map_err(|error| path_rejection(&error))
}

/// What webpki leaves out: an intermediate must say that it may sign certificates (RFC 5280 §4.2.1.3), and the root's
/// own limit on the path's length counts like that of any other CA.
fn check_path(path: &VerifiedPath<'_>, anchors: &[&Anchor]) -> Result<(), webpki::Error> {
    let mut length = 0;
    for intermediate in path.intermediate_certificates() {
        let der = intermediate.der();
        let (_, cert) = X509Certificate::from_der(&der).map_err(|_| webpki::Error::BadDer)?;
        match cert.key_usage() {
            Ok(Some(usage)) if usage.value.key_cert_sign() => length += 1,
            _ => return Err(webpki::Error::EndEntityUsedAsCa),
        }
    }
    // Two certificates of one root may differ in their limits; either speaks for it.
    let mut same_root = anchors.iter().filter(|anchor| &anchor.anchor == path.anchor());
    if same_root.any(|anchor| anchor.permits(length)) { Ok(()) } else { Err(webpki::Error::PathLenConstraintViolated) }
}

/// An SVID serves both ends of a connection, so a CA that is limited to one purpose can't issue it. Certificates
/// without extKeyUsage are not limited; whether the leaf has its own right is the leaf's check.
struct BothPurposes;

impl ExtendedKeyUsageValidator for BothPurposes {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let (mut any, mut client, mut server) = (false, false, false);
        for purpose in purposes {
            let oid = purpose?.to_decoded_oid();
            any = true;
            client |= oid == KeyUsage::CLIENT_AUTH_REPR;
            server |= oid == KeyUsage::SERVER_AUTH_REPR;
        }
        if !any || (client && server) {
            return Ok(());
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext {
            required: if client { KeyUsage::server_auth() } else { KeyUsage::client_auth() },
            present: Vec::new(),
        }))
    }
}

fn path_rejection(error: &webpki::Error) -> Rejection {
    use webpki::Error;
    match error {
        // A signature that does not fit means a CA of the same name but another key.
        Error::UnknownIssuer
        | Error::InvalidSignatureForPublicKey
        | Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Rejection::UnknownCa,
        Error::CertExpired { .. } => Rejection::Expired,
        Error::CertNotValidYet { .. } => Rejection::NotYetValid,
        Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::PathLenConstraintViolated => Rejection::ChainTooLong,
        Error::NameConstraintViolation
        | Error::MalformedNameConstraint
        | Error::MaximumNameConstraintComparisonsExceeded => Rejection::NameConstraints,
        _ => Rejection::BadIntermediate,
    }
}
