//! The last look at a certificate before it leaves: we check our own work as a stranger would.

use std::time::{Duration, SystemTime};

use kith_identity::{Leaf, LeafError};
use kith_tls::{Rejection, Trust};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{
    ca::{Authority, LeafRequest},
    template::BACKDATE,
};

/// What is wrong with a certificate that we made ourselves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ValidateError {
    /// Not the form of a leaf X509-SVID.
    #[error("it is no leaf X509-SVID: {0}")]
    Leaf(#[from] LeafError),
    /// Another name than the attested one.
    #[error("it names somebody else")]
    Name,
    /// Another key than the CSR's.
    #[error("it certifies another key")]
    Key,
    /// Not the validity that was asked for.
    #[error("its validity is wrong")]
    Validity,
    /// The signature is not the issuing authority's.
    #[error("its signature is not the issuing authority's")]
    Signature,
    /// Our own peers would refuse it.
    #[error("a peer would refuse it: {0}")]
    Refused(#[from] Rejection),
}

/// Checks a leaf that `authority` has just signed, and says what is in it.
pub(crate) fn check_leaf(
    der: &[u8],
    asked: &LeafRequest<'_>,
    authority: &Authority,
    trust: &Trust,
    now: SystemTime,
) -> Result<Leaf, ValidateError> {
    let leaf = Leaf::parse(der)?;
    if &leaf.id != asked.id || !holds_only(der, asked) {
        return Err(ValidateError::Name);
    }
    if leaf.public_key != asked.public_key {
        return Err(ValidateError::Key);
    }
    let longest = now + asked.lifetime;
    // What stands in a certificate is whole seconds, so it may begin up to one earlier than asked.
    let earliest = now - BACKDATE - Duration::from_secs(1);
    if leaf.not_before < earliest || leaf.not_after > longest || leaf.not_after > authority.facts.not_after {
        return Err(ValidateError::Validity);
    }
    check_signature(der, authority)?;
    let chain: Vec<_> = authority.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    Ok(kith_tls::verify(&CertificateDer::from(der), &chain, now, trust)?)
}

/// No name in it but the attested ID and the DNS names that were asked for.
fn holds_only(der: &[u8], asked: &LeafRequest<'_>) -> bool {
    let Ok((_, cert)) = X509Certificate::from_der(der) else { return false };
    let Ok(Some(names)) = cert.subject_alternative_name() else { return false };
    let mut dns_names = Vec::new();
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(_) => {}
            GeneralName::DNSName(dns) => dns_names.push(*dns),
            _ => return false,
        }
    }
    cert.subject().iter_rdn().next().is_none() && dns_names.iter().eq(asked.dns_names.iter())
}

fn check_signature(der: &[u8], authority: &Authority) -> Result<(), ValidateError> {
    let parse = |der| X509Certificate::from_der(der).map(|(_, cert)| cert).map_err(|_| ValidateError::Signature);
    let (leaf, issuer) = (parse(der)?, parse(&authority.facts.der)?);
    if leaf.issuer() != issuer.subject() {
        return Err(ValidateError::Signature);
    }
    leaf.verify_signature(Some(issuer.public_key())).map_err(|_| ValidateError::Signature)
}
