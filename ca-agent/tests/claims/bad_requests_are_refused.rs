use std::{process::Command, time::Duration};

use rcgen::KeyPair;
use sqlx::Executor as _;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::common::{Key, Tested, WEB, by_token, reason};

/// A CSR of OpenSSL's making, for keys that we can't even make.
fn openssl_csr(key: &[&str]) -> Vec<u8> {
    let arguments = ["req", "-new", "-nodes", "-keyout", "/dev/null", "-outform", "DER", "-subj", "/CN=x"];
    let output = Command::new("openssl").args(arguments).args(key).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn with_a_broken_signature() -> Vec<u8> {
    let (mine, other) = (Key::new().csr(), Key::new().csr());
    // The request of one key with the signature of another: the same length but for the DER integers in it.
    let head = mine.windows(91).position(|w| w.starts_with(&[0x30, 0x59, 0x30, 0x13])).unwrap();
    let their_key = other.windows(91).position(|w| w.starts_with(&[0x30, 0x59, 0x30, 0x13])).unwrap();
    let mut forged = mine.clone();
    forged[head..head + 91].copy_from_slice(&other[their_key..their_key + 91]);
    forged
}

#[tokio::test]
async fn every_wrong_csr_has_its_reason_and_spends_nothing() {
    let tested = Tested::start(&[]).await;
    let token = tested.token(WEB).await;
    let good = Key::new().csr();
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("RSA-1024", openssl_csr(&["-newkey", "rsa:1024"]), "csr_key"),
        ("RSA-2048", openssl_csr(&["-newkey", "rsa:2048"]), "csr_key"),
        ("secp256k1", openssl_csr(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"]), "csr_key"),
        ("P-384", rcgen::CertificateParams::default().serialize_request(&p384).unwrap().der().to_vec(), "csr_key"),
        ("another key's signature", with_a_broken_signature(), "csr_signature"),
        ("garbage", b"garbage".to_vec(), "csr_malformed"),
        ("nothing", vec![], "csr_malformed"),
        ("a tail", [good.as_slice(), b"x"].concat(), "csr_malformed"),
        ("a flood", vec![0x30; 20_000], "csr_too_large"),
    ];
    let mut client = tested.attest().await;
    for (name, csr, expected) in cases {
        let status = client.issue_certificate(by_token(&token, csr)).await.expect_err(name);
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, expected), "{name}");
    }
    // The token still waits.
    tested.spend(&token, Key::new()).await.unwrap();
    let (_, metrics) = tested.page("/metrics").await;
    assert!(metrics.contains("kith_ca_refused_total{reason=\"csr_key\"} 4"), "{metrics}");
    assert!(metrics.contains("kith_ca_issued_total{attestation=\"join_token\"} 1"), "{metrics}");
}

#[tokio::test]
async fn what_a_holder_says_of_itself_can_not_steer_a_terminal() {
    let tested = Tested::start(&[]).await;
    let token = tested.token(WEB).await;
    for host in ["\x1b[2J", &"x".repeat(254)] {
        let mut request = by_token(&token, Key::new().csr());
        request.instance = Some(kith_proto::ca::Instance { host: host.into(), ..Default::default() });
        let status = tested.attest().await.issue_certificate(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "instance_invalid"));
    }
}

#[tokio::test]
async fn a_request_larger_than_any_of_ours_is_not_even_read() {
    let tested = Tested::start(&[]).await;
    let request = by_token(&"x".repeat(1 << 20), vec![]);
    let status = tested.attest().await.issue_certificate(request).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
}

#[tokio::test]
async fn nor_is_one_to_health_or_reflection() {
    let tested = Tested::start(&[]).await;
    let (channel, long) = (tested.attest_channel().await, "x".repeat(1 << 20));
    let check = HealthCheckRequest { service: long.clone() };
    assert_eq!(HealthClient::new(channel.clone()).check(check).await.unwrap_err().code(), Code::OutOfRange);
    // What is not even read is not answered; the stream just ends.
    let question =
        ServerReflectionRequest { host: long, message_request: Some(MessageRequest::ListServices(String::new())) };
    let mut reflection = ServerReflectionClient::new(channel);
    let answers = reflection.server_reflection_info(tokio_stream::once(question)).await.unwrap();
    let answer = answers.into_inner().message().await;
    assert!(!matches!(answer, Ok(Some(_))), "{answer:?}");
}

