use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use kith_identity::Leaf;
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use crate::{
    PeerPolicy, Rejection, Roots,
    authorize::{authorize, check_validity},
    provider::provider,
    verify,
};

/// Verifies one peer in one handshake and remembers the verdict, which rustls would flatten into its own error.
#[derive(Debug)]
pub(crate) struct PeerVerifier {
    pub(crate) roots: Roots,
    pub(crate) policy: Arc<dyn PeerPolicy>,
    pub(crate) now: SystemTime,
    pub(crate) verdict: OnceLock<Result<Leaf, Rejection>>,
}

impl PeerVerifier {
    pub(crate) fn new(roots: Roots, policy: Arc<dyn PeerPolicy>, now: SystemTime) -> Self {
        Self { roots, policy, now, verdict: OnceLock::new() }
    }

    /// What the handshake found out, once it has seen the peer's certificate.
    pub(crate) fn verdict(&self) -> Option<Result<Leaf, Rejection>> {
        self.verdict.get().cloned()
    }

    /// `authorize` once more, after the handshake, on the same snapshot.
    pub(crate) fn authorize_again(&self, peer: &Leaf) -> Result<(), Rejection> {
        match &self.roots {
            Roots::Trust(trust) => authorize(peer, self.now, trust, &*self.policy),
            // The root came with the handshake and is gone; all else that `authorize` asks stays.
            Roots::Pin { .. } => check_validity(peer, self.now).and_then(|()| self.policy.check(&peer.id)),
        }
    }

    fn check(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let verdict = self.judge(leaf, rest);
        let answer = verdict.as_ref().map(|_| ()).map_err(Rejection::as_rustls);
        // One handshake shows one certificate; a second verdict could only be a weaker one.
        if self.verdict.set(verdict).is_err() {
            return Err(Rejection::NotExpected.as_rustls());
        }
        answer
    }

    fn judge(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<Leaf, Rejection> {
        let pinned;
        let trust = match &self.roots {
            Roots::Trust(trust) => trust.as_ref(),
            Roots::Pin { pin, trust_domain } => {
                pinned = pin.find(rest, trust_domain).ok_or(Rejection::UnknownCa)?;
                &pinned
            }
        };
        let peer = verify(leaf, rest, self.now, trust)?;
        authorize(&peer, self.now, trust, &*self.policy)?;
        Ok(peer)
    }
}

fn verify_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    rustls::crypto::verify_tls13_signature(message, cert, signature, &provider().signature_verification_algorithms)
}

fn tls12_is_off() -> rustls::Error {
    rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13.into()
}

macro_rules! tls13_signatures_only {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(tls12_is_off())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_signature(message, cert, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A hint would name our roots to anybody who connects, and clients have one SVID to choose from.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(leaf, rest).map(|()| ClientCertVerified::assertion())
    }

    tls13_signatures_only!();
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(leaf, rest).map(|()| ServerCertVerified::assertion())
    }

    tls13_signatures_only!();
}
