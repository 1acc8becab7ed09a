//! An agent to ask, and what asks it.

pub(crate) mod svid;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use clap::Parser as _;
use hyper_util::rt::TokioIo;
use kith_ca_agent::{Agent, Serve, StartError};
use kith_identity::{SpiffeId, TrustBundle, TrustBundles, TrustDomain};
use kith_proto::{
    ca::{
        CreateJoinTokenRequest, GetTrustBundleRequest, IssueCertificateRequest, JoinTokenAttestation,
        administration_client::AdministrationClient, certificate_authority_client::CertificateAuthorityClient,
        issue_certificate_request::Attestation,
    },
    status::mesh_status_client::MeshStatusClient,
};
use kith_runtime::clock::{Clock, ManualClock};
use kith_tls::{
    CredentialsReader, Revocations, Roots, Trust,
    grpc::{Connector, RootsSource},
};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

pub(crate) use self::svid::{Key, Svid};

pub(crate) const WEB: &str = "spiffe://example.org/ns/shop/sa/web";
pub(crate) const DB: &str = "spiffe://example.org/ns/shop/sa/db";

/// A running agent in a directory of its own.
pub(crate) struct Tested {
    pub(crate) agent: Agent,
    pub(crate) clock: ManualClock,
    pub(crate) dir: TempDir,
    flags: Vec<String>,
}

#[derive(Debug, clap::Parser)]
struct Flags {
    #[command(flatten)]
    serve: Serve,
}

/// Starts an agent in a directory; the ports are free ones of loopback.
pub(crate) async fn start_in(dir: &Path, flags: &[String], clock: Clock) -> Result<Agent, StartError> {
    let flags: Vec<String> = flags.iter().cloned().chain(["--join-tokens-for-workloads".to_owned()]).collect();
    start_plain(dir, &flags, clock).await
}

/// The same, but tokens may not name workloads.
pub(crate) async fn start_without_workloads(dir: &Path, clock: Clock) -> Agent {
    let mut agent = start_plain(dir, &[], clock).await.unwrap();
    agent.certified().await;
    agent
}

async fn start_plain(dir: &Path, flags: &[String], clock: Clock) -> Result<Agent, StartError> {
    let flags: Vec<String> = flags.iter().cloned().chain(["--trust-domain=example.org".to_owned()]).collect();
    start_with(dir, &flags, clock).await
}

/// Starts with nothing said but what is given.
pub(crate) async fn start_bare(dir: &Path, flags: &[String]) -> Result<Agent, StartError> {
    start_with(dir, flags, Clock::system()).await
}

async fn start_with(dir: &Path, flags: &[String], clock: Clock) -> Result<Agent, StartError> {
    let own = [
        "serve",
        "--listen-attest=127.0.0.1:0",
        "--listen-mtls=127.0.0.1:0",
        "--admin-listen=127.0.0.1:0",
        "--state-dir",
        dir.to_str().unwrap(),
    ];
    let arguments = own.into_iter().chain(flags.iter().map(String::as_str));
    Agent::start(Flags::try_parse_from(arguments).unwrap().serve, clock).await
}

