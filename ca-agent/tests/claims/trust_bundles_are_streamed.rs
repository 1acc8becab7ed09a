use std::time::Duration;

use kith_proto::ca::{
    TrustBundleSet, WatchTrustBundleRequest, WatchTrustBundleResponse,
    certificate_authority_client::CertificateAuthorityClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Channel};

use crate::common::{Svid, Tested, WEB, reason};

struct Watch {
    say: mpsc::Sender<WatchTrustBundleRequest>,
    hear: Streaming<WatchTrustBundleResponse>,
}

impl Watch {
    async fn begin(mut client: CertificateAuthorityClient<Channel>) -> (Self, TrustBundleSet) {
        let (say, requests) = mpsc::channel(4);
        let hear = client.watch_trust_bundle(ReceiverStream::new(requests)).await.unwrap().into_inner();
        let mut watch = Self { say, hear };
        let set = watch.hear.message().await.unwrap().unwrap().trust_bundles.unwrap();
        (watch, set)
    }

    async fn applied(&self, applied_sequence: u64) {
        self.say.send(WatchTrustBundleRequest { applied_sequence }).await.unwrap();
    }
}

async fn acknowledged(tested: &Tested, svid: &Svid) -> i64 {
    sqlx::query_scalar("SELECT applied_sequence FROM certificates WHERE serial = ?")
        .bind(svid.serial())
        .fetch_one(&mut tested.database().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_set_comes_at_once_and_its_number_outlives_the_agent() {
    let tested = Tested::start(&[]).await;
    // Before the caller has said a word.
    let (_watch, first) = Watch::begin(tested.attest().await).await;
    assert_eq!(first.bundles[0].trust_domain, "example.org");
    assert_eq!(first.bundles[0].x509_authorities, [tested.root().await]);
    assert!(first.sequence > 0);
    // Also with every certificate.
    let token = tested.token(WEB).await;
    let request = crate::common::by_token(&token, crate::common::Key::new().csr());
    let answer = tested.attest().await.issue_certificate(request).await.unwrap().into_inner();
    assert_eq!(answer.trust_bundles.unwrap(), first);

    tested.clock.advance(Duration::from_secs(60));
    let tested = tested.restart().await;
    let (_watch, second) = Watch::begin(tested.attest().await).await;
    assert_eq!(second, first);
}

#[tokio::test]
async fn an_acknowledgement_counts_over_mtls_only_and_never_backwards() {
    let tested = Tested::start(&[]).await;
    let svid = tested.svid(WEB).await;
    let (anonymous, set) = Watch::begin(tested.attest().await).await;
    anonymous.applied(set.sequence).await;
    let (watch, _) = Watch::begin(tested.mutual(&svid).await).await;
    // What we never had counts for nothing.
    watch.applied(set.sequence + 7).await;
    watch.applied(set.sequence - 1).await;
    let expected = i64::try_from(set.sequence).unwrap();
    tested.until("it counts", async |tested| acknowledged(tested, &svid).await == expected - 1).await;
    watch.applied(set.sequence).await;
    watch.applied(1).await;
    tested.until("it counts", async |tested| acknowledged(tested, &svid).await == expected).await;
    let own: i64 = sqlx::query_scalar("SELECT count(*) FROM certificates WHERE applied_sequence > 0")
        .fetch_one(&mut tested.database().await)
        .await
        .unwrap();
    assert_eq!(own, 1);
}

#[tokio::test]
async fn a_stream_ends_with_the_certificate_that_opened_it() {
    let tested = Tested::start(&["--svid-lifetime=60s"]).await;
    let svid = tested.svid(WEB).await;
    let (mut watch, _) = Watch::begin(tested.mutual(&svid).await).await;
    let (mut anonymous, _) = Watch::begin(tested.attest().await).await;
    tested.until("both are counted", async |tested| streams(tested).await == 2).await;
    tested.clock.set(svid.not_after() + Duration::from_secs(1));
    let status = watch.hear.message().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "svid_expired"));
    tested.until("one is left", async |tested| streams(tested).await == 1).await;
    // Who has presented nothing has nothing that could expire.
    let silence = tokio::time::timeout(Duration::from_millis(200), anonymous.hear.message()).await;
    assert!(silence.is_err(), "{silence:?}");
}

async fn streams(tested: &Tested) -> i64 {
    let (_, metrics) = tested.page("/metrics").await;
    let line = metrics.lines().find(|line| line.starts_with("kith_ca_trust_bundle_streams ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn who_has_nothing_more_to_say_may_still_listen() {
    let tested = Tested::start(&[]).await;
    let (watch, _) = Watch::begin(tested.attest().await).await;
    let Watch { say, mut hear } = watch;
    drop(say);
    let silence = tokio::time::timeout(Duration::from_millis(200), hear.message()).await;
    assert!(silence.is_err(), "{silence:?}");
    drop(hear);
    tested.until("the stream is gone", async |tested| streams(tested).await == 0).await;
}
