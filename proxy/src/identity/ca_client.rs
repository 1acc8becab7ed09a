use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use kith_identity::{LeafError, SpiffeId, SvidError, TrustDomain, X509Svid};
use kith_proto::{
    ConvertError, bundles_from_wire,
    ca::{
        self, certificate_authority_client::CertificateAuthorityClient, issue_certificate_request::Attestation as Wire,
    },
};
use kith_runtime::clock::Clock;
use kith_tls::{
    CredentialsReader, HandshakeError,
    grpc::{ConnectError, Connector},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};

use super::{
    Config, config::HostPort, csr::Request, observed::Observed, publisher::Issued, state::AttestationKind,
    token::JoinToken, trust::CaTrust,
};

/// How long the CA may take for one answer.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// A CA that has vanished without a word is noticed after both together.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// The metadata key under which the CA names the reason of a refusal.
const REASON: &str = "kith-reason";

/// The CA agent, as seen by one workload. Every issuance has a connection of its own, so that its trust is as new as
/// the attempt.
#[derive(Debug, Clone)]
pub(super) struct CaClient {
    address: HostPort,
    mtls_address: HostPort,
    ca_id: SpiffeId,
    trust_domain: TrustDomain,
    trust: CaTrust,
    credentials: CredentialsReader,
    instance: ca::Instance,
    version: &'static str,
    clock: Clock,
}

