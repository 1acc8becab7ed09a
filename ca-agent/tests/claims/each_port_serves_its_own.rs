use kith_identity::SpiffeId;
use kith_proto::{
    ca::{ListJoinTokensRequest, administration_client::AdministrationClient},
    status::{ListIdentitiesRequest, mesh_status_client::MeshStatusClient},
};
use kith_tls::{
    Roots,
    grpc::{ConnectError, Connector},
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::common::{Key, Tested, WEB, by_svid, by_token, domain, reason, start_without_workloads};

#[tokio::test]
async fn attestations_are_accepted_on_their_own_port_only() {
    let tested = Tested::start(&[]).await;
    let svid = tested.svid(WEB).await;
    let token = tested.token(WEB).await;

    let here = tested.attest().await.issue_certificate(by_svid(Key::new().csr())).await.unwrap_err();
    assert_eq!((here.code(), reason(&here).as_str()), (Code::PermissionDenied, "attestation_not_accepted_here"));
    let there = tested.mutual(&svid).await.issue_certificate(by_token(&token, Key::new().csr())).await.unwrap_err();
    assert_eq!((there.code(), reason(&there).as_str()), (Code::PermissionDenied, "attestation_not_accepted_here"));

    let mut neither = by_token(&token, Key::new().csr());
    neither.attestation = None;
    let status = tested.attest().await.issue_certificate(neither).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "attestation_missing"));
    // None of it has spent the token.
    tested.spend(&token, Key::new()).await.unwrap();
}

#[tokio::test]
async fn the_mtls_port_demands_a_certificate() {
    let tested = Tested::start(&[]).await;
    let channel = tested.mutual_channel(None).await;
    let status = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap_err();
    assert!(format!("{status:?}").contains("CertificateRequired"), "{status:?}");
}

#[tokio::test]
async fn status_and_administration_are_not_on_the_attestation_port() {
    let tested = Tested::start(&["--admin-id=spiffe://example.org/**"]).await;
    let svid = tested.svid(WEB).await;
    let attest = tested.attest_channel().await;
    let status = MeshStatusClient::new(attest.clone()).list_identities(ListIdentitiesRequest::default()).await;
    assert_eq!(status.unwrap_err().code(), Code::Unimplemented);
    let mutual = tested.mutual_channel(Some(svid.credentials(&tested).await)).await;
    for channel in [attest, mutual] {
        let status = AdministrationClient::new(channel).list_join_tokens(ListJoinTokensRequest {}).await;
        assert_eq!(status.unwrap_err().code(), Code::Unimplemented);
    }
}

#[tokio::test]
async fn only_admins_learn_of_the_mesh() {
    let tested = Tested::start(&["--admin-id=spiffe://example.org/ops/*"]).await;
    let (web, ops) = (tested.svid(WEB).await, tested.svid("spiffe://example.org/ops/alice").await);
    let client = async |svid: &crate::common::Svid| {
        MeshStatusClient::new(tested.mutual_channel(Some(svid.credentials(&tested).await)).await)
    };
    let refused = client(&web).await.list_identities(ListIdentitiesRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "not_admin"));
    let request = kith_proto::status::GetIdentityRequest {
        key: Some(kith_proto::status::get_identity_request::Key::Serial(web.serial())),
    };
    let refused = client(&web).await.get_identity(request.clone()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "not_admin"));
    let found = client(&ops).await.get_identity(request).await.unwrap().into_inner().identities;
    assert_eq!(found[0].spiffe_id, WEB);
}

#[tokio::test]
async fn workload_identities_by_token_need_their_setting() {
    let tested = Tested::start(&[]).await;
    let token = tested.token(WEB).await;
    let Tested { agent, clock, dir, .. } = tested;
    agent.stop().await;
    // The same state without the setting: not even the tokens that are there.
    let agent = start_without_workloads(dir.path(), clock.clock()).await;
    let without = Tested::of(agent, clock, dir);
    let status = without.spend(&token, Key::new()).await.err().unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "token_workloads_off"));
    let request = kith_proto::ca::CreateJoinTokenRequest { spiffe_id: WEB.into(), ttl: None };
    let status = without.administration().await.create_join_token(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "token_workloads_off"));
    // Other names are fine.
    without.svid("spiffe://example.org/web").await;
}

