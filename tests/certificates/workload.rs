//! A workload without a sidecar, which says to the CA agent what a test wants it to: real gRPC over our own TLS.

use std::{
    fmt, fs,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use kith_identity::{Leaf, PrivateKey, SpiffeId, TrustBundle, TrustBundles, X509Svid};
use kith_proto::ca::{
    CurrentSvidAttestation, IssueCertificateRequest, IssueCertificateResponse, JoinTokenAttestation,
    certificate_authority_client::CertificateAuthorityClient, issue_certificate_request::Attestation,
};
use kith_tests::{Agent, Pod, agent::TRUST_DOMAIN};
use kith_tls::{Credentials, CredentialsReader, Revocations, Roots, Trust, grpc::Connector};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tonic::Code;

/// How to reach an agent from a pod.
#[derive(Clone)]
pub(crate) struct Workload {
    pod: Pod,
    attest: SocketAddr,
    mutual: SocketAddr,
    trust: Arc<Trust>,
}

/// A certificate chain that the CA has issued.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Issued {
    pub(crate) chain: Vec<Vec<u8>>,
}

/// Why there is none.
#[derive(PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    /// The stable label, where the CA has decided so.
    pub(crate) reason: Option<String>,
    message: String,
}

impl Workload {
    /// Trusts what is in the agent's bundle file.
    pub(crate) fn new(pod: &Pod, agent: &Agent) -> Self {
        let pem = fs::read(agent.bundle()).unwrap();
        let bundle = TrustBundle::from_pem(TRUST_DOMAIN.parse().unwrap(), &pem).unwrap();
        let trust = Arc::new(Trust::new(TrustBundles::new(0, [bundle]), Revocations::default()).unwrap());
        Self { pod: pod.clone(), attest: agent.pod().at(15011), mutual: agent.pod().at(15012), trust }
    }

    /// The pod.
    pub(crate) fn pod(&self) -> &Pod {
        &self.pod
    }

    /// Asks by join token, and waits for the answer.
    pub(crate) fn join(&self, csr: &[u8], token: &str) -> Result<Issued, Refused> {
        self.pod.block_on(|| self.ask_by_token(csr, token))
    }

    /// Asks by join token, from within the pod.
    pub(crate) async fn ask_by_token(&self, csr: &[u8], token: &str) -> Result<Issued, Refused> {
        let proof = Attestation::JoinToken(JoinTokenAttestation { token: token.to_owned() });
        self.ask(self.attest, None, csr, Some(proof)).await
    }

    /// Asks by the SVID that is presented, from within the pod.
    pub(crate) async fn ask_by_svid(&self, csr: &[u8], holds: &Holds) -> Result<Issued, Refused> {
        let proof = Attestation::CurrentSvid(CurrentSvidAttestation {});
        self.ask(self.mutual, Some(holds.reader()), csr, Some(proof)).await
    }

    /// Asks the attestation port with whatever this is.
    pub(crate) fn ask_to_attest(&self, csr: &[u8], proof: Option<Attestation>) -> Result<Issued, Refused> {
        self.pod.block_on(|| self.ask(self.attest, None, csr, proof))
    }

    async fn ask(
        &self,
        at: SocketAddr,
        credentials: Option<CredentialsReader>,
        csr: &[u8],
        attestation: Option<Attestation>,
    ) -> Result<Issued, Refused> {
        let trust = Arc::clone(&self.trust);
        let connector = Connector {
            address: at.to_string(),
            expected: SpiffeId::ca_agent(TRUST_DOMAIN.parse().unwrap()),
            roots: Arc::new(move || Ok(Roots::Trust(Arc::clone(&trust)))),
            credentials,
            now: Arc::new(SystemTime::now),
        };
        let request =
            IssueCertificateRequest { csr: csr.to_vec(), attestation, instance: None, version: "a test's".to_owned() };
        let mut client = CertificateAuthorityClient::new(connector.channel());
        let call = client.issue_certificate(request);
        match tokio::time::timeout(Duration::from_secs(20), call).await {
            Ok(Ok(answer)) => {
                let IssueCertificateResponse { certificate_chain, trust_bundles } = answer.into_inner();
                assert!(trust_bundles.is_some_and(|set| !set.bundles.is_empty()), "trust bundles come along");
                Ok(Issued { chain: certificate_chain })
            }
            Ok(Err(status)) => Err(Refused {
                code: status.code(),
                reason: status.metadata().get("kith-reason").map(|value| value.to_str().unwrap().to_owned()),
                message: status.message().to_owned(),
            }),
            Err(_) => Err(Refused { code: Code::DeadlineExceeded, reason: None, message: "no answer".to_owned() }),
        }
    }

    /// What is held after an answer: the SVID, ready to be presented.
    pub(crate) fn hold(&self, issued: Issued, key: &KeyPair) -> Holds {
        let holds = Holds { credentials: Credentials::default() };
        holds.renew(issued, key, &self.trust);
        holds
    }

    /// Puts a newer answer in its place.
    pub(crate) fn hold_anew(&self, holds: &Holds, issued: Issued, key: &KeyPair) {
        holds.renew(issued, key, &self.trust);
    }
}

/// The SVID that a workload has now.
pub(crate) struct Holds {
    credentials: Credentials,
}

impl Holds {
    fn reader(&self) -> CredentialsReader {
        self.credentials.reader()
    }

    /// The door refuses what a peer would refuse: an SVID that gets through is a good one for this key.
    fn renew(&self, issued: Issued, key: &KeyPair, trust: &Trust) {
        let svid = X509Svid::new(issued.chain, PrivateKey::from_pkcs8(key.serialize_der())).unwrap();
        self.credentials.publish(svid, trust.bundles().clone(), SystemTime::now()).unwrap();
    }
}

impl Issued {
    /// What the leaf says.
    pub(crate) fn leaf(&self) -> Leaf {
        Leaf::parse(&self.chain[0]).unwrap()
    }

    /// The leaf's serial number.
    pub(crate) fn serial(&self) -> String {
        self.leaf().serial.to_string()
    }
}

impl Refused {
    /// The code and the reason, for comparison.
    pub(crate) fn verdict(&self) -> (Code, &str) {
        (self.code, self.reason.as_deref().unwrap_or_default())
    }

    /// Whether somebody has decided: neither the connection nor the agent's state is at fault.
    pub(crate) fn is_decision(&self) -> bool {
        self.reason.is_some() && self.code != Code::Unavailable
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}: {}", self.code, self.reason, self.message)
    }
}

/// A fresh key as sidecars make it.
pub(crate) fn new_key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A request that says nothing but its key.
pub(crate) fn csr(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(key).unwrap().der().to_vec()
}
