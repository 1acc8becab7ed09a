use std::time::{SystemTime, UNIX_EPOCH};

use kith_identity::Leaf;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
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
        Err(Rejection::UnknownCa) if build_path(leaf, intermediates, now, &invalid).is_ok() => {
            Err(Rejection::ExpiredRoot)
        }
        Err(rejection) => Err(rejection),
    }
}

fn build_path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: SystemTime,
    anchors: &[&Anchor],
) -> Result<(), Rejection> {
    let leaf = EndEntityCert::try_from(leaf).map_err(|error| path_rejection(&error))?;
    let anchors: Vec<TrustAnchor<'_>> = anchors.iter().map(|a| a.anchor.clone()).collect();
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    let algorithms = provider().signature_verification_algorithms.all;
    // Whether extKeyUsage holds both purposes is the leaf's own check; webpki wants to hear one.
    let usage = KeyUsage::client_auth();
    let path = leaf
        .verify_for_usage(algorithms, &anchors, intermediates, now, usage, None, None)
        .map_err(|error| path_rejection(&error))?;
    check_intermediates(&path)
}

/// webpki asks of an intermediate that it is a CA, not that it may sign certificates (RFC 5280 §4.2.1.3).
fn check_intermediates(path: &VerifiedPath<'_>) -> Result<(), Rejection> {
    for intermediate in path.intermediate_certificates() {
        let der = intermediate.der();
        let (_, cert) = X509Certificate::from_der(&der).map_err(|_| Rejection::BadIntermediate)?;
        match cert.key_usage() {
            Ok(Some(usage)) if usage.value.key_cert_sign() => {}
            _ => return Err(Rejection::BadIntermediate),
        }
    }
    Ok(())
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
