use std::sync::Arc;

use kith_tls::{Client, Server, TlsStream, alpn};
use rustls::{
    CipherSuite, HandshakeKind, NamedGroup,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs},
    pki_types::ServerName,
    server::ServerSessionMemoryCache,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use crate::common::{
    LOOPBACK, client as our_client, error_of, meet_well,
    pki::{Pki, id, now},
    plain_tls, server as our_server,
};

/// A handshake of a foreign client, which goes on until it has read a byte.
async fn foreign_client(
    config: &Arc<rustls::ClientConfig>,
    server: Server,
) -> (client::TlsStream<DuplexStream>, TlsStream<DuplexStream>) {
    let (near, far) = tokio::io::duplex(256 * 1024);
    let dial = async {
        let name = ServerName::IpAddress(LOOPBACK.into());
        let mut stream = TlsConnector::from(Arc::clone(config)).connect(name, near).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 42);
        stream
    };
    let serve = async {
        let mut stream = kith_tls::accept(far, server, now()).await.unwrap();
        stream.write_u8(42).await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    tokio::join!(dial, serve)
}

fn speaking(suites: &[CipherSuite], groups: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suites.contains(&suite.suite()));
    provider.kx_groups = groups.to_vec();
    Arc::new(provider)
}

#[tokio::test]
async fn two_of_us_prove_each_other_with_hybrid_key_exchange() {
    let pki = Pki::new();
    let (client, server) = meet_well(our_client(&pki.material("/web")), our_server(&pki.material("/db"))).await;
    for (stream, peer) in [(&client, "/db"), (&server, "/web")] {
        assert_eq!(stream.peer().unwrap().id, id(peer));
        let parameters = stream.parameters();
        assert_eq!(parameters.version, "TLSv1.3");
        assert_eq!(parameters.cipher_suite, "TLS13_AES_128_GCM_SHA256");
        assert_eq!(parameters.key_exchange_group, "X25519MLKEM768");
        assert_eq!(parameters.alpn, None);
        assert!(!parameters.resumed);
    }
}

#[tokio::test]
async fn every_promised_suite_and_group_is_spoken() {
    use aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
    use rustls::CipherSuite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    let pki = Pki::new();
    let svid = pki.svid_with(|_| {});
    let key = rcgen::KeyPair::try_from(svid.key().pkcs8()).unwrap();
    for suite in [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256] {
        for group in [X25519MLKEM768, X25519, SECP256R1] {
            let provider = speaking(&[suite], &[group]);
            let config = plain_tls::client_of(provider, Some((svid.chain(), &key)));
            let (_, server) = foreign_client(&Arc::new(config), our_server(&pki.material("/db"))).await;
            assert_eq!(Some(server.parameters().cipher_suite), suite.as_str());
            assert_eq!(server.parameters().key_exchange_group, format!("{:?}", group.name()));
        }
    }
}

#[tokio::test]
async fn a_client_that_guesses_another_group_first_is_asked_again() {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1};
    let pki = Pki::new();
    let svid = pki.svid("/web");
    let key = rcgen::KeyPair::try_from(svid.key().pkcs8()).unwrap();
    let provider = speaking(&[CipherSuite::TLS13_AES_256_GCM_SHA384], &[SECP384R1, SECP256R1]);
    let mut config = plain_tls::client_of(provider, Some((svid.chain(), &key)));
    // The choice of ALPN, made once, holds for the second ClientHello too.
    config.alpn_protocols = vec![b"h2".to_vec()];
    let server = Server { alpn: vec![alpn::H2.to_vec()], ..our_server(&pki.material("/db")) };
    let (client, server) = foreign_client(&Arc::new(config), server).await;
    assert_eq!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
    assert_eq!(server.parameters().key_exchange_group, format!("{:?}", NamedGroup::secp256r1));
    assert_eq!(server.parameters().alpn.as_deref(), Some(alpn::H2));
}

#[tokio::test]
async fn a_client_without_a_common_group_is_incompatible() {
    let pki = Pki::new();
    let provider = speaking(&[CipherSuite::TLS13_AES_128_GCM_SHA256], &[aws_lc_rs::kx_group::SECP384R1]);
    let config = Arc::new(plain_tls::client_of(provider, None));
    let (near, far) = tokio::io::duplex(256 * 1024);
    let name = ServerName::IpAddress(LOOPBACK.into());
    let (seen, refusing) = tokio::join!(
        TlsConnector::from(config).connect(name, near),
        kith_tls::accept(far, our_server(&pki.material("/db")), now())
    );
    assert_eq!(error_of(refusing).as_str(), "incompatible");
    assert_eq!(TlsStream::<DuplexStream>::alert(&seen.unwrap_err()), Some("alert_handshake_failure"));
}

