pub(crate) mod cases;
pub(crate) mod pki;
pub(crate) mod plain_tls;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use kith_tls::{AnyIdentity, Client, Failed, HandshakeError, Material, PeerPolicy, Roots, Server, TlsStream};
use tokio::io::DuplexStream;

use self::pki::now;

pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) type Ended = Result<TlsStream<DuplexStream>, Failed<DuplexStream>>;

pub(crate) fn server(material: &Arc<Material>) -> Server {
    Server { material: Arc::clone(material), policy: Some(Arc::new(AnyIdentity)), alpn: vec![], deadline: DEADLINE }
}

pub(crate) fn client(material: &Arc<Material>) -> Client {
    client_with(material, Arc::new(AnyIdentity))
}

pub(crate) fn client_with(material: &Arc<Material>, policy: Arc<dyn PeerPolicy>) -> Client {
    Client {
        material: Some(Arc::clone(material)),
        roots: Roots::Trust(Arc::clone(material.trust())),
        policy,
        alpn: vec![],
        deadline: DEADLINE,
    }
}

/// Lets a client and a server of ours meet.
pub(crate) async fn meet(client: Client, server: Server) -> (Ended, Ended) {
    let (near, far) = tokio::io::duplex(256 * 1024);
    tokio::join!(kith_tls::connect(near, LOOPBACK, client, now()), kith_tls::accept(far, server, now()))
}

pub(crate) async fn meet_well(client: Client, server: Server) -> (TlsStream<DuplexStream>, TlsStream<DuplexStream>) {
    let (client, server) = meet(client, server).await;
    (client.unwrap(), server.unwrap())
}

pub(crate) fn error_of(ended: Ended) -> HandshakeError {
    ended.unwrap_err().error
}
