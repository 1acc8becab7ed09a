use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use kith_identity::Serial;
use kith_tls::{
    AnyIdentity, Credentials, ExpectedIds, RootPin, Roots,
    grpc::{Acceptor, ConnectError, ConnectionInfo, Connector, Security},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint, Server},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::common::{
    LOOPBACK,
    pki::{DOMAIN, Pki, domain, id, now},
};

/// A gRPC server on every address, and what it saw.
struct Hub {
    port: u16,
    seen: Arc<Mutex<Vec<ConnectionInfo>>>,
    failures: Arc<Mutex<HashMap<&'static str, usize>>>,
    task: JoinHandle<()>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hub {
    async fn start(credentials: &Credentials, security: Security) -> Self {
        let listener = TcpListener::bind(("0.0.0.0", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, failures) = (Arc::new(Mutex::new(vec![])), Arc::new(Mutex::new(HashMap::new())));
        let (see, fail) = (Arc::clone(&seen), Arc::clone(&failures));
        let acceptor = Acceptor {
            credentials: credentials.reader(),
            security,
            now: Arc::new(now),
            on_failure: Arc::new(move |_, error| *fail.lock().unwrap().entry(error.as_str()).or_default() += 1),
        };
        let (_, health) = tonic_health::server::health_reporter();
        let health = InterceptedService::new(health, move |request: Request<()>| {
            see.lock().unwrap().extend(request.extensions().get::<ConnectionInfo>().cloned());
            Ok::<_, Status>(request)
        });
        let incoming = acceptor.accept(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move {
            Server::builder().add_service(health).serve_with_incoming(incoming).await.unwrap();
        });
        Self { port, seen, failures, task }
    }

    fn address(&self) -> SocketAddr {
        (LOOPBACK, self.port).into()
    }

    /// Who made the last request.
    fn last_peer(&self) -> Option<(String, Serial)> {
        let seen = self.seen.lock().unwrap();
        let peer = seen.last().unwrap().peer.as_ref()?;
        Some((peer.id.path().to_owned(), peer.serial.clone()))
    }

    fn failed(&self, label: &str) -> usize {
        self.failures.lock().unwrap().get(label).copied().unwrap_or_default()
    }

    async fn until_failed(&self, label: &str, times: usize) {
        let reached = async {
            while self.failed(label) < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(8), reached).await.unwrap();
    }
}

fn publish(pki: &Pki, credentials: &Credentials, path: &str) -> Serial {
    let svid = pki.svid(path);
    let serial = svid.serial().clone();
    credentials.publish(svid, pki.bundles(), now()).unwrap();
    serial
}

fn connector(hub: &Hub, pki: &Pki, expected: &str, credentials: Option<&Credentials>) -> Connector {
    let trust = pki.trust();
    Connector {
        address: hub.address().to_string(),
        expected: id(expected),
        roots: Arc::new(move || Ok(Roots::Trust(Arc::clone(&trust)))),
        credentials: credentials.map(Credentials::reader),
        now: Arc::new(now),
    }
}

async fn ask(channel: &Channel) -> Result<(), Status> {
    HealthClient::new(channel.clone()).check(HealthCheckRequest { service: String::new() }).await.map(|_| ())
}

fn mutual() -> Security {
    Security::Mutual(Arc::new(AnyIdentity))
}

#[tokio::test]
async fn both_ends_are_proved_and_their_new_certificates_serve_the_next_connection() {
    let pki = Pki::new();
    let (agent, web) = (Credentials::default(), Credentials::default());
    let first = (publish(&pki, &agent, "/kith/ca"), publish(&pki, &web, "/web"));
    let hub = Hub::start(&agent, mutual()).await;
    let connector = connector(&hub, &pki, "/kith/ca", Some(&web));
    let open = connector.clone().channel();
    ask(&open).await.unwrap();
    assert_eq!(hub.last_peer(), Some(("/web".into(), first.1.clone())));
    assert_eq!(connector.connect().await.unwrap().peer().unwrap().serial, first.0);

    let second = (publish(&pki, &agent, "/kith/ca"), publish(&pki, &web, "/web"));
    assert_eq!(connector.connect().await.unwrap().peer().unwrap().serial, second.0);
    ask(&connector.clone().channel()).await.unwrap();
    assert_eq!(hub.last_peer(), Some(("/web".into(), second.1)));
    // What was open lives on as it was.
    ask(&open).await.unwrap();
    assert_eq!(hub.last_peer(), Some(("/web".into(), first.1)));
}

#[tokio::test]
async fn a_channel_finds_its_server_again_with_the_credentials_of_that_moment() {
    let pki = Pki::new();
    let (agent, web) = (Credentials::default(), Credentials::default());
    publish(&pki, &agent, "/kith/ca");
    let roots = Arc::new(Mutex::new(Err("no file".to_owned())));
    let hub = Hub::start(&agent, mutual()).await;
    let source = Arc::clone(&roots);
    let connector = Connector {
        roots: Arc::new(move || source.lock().unwrap().clone()),
        ..connector(&hub, &pki, "/kith/ca", Some(&web))
    };
    let channel = connector.clone().channel();
    let refused = |error: ConnectError| error.to_string();

    assert!(refused(connector.connect().await.unwrap_err()).contains("no trust bundle"));
    assert!(ask(&channel).await.is_err());
    *roots.lock().unwrap() = Ok(Roots::Trust(Pki::new().trust()));
    assert!(refused(connector.connect().await.unwrap_err()).contains("no SVID"));
    let serial = publish(&pki, &web, "/web");
    assert!(refused(connector.connect().await.unwrap_err()).contains("(unknown_ca)"));
    assert!(ask(&channel).await.is_err());
    // The CA's root was replaced: the next attempt reads it.
    *roots.lock().unwrap() = Ok(Roots::Trust(pki.trust()));
    ask(&channel).await.unwrap();
    assert_eq!(hub.last_peer(), Some(("/web".into(), serial)));
}

#[tokio::test]
async fn another_server_than_the_expected_is_refused_and_told() {
    let pki = Pki::new();
    let (workload, web) = (Credentials::default(), Credentials::default());
    publish(&pki, &workload, "/ns/shop/sa/web");
    publish(&pki, &web, "/web");
    let hub = Hub::start(&workload, mutual()).await;
    let error = connector(&hub, &pki, "/kith/ca", Some(&web)).connect().await.unwrap_err();
    assert!(matches!(&error, ConnectError::Handshake { source, .. } if source.as_str() == "not_expected"), "{error}");
    hub.until_failed("alert_access_denied", 1).await;
    assert_eq!(hub.seen.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_client_that_is_not_wanted_gets_no_answer() {
    let pki = Pki::new();
    let (agent, web) = (Credentials::default(), Credentials::default());
    publish(&pki, &agent, "/kith/ca");
    publish(&pki, &web, "/web");
    let hub = Hub::start(&agent, Security::Mutual(Arc::new(ExpectedIds(vec![id("/admin")])))).await;
    assert!(ask(&connector(&hub, &pki, "/kith/ca", Some(&web)).channel()).await.is_err());
    hub.until_failed("not_expected", 1).await;
    assert!(ask(&connector(&hub, &pki, "/kith/ca", None).channel()).await.is_err());
    hub.until_failed("no_certificate", 1).await;
    assert_eq!(hub.seen.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_first_contact_needs_no_certificate_and_a_pin_at_most() {
    let pki = Pki::new();
    let agent = Credentials::default();
    let leaf = pki.issuing.leaf(|params| {
        params.subject_alt_names = vec![crate::common::pki::uri("spiffe://example.org/kith/ca")];
    });
    let chain = vec![leaf.der, pki.issuing.der(), pki.root.der()];
    agent.publish(crate::common::pki::svid(chain, &leaf.key), pki.bundles(), now()).unwrap();
    let hub = Hub::start(&agent, Security::ServerOnly).await;
    let pin = RootPin::of_certificate(&pki.root.der()).unwrap();
    let roots = Roots::Pin { pin, trust_domain: domain(DOMAIN) };
    let connector = Connector { roots: Arc::new(move || Ok(roots.clone())), ..connector(&hub, &pki, "/kith/ca", None) };
    ask(&connector.channel()).await.unwrap();
    assert_eq!(hub.last_peer(), None);
}

/// An address of this machine that is not loopback: what a packet to a documentation network would leave by.
fn outer_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("198.51.100.1:9").expect("this test needs a network interface beside loopback");
    socket.local_addr().unwrap().ip()
}

#[tokio::test]
async fn plaintext_is_for_loopback_alone() {
    let pki = Pki::new();
    let (sidecar, admin) = (Credentials::default(), Credentials::default());
    publish(&pki, &sidecar, "/web");
    publish(&pki, &admin, "/admin");
    let hub = Hub::start(&sidecar, Security::PlainOnLoopback(Arc::new(ExpectedIds(vec![id("/admin")])))).await;
    let plain = |address: SocketAddr| Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let outside = SocketAddr::new(outer_address(), hub.port);

    ask(&plain(hub.address())).await.unwrap();
    assert_eq!(hub.last_peer(), None);
    assert!(ask(&plain(outside)).await.is_err());
    hub.until_failed("protocol", 1).await;

    let over_tls =
        |credentials| Connector { address: outside.to_string(), ..connector(&hub, &pki, "/web", Some(credentials)) };
    ask(&over_tls(&admin).channel()).await.unwrap();
    assert_eq!(hub.last_peer().unwrap().0, "/admin");
    assert!(ask(&over_tls(&sidecar).channel()).await.is_err());
    hub.until_failed("not_expected", 1).await;
}

#[tokio::test]
async fn a_server_without_svid_says_nothing() {
    let pki = Pki::new();
    let (agent, web) = (Credentials::default(), Credentials::default());
    publish(&pki, &web, "/web");
    let hub = Hub::start(&agent, mutual()).await;
    let connector = connector(&hub, &pki, "/kith/ca", Some(&web));
    let error = connector.connect().await.unwrap_err();
    assert!(matches!(&error, ConnectError::Handshake { source, .. } if source.as_str() == "closed"), "{error}");
    publish(&pki, &agent, "/kith/ca");
    assert!(connector.connect().await.is_ok());
}

#[tokio::test]
async fn nobody_at_the_address_is_said_so() {
    let pki = Pki::new();
    let agent = Credentials::default();
    publish(&pki, &agent, "/kith/ca");
    let hub = Hub::start(&agent, mutual()).await;
    let connector = connector(&hub, &pki, "/kith/ca", None);
    let unused = TcpListener::bind((LOOPBACK, 0)).await.unwrap().local_addr().unwrap();
    let error = Connector { address: unused.to_string(), ..connector }.connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Dial { .. }), "{error}");
}

#[tokio::test]
async fn clients_that_connect_and_say_nothing_keep_nobody_out() {
    const SILENT: usize = 1100;
    // Both ends of every connection are this process's.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let pki = Pki::new();
    let (agent, web) = (Credentials::default(), Credentials::default());
    publish(&pki, &agent, "/kith/ca");
    publish(&pki, &web, "/web");
    let hub = Hub::start(&agent, mutual()).await;
    // One that was there first, from another address, is not the one that has to go.
    let patient = TcpStream::connect(hub.address()).await.unwrap();
    let mut silent = vec![];
    for _ in 0..SILENT {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(hub.address()).await.unwrap());
    }
    hub.until_failed("crowded_out", SILENT + 1 - 1024).await;
    let channel = connector(&hub, &pki, "/kith/ca", Some(&web)).channel();
    tokio::time::timeout(Duration::from_secs(3), ask(&channel)).await.expect("the server is blocked").unwrap();
    let mut byte = [0];
    assert_eq!(patient.try_read(&mut byte).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(silent[0].try_read(&mut byte).unwrap(), 0);
}

#[tokio::test]
async fn clients_that_need_no_certificate_and_idle_keep_nobody_out_either() {
    const IDLE: usize = 1030;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let pki = Pki::new();
    let agent = Credentials::default();
    publish(&pki, &agent, "/kith/ca");
    let hub = Hub::start(&agent, Security::ServerOnly).await;
    let connector = connector(&hub, &pki, "/kith/ca", None);
    let mut idle = vec![];
    for _ in 0..IDLE {
        idle.push(connector.connect().await.unwrap());
    }
    ask(&connector.clone().channel()).await.unwrap();
    // Who came first had to go; who came last is still there.
    let mut byte = [0; 64];
    let gone = tokio::time::timeout(Duration::from_secs(5), async {
        // The server's HTTP/2 preface comes before the end.
        while idle[0].read(&mut byte).await.is_ok_and(|read| read > 0) {}
    });
    gone.await.expect("the first idle connection is still open");
    let last = idle.last_mut().unwrap();
    while tokio::time::timeout(Duration::from_millis(50), last.read(&mut byte)).await.is_ok_and(|read| {
        assert!(read.unwrap() > 0, "the last idle connection was closed");
        true
    }) {}
}

#[tokio::test]
async fn a_server_that_ends_takes_its_handshakes_along() {
    let pki = Pki::new();
    let agent = Credentials::default();
    publish(&pki, &agent, "/kith/ca");
    let hub = Hub::start(&agent, mutual()).await;
    let silent = TcpStream::connect(hub.address()).await.unwrap();
    hub.task.abort();
    let closed = tokio::time::timeout(Duration::from_secs(5), silent.readable());
    closed.await.expect("still open").unwrap();
}
