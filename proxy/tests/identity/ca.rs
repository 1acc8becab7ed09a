//! A small certification authority that speaks `kith.ca.v1alpha1` over real TLS: the peer of what is tested here.

mod certificates;
mod port;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use kith_identity::{PrivateKey, TrustBundles, X509Svid};
use kith_proto::{bundles_to_wire, ca};
use kith_runtime::{accept, clock::Clock, metrics::Counter};
use kith_tls::{
    AnyIdentity, Credentials, RootPin,
    grpc::{Acceptor, ConnectionInfo, Security},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose,
    IsCa, KeyUsagePurpose, PublicKeyData, SanType,
};
use time::OffsetDateTime;
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use self::certificates::{Issuer, YEAR, authority, bundle_of, new_key, serial};

pub(crate) const TRUST_DOMAIN: &str = "example.org";
pub(crate) const WORKLOAD: &str = "spiffe://example.org/ns/shop/sa/web";

/// What a CA is, whether it runs or not.
pub(crate) struct Ca {
    inner: Arc<Inner>,
    ports: Option<[SocketAddr; 2]>,
    /// A runtime of its own, so that its end cuts everything that it has begun.
    runtime: Option<Runtime>,
}

struct Inner {
    root: Issuer,
    issuing: Issuer,
    clock: Clock,
    bundles: watch::Sender<ca::TrustBundleSet>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lifetime: Duration,
    /// Whom the CA presents itself as.
    own_id: String,
    tokens: HashMap<String, Token>,
    issued: Vec<Issued>,
    refuse_renewals: bool,
    spoil: Option<Spoil>,
    /// Commits, and then never answers.
    hold_answers: bool,
    acks: Vec<Ack>,
}

struct Token {
    id: String,
    spent_on: Option<(Vec<u8>, ca::IssueCertificateResponse)>,
}

/// How an answer is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoil {
    OtherKey,
    OtherId,
    OtherTrustDomain,
    NoBundles,
    NoCertificate,
}

/// One certificate that was issued.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) serial: String,
    pub(crate) attestation: &'static str,
    pub(crate) public_key: Vec<u8>,
    pub(crate) instance: ca::Instance,
}

/// One acknowledgement: of which sequence, by whose SVID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) serial: Option<String>,
    pub(crate) sequence: u64,
}

impl Ca {
    /// A CA with a root of its own, which does not run yet.
    pub(crate) fn new(clock: &Clock) -> Self {
        let now = clock.now();
        let root = Issuer::self_signed(authority("root", BasicConstraints::Unconstrained, now), new_key()).unwrap();
        let params = authority("issuing", BasicConstraints::Constrained(0), now);
        let issuing = Issuer::signed_by(params, new_key(), &root).unwrap();
        let bundles = watch::Sender::new(bundles_to_wire(&bundle_of(1, &[&root])));
        let state = State {
            lifetime: Duration::from_secs(3600),
            own_id: format!("spiffe://{TRUST_DOMAIN}/kith/ca"),
            ..State::default()
        };
        let inner = Inner { root, issuing, clock: clock.clone(), bundles, state: Mutex::new(state) };
        Self { inner: Arc::new(inner), ports: None, runtime: None }
    }

    /// A new CA that runs.
    pub(crate) fn running(clock: &Clock) -> Self {
        let mut ca = Self::new(clock);
        ca.run();
        ca
    }