impl Tested {
    /// An agent whose clock stands at this moment until it is moved.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let clock = ManualClock::new(SystemTime::now());
        let mut agent = start_in(dir.path(), &flags, clock.clock()).await.unwrap();
        agent.certified().await;
        Self { agent, clock, dir, flags }
    }

    pub(crate) fn of(agent: Agent, clock: ManualClock, dir: TempDir) -> Self {
        Self { agent, clock, dir, flags: Vec::new() }
    }

    /// The same agent, stopped and started.
    pub(crate) async fn restart(self) -> Self {
        let Self { agent, clock, dir, flags } = self;
        agent.stop().await;
        let mut agent = start_in(dir.path(), &flags, clock.clock()).await.unwrap();
        agent.certified().await;
        Self { agent, clock, dir, flags }
    }

    pub(crate) async fn administration(&self) -> AdministrationClient<Channel> {
        AdministrationClient::new(self.socket().await)
    }

    pub(crate) async fn mesh_status(&self) -> MeshStatusClient<Channel> {
        MeshStatusClient::new(self.socket().await)
    }

    pub(crate) async fn socket(&self) -> Channel {
        let path = self.agent.addresses().socket.clone();
        Endpoint::from_static("http://admin.sock")
            .connect_with_connector(tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }))
            .await
            .unwrap()
    }

    /// A token for an identity.
    pub(crate) async fn token(&self, id: &str) -> String {
        self.token_for(id, Duration::from_secs(600)).await
    }

    pub(crate) async fn token_for(&self, id: &str, ttl: Duration) -> String {
        let request = CreateJoinTokenRequest { spiffe_id: id.to_owned(), ttl: Some(ttl.try_into().unwrap()) };
        self.administration().await.create_join_token(request).await.unwrap().into_inner().token
    }

    /// The trust bundles, as an operator copies them.
    pub(crate) async fn bundles(&self) -> TrustBundles {
        let answer = self.administration().await.get_trust_bundle(GetTrustBundleRequest {}).await.unwrap();
        kith_proto::bundles_from_wire(answer.into_inner().trust_bundles.unwrap()).unwrap()
    }

    pub(crate) async fn root(&self) -> Vec<u8> {
        self.bundles().await.get(&domain()).unwrap().authorities()[0].clone()
    }

    /// A client of the attestation port.
    pub(crate) async fn attest(&self) -> CertificateAuthorityClient<Channel> {
        CertificateAuthorityClient::new(self.attest_channel().await)
    }

    pub(crate) async fn attest_channel(&self) -> Channel {
        self.connector(self.agent.addresses().attest[0].to_string(), None).await.channel()
    }

    /// A client of the mTLS port that presents an SVID.
    pub(crate) async fn mutual(&self, svid: &Svid) -> CertificateAuthorityClient<Channel> {
        CertificateAuthorityClient::new(self.mutual_channel(Some(svid.credentials(self).await)).await)
    }

    pub(crate) async fn mutual_channel(&self, credentials: Option<CredentialsReader>) -> Channel {
        self.connector(self.agent.addresses().mutual[0].to_string(), credentials).await.channel()
    }

    async fn connector(&self, address: String, credentials: Option<CredentialsReader>) -> Connector {
        let bundle = TrustBundle::new(domain(), vec![self.root().await]).unwrap();
        let trust = Arc::new(Trust::new(TrustBundles::new(0, [bundle]), Revocations::default()).unwrap());
        let roots: RootsSource = Arc::new(move || Ok(Roots::Trust(Arc::clone(&trust))));
        let clock = self.clock.clone();
        let expected = SpiffeId::ca_agent(domain());
        Connector { address, expected, roots, credentials, now: Arc::new(move || clock.now()) }
    }

    /// An SVID by a fresh token and a fresh key.
    pub(crate) async fn svid(&self, id: &str) -> Svid {
        let token = self.token(id).await;
        self.spend(&token, Key::new()).await.unwrap()
    }

    /// Spends a token with a key.
    pub(crate) async fn spend(&self, token: &str, key: Key) -> Result<Svid, Status> {
        let request = by_token(token, key.csr());
        let answer = self.attest().await.issue_certificate(request).await?.into_inner();
        Ok(Svid::new(key, answer.certificate_chain))
    }

    /// Renews an SVID with a fresh key.
    pub(crate) async fn renew(&self, svid: &Svid) -> Result<Svid, Status> {
        let key = Key::new();
        let answer = self.mutual(svid).await.issue_certificate(by_svid(key.csr())).await?.into_inner();
        Ok(Svid::new(key, answer.certificate_chain))
    }

    /// A look into the store's file from outside.
    pub(crate) async fn database(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.dir.path().join("kith.db"));
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let patience = tokio::time::Instant::now() + Duration::from_secs(30);
        while !holds(self).await {
            assert!(tokio::time::Instant::now() < patience, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A page of the admin endpoint.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.agent.addresses().admin[0]).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

pub(crate) fn domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

pub(crate) fn by_token(token: &str, csr: Vec<u8>) -> IssueCertificateRequest {
    let token = token.to_owned();
    let attestation = Some(Attestation::JoinToken(JoinTokenAttestation { token }));
    IssueCertificateRequest { csr, attestation, ..Default::default() }
}

pub(crate) fn by_svid(csr: Vec<u8>) -> IssueCertificateRequest {
    let attestation = Some(Attestation::CurrentSvid(kith_proto::ca::CurrentSvidAttestation {}));
    IssueCertificateRequest { csr, attestation, ..Default::default() }
}

/// The stable reason of an error, which must also begin its message.
pub(crate) fn reason(status: &Status) -> String {
    let reason = status.metadata().get("kith-reason").expect("a reason").to_str().unwrap().to_owned();
    assert!(status.message().starts_with(&format!("{reason}: ")), "{status:?}");
    reason
}
