use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    str::FromStr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use kith_identity::{BundleError, Serial, SpiffeId, TrustBundle, TrustBundles, TrustDomain};
use rustls::pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Whom we believe: trust bundles, ready for path building, and what was revoked. Immutable.
#[derive(Debug)]
pub struct Trust {
    bundles: TrustBundles,
    anchors: BTreeMap<TrustDomain, Vec<Anchor>>,
    revocations: Revocations,
}

/// A root with what webpki itself does not look at: its validity, and how long a path below it may be.
#[derive(Debug)]
pub(crate) struct Anchor {
    pub(crate) anchor: TrustAnchor<'static>,
    not_before: i64,
    not_after: i64,
    most_intermediates: Option<u32>,
}

/// What was revoked before it expired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Single certificates.
    pub serials: HashSet<Serial>,
    /// Every certificate of an identity.
    pub ids: HashSet<SpiffeId>,
}

impl Trust {
    /// Prepares trust bundles for use.
    ///
    /// # Errors
    /// When an authority in them can't serve as a trust anchor.
    pub fn new(bundles: TrustBundles, revocations: Revocations) -> Result<Self, BundleError> {
        let read = |bundle: &TrustBundle| -> Result<_, BundleError> {
            let anchors = bundle.authorities().iter().map(|der| Anchor::new(der)).collect::<Result<Vec<_>, _>>()?;
            Ok((bundle.trust_domain().clone(), anchors))
        };
        let anchors = bundles.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { bundles, anchors, revocations })
    }

    /// The trust bundles.
    #[must_use]
    pub fn bundles(&self) -> &TrustBundles {
        &self.bundles
    }

    /// What was revoked.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    pub(crate) fn anchors(&self, trust_domain: &TrustDomain) -> Option<&[Anchor]> {
        self.anchors.get(trust_domain).map(Vec::as_slice)
    }
}

impl Anchor {
    fn new(der: &[u8]) -> Result<Self, BundleError> {
        let cert = CertificateDer::from(der);
        let anchor = webpki::anchor_from_trusted_cert(&cert).map_err(|_| BundleError::NotACertificate)?.to_owned();
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| BundleError::NotACertificate)?;
        let constraints = parsed.basic_constraints().map_err(|_| BundleError::NotACertificate)?;
        Ok(Self {
            anchor,
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            most_intermediates: constraints.and_then(|constraints| constraints.value.path_len_constraint),
        })
    }

    /// Whether a path with so many intermediates may end here (pathLenConstraint, RFC 5280 §4.2.1.9).
    pub(crate) fn permits(&self, intermediates: u32) -> bool {
        self.most_intermediates.is_none_or(|most| intermediates <= most)
    }

    pub(crate) fn is_valid_at(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(-1, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        self.not_before <= now && now <= self.not_after
    }
}

/// Where trust in a peer comes from.
#[derive(Debug, Clone)]
pub enum Roots {
    /// Trust bundles.
    Trust(Arc<Trust>),
    /// One root that the peer must send along, known by its key alone: enough for a first contact.
    Pin {
        /// The pin.
        pin: RootPin,
        /// The trust domain that the root speaks for.
        trust_domain: TrustDomain,
    },
}

/// SHA-256 of a root's SubjectPublicKeyInfo (as in RFC 7469 §2.4), written as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RootPin([u8; 32]);

impl RootPin {
    /// The pin of a DER certificate.
    ///
    /// # Errors
    /// When it is no certificate.
    pub fn of_certificate(der: &[u8]) -> Result<Self, BundleError> {
        let (_, cert) = X509Certificate::from_der(der).map_err(|_| BundleError::NotACertificate)?;
        Ok(Self::of_spki(cert.public_key().raw))
    }

    fn of_spki(spki: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki);
        let mut pin = [0; 32];
        pin.copy_from_slice(digest.as_ref());
        Self(pin)
    }

    /// Finds the pinned root among the certificates that a peer sent, as the only root of its trust domain. It may be
    /// there more than once: a root that was renewed with the same key.
    pub(crate) fn find(&self, sent: &[CertificateDer<'_>], trust_domain: &TrustDomain) -> Option<Trust> {
        let roots = sent.iter().filter(|der| self.vouches_for(der)).map(|der| der.to_vec()).collect();
        let bundle = TrustBundle::new(trust_domain.clone(), roots).ok()?;
        Trust::new(TrustBundles::new(0, [bundle]), Revocations::default()).ok()
    }

    /// Whether the pinned key signed this certificate for itself. Nobody looks at an anchor's signature later, so without
    /// this anybody could wrap the key in a certificate of another validity or other constraints.
    fn vouches_for(&self, der: &[u8]) -> bool {
        Self::of_certificate(der) == Ok(*self)
            && X509Certificate::from_der(der).is_ok_and(|(_, cert)| cert.verify_signature(None).is_ok())
    }
}

/// A root's pin is 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a root's pin is 64 lower-case hex digits")]
pub struct PinError;

impl FromStr for RootPin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(PinError);
        }
        let mut pin = [0; 32];
        for (byte, pair) in pin.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).map_err(|_| PinError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| PinError)?;
        }
        Ok(Self(pin))
    }
}

impl fmt::Display for RootPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RootPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootPin({self})")
    }
}