    /// Answers from now on; at the ports of the last time, if there was one.
    pub(crate) fn run(&mut self) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let entered = runtime.enter();
        let listeners = self.ports.unwrap_or([any, any]).map(port::bind);
        self.ports = Some([0, 1].map(|at: usize| listeners[at].local_addr().unwrap()));
        let securities = [Security::ServerOnly, Security::Mutual(Arc::new(AnyIdentity))];
        for (listener, security) in listeners.into_iter().zip(securities) {
            runtime.spawn(Arc::clone(&self.inner).serve(listener, security));
        }
        drop(entered);
        self.runtime = Some(runtime);
    }

    /// Answers at the ports of another one.
    pub(crate) fn run_in_place_of(&mut self, other: &mut Ca) {
        other.kill();
        self.ports = other.ports;
        self.run();
    }

    /// Ends without a word: nobody listens, and what was open is cut.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn address(&self) -> String {
        self.ports.unwrap()[0].to_string()
    }

    pub(crate) fn mtls_address(&self) -> String {
        self.ports.unwrap()[1].to_string()
    }

    pub(crate) fn root_pem(&self) -> String {
        self.inner.root.as_ref().pem()
    }

    /// A token for this workload.
    pub(crate) fn token(&self, secret: &str) -> String {
        let token = Token { id: WORKLOAD.to_owned(), spent_on: None };
        let pin = RootPin::of_certificate(self.inner.root.as_ref().der()).unwrap();
        let text = format!("{secret}.{pin}");
        self.state(|state| state.tokens.insert(text.clone(), token));
        text
    }

    pub(crate) fn set_lifetime(&self, lifetime: Duration) {
        self.state(|state| state.lifetime = lifetime);
    }

    pub(crate) fn refuse_renewals(&self, refuse: bool) {
        self.state(|state| state.refuse_renewals = refuse);
    }

    pub(crate) fn spoil(&self, spoil: Option<Spoil>) {
        self.state(|state| state.spoil = spoil);
    }

    pub(crate) fn hold_answers(&self, hold: bool) {
        self.state(|state| state.hold_answers = hold);
    }

    pub(crate) fn present_as(&self, id: &str) {
        self.state(|state| state.own_id = id.to_owned());
    }

    pub(crate) fn issued(&self) -> Vec<Issued> {
        self.state(|state| state.issued.clone())
    }

    pub(crate) fn acks(&self) -> Vec<Ack> {
        self.state(|state| state.acks.clone())
    }

    /// Streams its own root under this number.
    pub(crate) fn stream_bundle(&self, sequence: u64) {
        self.inner.bundles.send_replace(bundles_to_wire(&bundle_of(sequence, &[&self.inner.root])));
    }

    /// Streams its own root and another CA's.
    pub(crate) fn stream_bundle_with(&self, sequence: u64, other: &Ca) {
        self.inner.bundles.send_replace(bundles_to_wire(&bundle_of(sequence, &[&self.inner.root, &other.inner.root])));
    }

    /// Streams another CA's root alone.
    pub(crate) fn stream_bundle_of(&self, sequence: u64, other: &Ca) {
        self.inner.bundles.send_replace(bundles_to_wire(&bundle_of(sequence, &[&other.inner.root])));
    }

    /// An SVID, whoever it is for.
    pub(crate) fn svid(&self, id: &str) -> X509Svid {
        let key = new_key();
        let leaf = self.inner.sign(&key, id, Duration::from_secs(3600));
        let chain = self.inner.chain(leaf, true);
        X509Svid::new(chain, PrivateKey::from_pkcs8(key.serialize_der())).unwrap()
    }

    /// The bundle of its root.
    pub(crate) fn bundles(&self) -> TrustBundles {
        bundle_of(1, &[&self.inner.root])
    }

    fn state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.inner.state.lock().unwrap())
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Inner {
    async fn serve(self: Arc<Self>, listener: TcpListener, security: Security) {
        let credentials = Credentials::default();
        let id = self.state.lock().unwrap().own_id.clone();
        let key = new_key();
        let chain = self.chain(self.sign(&key, &id, YEAR), true);
        let svid = X509Svid::new(chain, PrivateKey::from_pkcs8(key.serialize_der())).unwrap();
        credentials.publish(svid, bundle_of(1, &[&self.root]), self.clock.now()).unwrap();
        let clock = self.clock.clone();
        let acceptor = Acceptor {
            credentials: credentials.reader(),
            security,
            now: Arc::new(move || clock.now()),
            on_failure: Arc::new(|_, _| {}),
        };
        let incoming = acceptor.accept(accept::incoming(listener, Counter::default()));
        let service = ca::certificate_authority_server::CertificateAuthorityServer::new(Service(self));
        Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
    }

    fn sign(&self, key: &impl PublicKeyData, id: &str, lifetime: Duration) -> Vec<u8> {
        let now = self.clock.now();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = OffsetDateTime::from(now - Duration::from_secs(60));
        params.not_after = OffsetDateTime::from(now + lifetime);
        params.serial_number = Some(serial());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.signed_by(key, &self.issuing).unwrap().der().to_vec()
    }

    fn chain(&self, leaf: Vec<u8>, with_root: bool) -> Vec<Vec<u8>> {
        let mut chain = vec![leaf, self.issuing.as_ref().der().to_vec()];
        chain.extend(with_root.then(|| self.root.as_ref().der().to_vec()));
        chain
    }

    fn issue(&self, request: &ca::IssueCertificateRequest, id: &str, by: &'static str) -> ca::IssueCertificateResponse {
        let csr = CertificateSigningRequestParams::from_der(&request.csr.clone().into()).unwrap();
        let (lifetime, spoil) = {
            let state = self.state.lock().unwrap();
            (state.lifetime, state.spoil)
        };
        let id = match spoil {
            Some(Spoil::OtherId) => "spiffe://example.org/ns/shop/sa/other",
            Some(Spoil::OtherTrustDomain) => "spiffe://example.com/ns/shop/sa/web",
            _ => id,
        };
        let leaf = match spoil {
            Some(Spoil::OtherKey) => self.sign(&new_key(), id, lifetime),
            _ => self.sign(&csr.public_key, id, lifetime),
        };
        let serial = kith_identity::Leaf::parse(&leaf).unwrap().serial.to_string();
        self.state.lock().unwrap().issued.push(Issued {
            serial,
            attestation: by,
            public_key: csr.public_key.subject_public_key_info(),
            instance: request.instance.clone().unwrap_or_default(),
        });
        ca::IssueCertificateResponse {
            certificate_chain: if spoil == Some(Spoil::NoCertificate) { Vec::new() } else { self.chain(leaf, false) },
            trust_bundles: (spoil != Some(Spoil::NoBundles)).then(|| self.bundles.borrow().clone()),
        }
    }

    fn by_token(
        &self,
        request: &ca::IssueCertificateRequest,
        token: &str,
    ) -> Result<ca::IssueCertificateResponse, Status> {
        let csr = CertificateSigningRequestParams::from_der(&request.csr.clone().into()).unwrap();
        let public_key = csr.public_key.subject_public_key_info();
        let id = match self.state.lock().unwrap().tokens.get(token) {
            None => return Err(refused("token_unknown")),
            Some(Token { spent_on: Some((key, answer)), .. }) if *key == public_key => return Ok(answer.clone()),
            Some(Token { spent_on: Some(_), .. }) => return Err(refused("token_spent")),
            Some(token) => token.id.clone(),
        };
        let answer = self.issue(request, &id, "join_token");
        let spent = Some((public_key, answer.clone()));
        self.state.lock().unwrap().tokens.get_mut(token).unwrap().spent_on = spent;
        Ok(answer)
    }
}