#[tokio::test]
async fn too_many_requests_are_told_to_come_later() {
    let tested = Tested::start(&["--requests-per-minute=3"]).await;
    let mut client = tested.attest().await;
    for _ in 0..3 {
        let status = client.issue_certificate(by_token("nonsense", Key::new().csr())).await.unwrap_err();
        assert_eq!(reason(&status), "token_unknown");
    }
    for _ in 0..5 {
        let status = client.issue_certificate(by_token("nonsense", Key::new().csr())).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "rate_limited"));
    }
    // Five refusals, but no five writes.
    let recorded: i64 = sqlx::query_scalar("SELECT count(*) FROM audit WHERE reason = 'rate_limited'")
        .fetch_one(&mut tested.database().await)
        .await
        .unwrap();
    assert_eq!(recorded, 1);
}

#[tokio::test]
async fn every_refusal_is_one_audit_record() {
    let tested = Tested::start(&[]).await;
    let key = Key::new();
    let wrong = tested.attest().await.issue_certificate(by_token("nonsense", key.csr())).await;
    assert_eq!(reason(&wrong.unwrap_err()), "token_unknown");
    let rows: Vec<(String, String, String, String)> =
        sqlx::query_as("SELECT reason, attestation, public_key_hash, source FROM audit WHERE event = 'refused'")
            .fetch_all(&mut tested.database().await)
            .await
            .unwrap();
    let [(reason, attestation, hash, source)] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((reason.as_str(), attestation.as_str(), source.as_str()), ("token_unknown", "join_token", "127.0.0.1"));
    assert_eq!(hash.len(), 64);
}

/// Whoever asks for a certificate waits behind one refusal, not behind all that strangers have caused.
#[tokio::test]
async fn a_flood_of_refusals_keeps_nobody_waiting_for_a_certificate() {
    const FLOOD: usize = 48;
    let tested = Tested::start(&[]).await;
    let token = tested.token(WEB).await;
    let (stranger, mut client) = (tested.attest().await, tested.attest().await);
    // So that the connection stands.
    client.issue_certificate(by_token("nonsense", vec![])).await.unwrap_err();
    let mut database = tested.database().await;
    database.execute("BEGIN EXCLUSIVE").await.unwrap();

    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..FLOOD {
        let (mut stranger, request) = (stranger.clone(), by_token("nonsense", Key::new().csr()));
        flood.spawn(async move { stranger.issue_certificate(request).await });
    }
    let refused = format!("kith_ca_refused_total{{reason=\"token_unknown\"}} {FLOOD}\n");
    tested.until("all are refused", async |tested| tested.page("/metrics").await.1.contains(&refused)).await;
    let mut issuance = std::pin::pin!(client.issue_certificate(by_token(&token, Key::new().csr())));
    let early = tokio::time::timeout(Duration::from_millis(500), &mut issuance).await;
    assert!(early.is_err(), "nothing can be recorded: {early:?}");
    database.execute("ROLLBACK").await.unwrap();
    issuance.await.unwrap();
    while let Some(ended) = flood.join_next().await {
        ended.unwrap().unwrap_err();
    }

    let before: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM audit WHERE reason = 'token_unknown' AND id < (SELECT max(id) FROM audit WHERE event = 'issued')",
    )
    .fetch_one(&mut tested.database().await)
    .await
    .unwrap();
    assert!(before <= 2, "{before} refusals were recorded first");
    let all: i64 = sqlx::query_scalar("SELECT count(*) FROM audit WHERE reason = 'token_unknown'")
        .fetch_one(&mut tested.database().await)
        .await
        .unwrap();
    assert_eq!(all, i64::try_from(FLOOD).unwrap(), "and each of them is recorded");
}
