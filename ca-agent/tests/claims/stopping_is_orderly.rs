use std::time::Duration;

use kith_proto::ca::{WatchTrustBundleRequest, certificate_authority_client::CertificateAuthorityClient};
use tonic::Code;

use crate::common::{Tested, WEB};

#[tokio::test]
async fn streams_are_told_and_the_socket_is_gone() {
    let tested = Tested::start(&[]).await;
    let svid = tested.svid(WEB).await;
    let mut streams = Vec::new();
    for mut client in [tested.attest().await, tested.mutual(&svid).await] {
        let requests = tokio_stream::iter([WatchTrustBundleRequest { applied_sequence: 0 }]);
        let mut stream = client.watch_trust_bundle(requests).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
        // The client stays: it is the agent that ends.
        streams.push((client, stream));
    }
    let Tested { agent, dir, .. } = tested;
    let begun = std::time::Instant::now();
    agent.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    for (_, mut stream) in streams {
        let status = stream.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().contains("stopping"), "{status:?}");
    }
    assert!(!dir.path().join("admin.sock").exists());
}

#[tokio::test]
async fn nobody_is_let_in_any_more() {
    let tested = Tested::start(&[]).await;
    let (channel, addresses) = (tested.attest_channel().await, tested.agent.addresses().clone());
    let Tested { agent, .. } = tested;
    agent.stop().await;
    for address in [addresses.attest[0], addresses.mutual[0], addresses.admin[0]] {
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
    let stream = tokio_stream::iter([WatchTrustBundleRequest { applied_sequence: 0 }]);
    assert!(CertificateAuthorityClient::new(channel).watch_trust_bundle(stream).await.is_err());
}
