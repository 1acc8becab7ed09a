use std::{io, sync::Arc};

use kith_tls::{
    AnyIdentity, Client, ExpectedIds, HandshakeError, Material, Rejection, Roots, Server, TlsStream, Trust,
};
use rcgen::KeyPair;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::common::{
    DEADLINE, LOOPBACK, cases, client, client_with, error_of, meet,
    pki::{Pki, id, now},
    plain_tls, server,
};

/// The error of the first read after a handshake that a foreign client thinks has succeeded.
async fn foreign_client_meets(config: ClientConfig, server: Server) -> (io::Error, HandshakeError) {
    let (near, far) = tokio::io::duplex(256 * 1024);
    let dial = async {
        let name = ServerName::IpAddress(LOOPBACK.into());
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, near).await?;
        stream.read_u8().await
    };
    // Whom it takes by mistake it drops, so that the client does not wait for ever.
    let serve = async { kith_tls::accept(far, server, now()).await.map(drop) };
    let (read, accepted) = tokio::join!(dial, serve);
    (read.unwrap_err(), accepted.unwrap_err().error)
}

fn ours(trust: &Arc<Trust>) -> Arc<Material> {
    Arc::new(Material::new(Arc::new(Pki::new().svid("/ns/shop/sa/db")), Arc::clone(trust), 1).unwrap())
}

#[tokio::test]
async fn a_client_that_is_refused_gets_the_alert_of_the_reason() {
    for case in cases::all() {
        let config = plain_tls::client(Some((&case.chain, &case.key)));
        let server = Server { policy: Some(case.policy), ..server(&ours(&case.trust)) };
        let (seen, error) = foreign_client_meets(config, server).await;
        assert_eq!(error.as_str(), case.label, "{}", case.what);
        assert_eq!(
            TlsStream::<io::Empty>::alert(&seen),
            Some(format!("alert_{}", case.alert).as_str()),
            "{}",
            case.what
        );
    }
}

#[tokio::test]
async fn a_server_that_is_refused_gets_the_alert_of_the_reason() {
    for case in cases::all() {
        let (near, far) = tokio::io::duplex(256 * 1024);
        let acceptor = TlsAcceptor::from(Arc::new(plain_tls::server(&case.chain, &case.key)));
        let client = Client { policy: case.policy, ..client(&ours(&case.trust)) };
        let (refused, seen) = tokio::join!(kith_tls::connect(near, LOOPBACK, client, now()), acceptor.accept(far));
        assert_eq!(error_of(refused).as_str(), case.label, "{}", case.what);
        let alert = TlsStream::<io::Empty>::alert(&seen.unwrap_err());
        assert_eq!(alert, Some(format!("alert_{}", case.alert).as_str()), "{}", case.what);
    }
}

#[tokio::test]
async fn a_client_without_certificate_is_told_that_it_needs_one() {
    let pki = Pki::new();
    let (seen, error) = foreign_client_meets(plain_tls::client(None), server(&pki.material("/x"))).await;
    assert_eq!(error, HandshakeError::Rejected(Rejection::NoCertificate));
    assert_eq!(error.as_str(), "no_certificate");
    assert_eq!(TlsStream::<io::Empty>::alert(&seen), Some("alert_certificate_required"));
}

#[tokio::test]
async fn a_copied_certificate_proves_nothing_without_its_key() {
    let pki = Pki::new();
    let (svid, thief) = (pki.svid("/ns/shop/sa/web"), KeyPair::generate().unwrap());
    let config = plain_tls::client(Some((svid.chain(), &thief)));
    let (seen, error) = foreign_client_meets(config, server(&pki.material("/x"))).await;
    assert_eq!(error.as_str(), "protocol", "{error}");
    assert_eq!(TlsStream::<io::Empty>::alert(&seen), Some("alert_decrypt_error"));

    let (near, far) = tokio::io::duplex(256 * 1024);
    let acceptor = TlsAcceptor::from(Arc::new(plain_tls::server(svid.chain(), &thief)));
    let client = client(&pki.material("/x"));
    let (refused, seen) = tokio::join!(kith_tls::connect(near, LOOPBACK, client, now()), acceptor.accept(far));
    assert_eq!(error_of(refused).as_str(), "protocol");
    assert_eq!(TlsStream::<io::Empty>::alert(&seen.unwrap_err()), Some("alert_decrypt_error"));
}