#[tokio::test]
async fn the_pin_of_a_token_is_enough_to_prove_the_agent() {
    let tested = Tested::start(&[]).await;
    let token = tested.token(WEB).await;
    let pin = token.split_once('.').unwrap().1.parse().unwrap();
    let connect = async |pin, expected: &str| {
        let clock = tested.clock.clone();
        let connector = Connector {
            address: tested.agent.addresses().attest[0].to_string(),
            expected: expected.parse().unwrap(),
            roots: std::sync::Arc::new(move || Ok(Roots::Pin { pin, trust_domain: domain() })),
            credentials: None,
            now: std::sync::Arc::new(move || clock.now()),
        };
        connector.connect().await
    };
    let stream = connect(pin, "spiffe://example.org/kith/ca").await.unwrap();
    assert_eq!(stream.peer().unwrap().id, SpiffeId::ca_agent(domain()));
    let other = kith_tls::RootPin::of_certificate(&tested.svid(WEB).await.chain[1]).unwrap();
    assert!(matches!(connect(other, "spiffe://example.org/kith/ca").await, Err(ConnectError::Handshake { .. })));
}

#[tokio::test]
async fn the_serving_certificate_has_the_dns_names_asked_for() {
    let tested = Tested::start(&["--dns-name=kith-ca.kith.svc,kith-ca"]).await;
    let mut identities = tested.mesh_status().await;
    let request = kith_proto::status::GetIdentityRequest {
        key: Some(kith_proto::status::get_identity_request::Key::SpiffeId("spiffe://example.org/kith/ca".into())),
    };
    let own = identities.get_identity(request).await.unwrap().into_inner().identities.remove(0);
    assert_eq!((own.attestation.as_str(), own.version.as_str()), ("self", env!("CARGO_PKG_VERSION")));
    let chain: Vec<u8> = sqlx::query_scalar("SELECT chain FROM certificates WHERE serial = ?")
        .bind(&own.serial)
        .fetch_one(&mut tested.database().await)
        .await
        .unwrap();
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
    let (_, leaf) = X509Certificate::from_der(&chain).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(
        names[..],
        [
            GeneralName::URI("spiffe://example.org/kith/ca"),
            GeneralName::DNSName("kith-ca.kith.svc"),
            GeneralName::DNSName("kith-ca"),
        ]
    );
}

#[tokio::test]
async fn health_and_reflection_answer_untaught_on_every_listener() {
    let tested = Tested::start(&[]).await;
    tested.until("it is ready", async |tested| tested.agent.readiness().report().is_ok()).await;
    let svid = tested.svid(WEB).await;
    let mutual = tested.mutual_channel(Some(svid.credentials(&tested).await)).await;
    let health = "grpc.health.v1.Health";
    let (ca, status) = ("kith.ca.v1alpha1.CertificateAuthority", "kith.status.v1alpha1.MeshStatus");
    let admin = "kith.ca.v1alpha1.Administration";
    let listeners: [(Channel, Vec<&str>); 3] = [
        (tested.attest_channel().await, vec![health, ca]),
        (mutual, vec![health, ca, status]),
        (tested.socket().await, vec![health, admin, status]),
    ];
    for (channel, expected) in listeners {
        let mut found = services(channel.clone()).await;
        found.retain(|name| !name.starts_with("grpc.reflection."));
        found.sort();
        let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        expected.sort();
        assert_eq!(found, expected);
        let mut health = HealthClient::new(channel);
        for service in found.into_iter().filter(|name| name.starts_with("kith.")).chain([String::new()]) {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
            // It follows readiness at its own pace.
            while health.check(HealthCheckRequest { service: service.clone() }).await.unwrap().into_inner().status != 1
            {
                assert!(std::time::Instant::now() < deadline, "{service} does not serve");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }
}

async fn services(channel: Channel) -> Vec<String> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
    match answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|service| service.name).collect(),
        other => panic!("{other:?}"),
    }
}