#[tokio::test]
async fn the_server_chooses_the_alpn_and_a_mismatch_is_never_fatal() {
    type Ids = &'static [&'static [u8]];
    let cases: [(Ids, Ids, Option<&[u8]>); 7] = [
        (&[alpn::KITH], &[alpn::KITH], Some(alpn::KITH)),
        (&[alpn::H2, alpn::KITH], &[alpn::KITH, alpn::H2], Some(alpn::KITH)),
        (&[b"http/1.1", alpn::H2], &[alpn::KITH, alpn::H2], Some(alpn::H2)),
        (&[b"http/1.1"], &[alpn::KITH, alpn::H2], None),
        (&[alpn::KITH], &[], None),
        (&[], &[alpn::KITH], None),
        (&[], &[], None),
    ];
    let pki = Pki::new();
    let owned = |ids: &[&[u8]]| ids.iter().map(|id| id.to_vec()).collect::<Vec<_>>();
    for (offered, ours, chosen) in cases {
        let client = Client { alpn: owned(offered), ..our_client(&pki.material("/web")) };
        let server = Server { alpn: owned(ours), ..our_server(&pki.material("/db")) };
        let (client, server) = meet_well(client, server).await;
        assert_eq!(client.parameters().alpn.as_deref(), chosen, "{offered:?} {ours:?}");
        assert_eq!(server.parameters().alpn.as_deref(), chosen, "{offered:?} {ours:?}");
    }
}

#[tokio::test]
async fn we_hand_out_nothing_to_resume_with() {
    let pki = Pki::new();
    let svid = pki.svid("/web");
    let key = rcgen::KeyPair::try_from(svid.key().pkcs8()).unwrap();
    // One configuration, so that it would resume if it could.
    let config = Arc::new(plain_tls::client(Some((svid.chain(), &key))));
    let material = pki.material("/db");
    for _ in 0..2 {
        let (client, server) = foreign_client(&config, our_server(&material)).await;
        let session = client.get_ref().1;
        assert_eq!(session.tls13_tickets_received(), 0);
        assert_ne!(session.handshake_kind(), Some(HandshakeKind::Resumed));
        assert!(!server.parameters().resumed);
    }
}

#[tokio::test]
async fn we_resume_nothing_that_we_are_handed() {
    let pki = Pki::new();
    let svid = pki.svid("/db");
    let key = rcgen::KeyPair::try_from(svid.key().pkcs8()).unwrap();
    let mut config = plain_tls::server(svid.chain(), &key);
    config.session_storage = ServerSessionMemoryCache::new(8);
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    assert!(config.send_tls13_tickets > 0);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let material = pki.material("/web");
    for _ in 0..2 {
        let (near, far) = tokio::io::duplex(256 * 1024);
        let serve = async {
            let mut stream = acceptor.accept(far).await.unwrap();
            stream.write_u8(42).await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        let dial = async {
            let mut stream = kith_tls::connect(near, LOOPBACK, our_client(&material), now()).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), 42);
            stream
        };
        let (server, client) = tokio::join!(serve, dial);
        assert_ne!(server.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        assert!(!client.parameters().resumed);
    }
}

#[tokio::test]
async fn no_name_is_sent_in_clear() {
    let pki = Pki::new();
    let (near, mut far) = tokio::io::duplex(256 * 1024);
    let dial = tokio::spawn(kith_tls::connect(near, LOOPBACK, our_client(&pki.material("/web")), now()));
    let mut acceptor = rustls::server::Acceptor::default();
    let hello = loop {
        let mut bytes = vec![0; 4096];
        let read = far.read(&mut bytes).await.unwrap();
        acceptor.read_tls(&mut &bytes[..read]).unwrap();
        if let Some(accepted) = acceptor.accept().unwrap() {
            break accepted;
        }
    };
    assert_eq!(hello.client_hello().server_name(), None);
    assert_eq!(hello.client_hello().named_groups().unwrap()[0], NamedGroup::X25519MLKEM768);
    dial.abort();
}