struct Service(Arc<Inner>);

#[tonic::async_trait]
impl ca::certificate_authority_server::CertificateAuthority for Service {
    type WatchTrustBundleStream = ReceiverStream<Result<ca::WatchTrustBundleResponse, Status>>;

    async fn issue_certificate(
        &self,
        request: Request<ca::IssueCertificateRequest>,
    ) -> Result<Response<ca::IssueCertificateResponse>, Status> {
        let peer = request.extensions().get::<ConnectionInfo>().unwrap().peer.clone();
        let request = request.into_inner();
        let refuse_renewals = self.0.state.lock().unwrap().refuse_renewals;
        use ca::issue_certificate_request::Attestation;
        let answer = match (&request.attestation, peer) {
            (Some(Attestation::JoinToken(token)), None) => self.0.by_token(&request, &token.token)?,
            (Some(Attestation::CurrentSvid(_)), Some(_)) if refuse_renewals => return Err(refused("svid_revoked")),
            (Some(Attestation::CurrentSvid(_)), Some(peer)) => {
                self.0.issue(&request, &peer.id.to_string(), "current_svid")
            }
            _ => return Err(Status::permission_denied("not on this port")),
        };
        if self.0.state.lock().unwrap().hold_answers {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(answer))
    }

    async fn watch_trust_bundle(
        &self,
        request: Request<Streaming<ca::WatchTrustBundleRequest>>,
    ) -> Result<Response<Self::WatchTrustBundleStream>, Status> {
        let peer = request.extensions().get::<ConnectionInfo>().unwrap().peer.clone();
        let mut acks = request.into_inner();
        let inner = Arc::clone(&self.0);
        let serial = peer.map(|leaf| leaf.serial.to_string());
        tokio::spawn(async move {
            while let Ok(Some(ack)) = acks.message().await {
                let ack = Ack { serial: serial.clone(), sequence: ack.applied_sequence };
                inner.state.lock().unwrap().acks.push(ack);
            }
        });
        let mut bundles = self.0.bundles.subscribe();
        let (answers, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let set = bundles.borrow_and_update().clone();
                if answers.send(Ok(ca::WatchTrustBundleResponse { trust_bundles: Some(set) })).await.is_err() {
                    return;
                }
                tokio::select! {
                    changed = bundles.changed() => if changed.is_err() { return },
                    () = answers.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn refused(reason: &'static str) -> Status {
    let mut status = Status::permission_denied(format!("{reason}: not this one"));
    status.metadata_mut().insert("kith-reason", reason.parse().unwrap());
    status
}