#[tokio::test]
async fn both_our_ends_name_the_same_refusal() {
    let pki = Pki::new();
    let expecting = |path| Arc::new(ExpectedIds(vec![id(path)]));

    let web = client_with(&pki.material("/web"), expecting("/other"));
    let (refusing, refused) = meet(web, server(&pki.material("/db"))).await;
    assert_eq!(error_of(refusing).as_str(), "not_expected");
    assert_eq!(error_of(refused).as_str(), "alert_access_denied");

    let policy = Some(expecting("/other") as Arc<_>);
    let server = Server { policy, ..server(&pki.material("/db")) };
    let (refused, refusing) = meet(client(&pki.material("/web")), server).await;
    assert_eq!(error_of(refusing).as_str(), "not_expected");
    // The client was done before the server had looked at its certificate.
    let mut refused = refused.unwrap();
    let seen = refused.read_u8().await.unwrap_err();
    assert_eq!(TlsStream::<io::Empty>::alert(&seen), Some("alert_access_denied"));
    // It stays so: nothing afterwards looks like an orderly end.
    assert!(refused.read_u8().await.is_err());
}

#[tokio::test]
async fn a_server_that_asks_for_no_certificate_knows_nobody() {
    let pki = Pki::new();
    let open = Server { policy: None, ..server(&pki.material("/ca")) };
    let bare = Client { material: None, ..client_with(&pki.material("/x"), Arc::new(ExpectedIds(vec![id("/ca")]))) };
    let (client, server) = meet(bare, open).await;
    assert_eq!(server.unwrap().peer(), None);
    assert_eq!(client.unwrap().peer().unwrap().id, id("/ca"));
}

#[tokio::test]
async fn an_expired_svid_of_our_own_is_never_presented() {
    let pki = Pki::new();
    let expired = pki.material_with(|params| params.not_after = crate::common::pki::at(-1));

    let (near, mut far) = tokio::io::duplex(1024);
    let failed = kith_tls::connect(near, LOOPBACK, client(&expired), now()).await.unwrap_err();
    assert_eq!(failed.error, HandshakeError::OwnSvidExpired);
    drop(failed.io);
    assert_eq!(far.read(&mut [0; 64]).await.unwrap(), 0, "not a byte was sent");

    let (mut near, far) = tokio::io::duplex(1024);
    near.write_all(b"anything").await.unwrap();
    let failed = kith_tls::accept(far, server(&expired), now()).await.unwrap_err();
    assert_eq!(failed.error.as_str(), "own_svid_expired");
    drop(failed.io);
    assert_eq!(near.read(&mut [0; 64]).await.unwrap(), 0, "not a byte was sent");
}

#[tokio::test]
async fn the_last_second_of_our_own_svid_still_counts() {
    let pki = Pki::new();
    let material = pki.material_with(|params| params.not_after = crate::common::pki::at(0));
    let (client, server) = meet(client(&material), server(&material)).await;
    assert!(client.is_ok() && server.is_ok());
}

#[tokio::test]
async fn nobody_is_believed_without_trust_bundles() {
    let pki = Pki::new();
    let trust = Arc::new(Trust::new(kith_identity::TrustBundles::default(), Default::default()).unwrap());
    let client = Client {
        material: Some(pki.material("/web")),
        roots: Roots::Trust(trust),
        policy: Arc::new(AnyIdentity),
        alpn: vec![],
        deadline: DEADLINE,
    };
    let (refusing, refused) = meet(client, server(&pki.material("/db"))).await;
    assert_eq!(error_of(refusing).as_str(), "unknown_trust_domain");
    assert_eq!(error_of(refused).as_str(), "alert_unknown_ca");
}