/// How to prove ourselves.
#[derive(Debug, Clone)]
pub(super) enum Attestation<'a> {
    /// With a token, to a CA that may be proved by the token's own pin.
    JoinToken { token: &'a JoinToken, pin_counts: bool },
    /// With the SVID in force, for this same identity.
    CurrentSvid { id: &'a SpiffeId },
}

/// A connection to the CA, and what became of it.
#[derive(Debug)]
pub(super) struct CaConnection {
    pub(super) client: CertificateAuthorityClient<Channel>,
    address: String,
    alert: Arc<OnceLock<&'static str>>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The CA ended the connection because of the certificate that we presented.
    #[error("{address} refused our SVID with alert {}", alert.trim_start_matches("alert_"))]
    Alert {
        /// Where.
        address: String,
        /// The alert's label.
        alert: &'static str,
    },
    /// The CA has decided against it.
    #[error("the CA refused as {reason}: {message}")]
    Refused {
        /// Its label for why.
        reason: String,
        /// Its words.
        message: String,
    },
    /// The CA can't answer now, or the connection broke.
    #[error("the CA gave no answer: {message}")]
    Unavailable {
        /// Its label for why, or our own.
        reason: String,
        /// Its words, or the connection's.
        message: String,
    },
    /// The CA was too slow.
    #[error("the CA gave no answer within {} s", CALL_DEADLINE.as_secs())]
    Timeout,
    /// The answer is not what was asked for.
    #[error("the CA's answer is not usable: {0}")]
    Answer(#[from] AnswerError),
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("{0}")]
    Svid(#[from] SvidError),
    #[error("the certificate is for another key")]
    OtherKey,
    #[error("the certificate is for {0}, which is not of our trust domain")]
    OtherTrustDomain(SpiffeId),
    #[error("a renewal was asked for, and the certificate is for {0}")]
    OtherId(SpiffeId),
    #[error("there are no trust bundles in it")]
    NoBundles,
    #[error("{0}")]
    Bundles(#[from] ConvertError),
}

impl CaClient {
    pub(super) fn new(config: &Config, version: &'static str, credentials: CredentialsReader, clock: Clock) -> Self {
        Self {
            address: config.ca_address.clone(),
            mtls_address: config.ca_mtls_address(),
            ca_id: config.ca_id(),
            trust_domain: config.trust_domain.clone(),
            trust: CaTrust { trust_domain: config.trust_domain.clone(), bundle_file: config.ca_bundle.clone() },
            credentials,
            instance: config.instance.to_wire(),
            version,
            clock,
        }
    }

    /// The trust domain that the CA serves, and that we belong to.
    pub(super) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Gets one certificate.
    pub(super) async fn issue(&self, request: &Request, attestation: Attestation<'_>) -> Result<Issued, CallError> {
        let (mut connection, wire, kind) = match &attestation {
            Attestation::JoinToken { token, pin_counts } => {
                let connection = self.connect_to_attest(token, *pin_counts).await?;
                let wire = Wire::JoinToken(ca::JoinTokenAttestation { token: token.expose().to_owned() });
                (connection, wire, AttestationKind::JoinToken)
            }
            Attestation::CurrentSvid { .. } => {
                let wire = Wire::CurrentSvid(ca::CurrentSvidAttestation {});
                (self.connect_mtls().await?, wire, AttestationKind::CurrentSvid)
            }
        };
        let message = ca::IssueCertificateRequest {
            csr: request.csr().to_vec(),
            attestation: Some(wire),
            instance: Some(self.instance.clone()),
            version: self.version.to_owned(),
        };
        let call = connection.client.issue_certificate(message);
        let answer = tokio::time::timeout(CALL_DEADLINE, call).await.map_err(|_| CallError::Timeout)?;
        let answer = answer.map_err(|status| connection.explain(&status))?.into_inner();
        let issued = self.read(answer, request, kind)?;
        match attestation {
            Attestation::CurrentSvid { id } if issued.svid.id() != id => {
                Err(AnswerError::OtherId(issued.svid.id().clone()).into())
            }
            _ => Ok(issued),
        }
    }

    /// A connection over which the CA knows us by our SVID.
    pub(super) async fn connect_mtls(&self) -> Result<CaConnection, CallError> {
        let (trust, credentials) = (self.trust.clone(), self.credentials.clone());
        self.connect(Connector {
            address: self.mtls_address.to_string(),
            expected: self.ca_id.clone(),
            roots: Arc::new(move || trust.roots(None, &credentials)),
            credentials: Some(self.credentials.clone()),
            now: self.now(),
        })
        .await
    }

    async fn connect_to_attest(&self, token: &JoinToken, pin_counts: bool) -> Result<CaConnection, CallError> {
        let (trust, credentials) = (self.trust.clone(), self.credentials.clone());
        let pin = token.pin().filter(|_| pin_counts);
        self.connect(Connector {
            address: self.address.to_string(),
            expected: self.ca_id.clone(),
            roots: Arc::new(move || trust.roots(pin, &credentials)),
            credentials: None,
            now: self.now(),
        })
        .await
    }

    async fn connect(&self, connector: Connector) -> Result<CaConnection, CallError> {
        let address = connector.address.clone();
        let stream = connector.connect().await?;
        let alert = Arc::new(OnceLock::new());
        let mut io = Some(TokioIo::new(Observed::new(stream, Arc::clone(&alert))));
        // One connection, made already: another one would need another look at the trust.
        let once = tower::service_fn(move |_: Uri| {
            std::future::ready(io.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
        });
        let (interval, timeout) = KEEP_ALIVE;
        let endpoint = Endpoint::from_static("http://kith.internal")
            .http2_keep_alive_interval(interval)
            .keep_alive_timeout(timeout)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect_with_connector(once);
        match tokio::time::timeout(CALL_DEADLINE, channel).await.map_err(|_| CallError::Timeout)? {
            Ok(channel) => Ok(CaConnection { client: CertificateAuthorityClient::new(channel), address, alert }),
            Err(error) => match alert.get() {
                Some(alert) => Err(CallError::Alert { address, alert }),
                None => Err(CallError::Unavailable { reason: "unavailable".to_owned(), message: error.to_string() }),
            },
        }
    }

    fn now(&self) -> kith_tls::grpc::Now {
        let clock = self.clock.clone();
        Arc::new(move || clock.now())
    }

    /// The name comes from the attestation and the key from us: an answer with any other key is somebody else's.
    fn read(
        &self,
        answer: ca::IssueCertificateResponse,
        request: &Request,
        attestation: AttestationKind,
    ) -> Result<Issued, AnswerError> {
        let svid = X509Svid::new(answer.certificate_chain, request.key().clone())?;
        if svid.leaf().public_key != request.public_key() {
            return Err(AnswerError::OtherKey);
        }
        if svid.id().trust_domain() != &self.trust_domain {
            return Err(AnswerError::OtherTrustDomain(svid.id().clone()));
        }
        let bundles = bundles_from_wire(answer.trust_bundles.ok_or(AnswerError::NoBundles)?)?;
        Ok(Issued { svid, bundles, attestation })
    }
}

impl CaConnection {
    /// What a failed call means.
    pub(super) fn explain(&self, status: &Status) -> CallError {
        if let Some(alert) = self.alert.get() {
            return CallError::Alert { address: self.address.clone(), alert };
        }
        let own_label = reason(status, "");
        // The agent begins its message with its label, for callers that see no metadata.
        let message = status.message();
        let message = message.strip_prefix(&own_label).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(message);
        let message = message.to_owned();
        match status.code() {
            Code::PermissionDenied
            | Code::Unauthenticated
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::OutOfRange
            | Code::Unimplemented => CallError::Refused { reason: reason(status, "refused"), message },
            Code::DeadlineExceeded => CallError::Timeout,
            _ => CallError::Unavailable { reason: reason(status, "unavailable"), message },
        }
    }
}

/// The CA's label for why there is no certificate. It becomes a metric's label: anything that does not look like one is not taken.
fn reason(status: &Status, otherwise: &str) -> String {
    let given = status.metadata().get(REASON).and_then(|value| value.to_str().ok());
    let is_label =
        |text: &&str| (1..=40).contains(&text.len()) && text.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'));
    given.filter(is_label).unwrap_or(otherwise).to_owned()
}

impl CallError {
    /// The stable label.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Connect(ConnectError::Roots { .. }) => "no_trust_bundle",
            Self::Connect(ConnectError::NoSvid { .. }) => "no_svid",
            Self::Connect(ConnectError::Handshake { source, .. }) => source.as_str(),
            Self::Connect(_) => "unreachable",
            Self::Alert { alert, .. } => alert,
            Self::Refused { reason, .. } | Self::Unavailable { reason, .. } => reason,
            Self::Timeout => "timeout",
            Self::Answer(AnswerError::Svid(SvidError::Leaf(error))) => LeafError::as_str(error),
            Self::Answer(_) => "bad_answer",
        }
    }

    /// Whether this is a decision, which asking again in the same way won't change: by the CA about us, or by us about
    /// who answers in the CA's place.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Connect(ConnectError::Handshake { source, .. }) => {
                matches!(source, HandshakeError::Rejected(_) | HandshakeError::Alert(_))
            }
            Self::Alert { .. } | Self::Refused { .. } => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::*;

    fn refused_with(text: &str) -> Status {
        let mut metadata = MetadataMap::new();
        metadata.insert(REASON, text.parse().unwrap());
        Status::with_metadata(Code::PermissionDenied, "no", metadata)
    }

    #[test]
    fn a_reason_becomes_a_label_only_if_it_looks_like_one() {
        assert_eq!(reason(&refused_with("token_spent"), "refused"), "token_spent");
        for strange in ["", "Token", "a b", "a\"", &"x".repeat(41)] {
            assert_eq!(reason(&refused_with(strange), "refused"), "refused", "{strange}");
        }
        assert_eq!(reason(&Status::permission_denied("no"), "refused"), "refused");
    }
}
