use std::{collections::HashSet, time::Duration};

use kith_proto::status::{GetIdentityRequest, ListIdentitiesRequest, get_identity_request::Key as By};
use tonic::Code;

use crate::common::{Key, Tested, WEB, by_svid, reason};

#[tokio::test]
async fn a_chain_of_renewals_is_one_holder_and_its_newest_counts() {
    let tested = Tested::start(&[]).await;
    let first = tested.svid(WEB).await;
    tested.clock.advance(Duration::from_secs(3600));
    let second = tested.renew(&first).await.unwrap();
    tested.clock.advance(Duration::from_secs(3600));
    let third = tested.renew(&second).await.unwrap();
    assert_eq!(third.leaf().id.to_string(), WEB);
    assert_ne!(third.leaf().public_key, first.leaf().public_key);

    let mut status = tested.mesh_status().await;
    let by_id = GetIdentityRequest { key: Some(By::SpiffeId(WEB.into())) };
    let live = status.get_identity(by_id).await.unwrap().into_inner().identities;
    assert_eq!(live.iter().map(|i| i.serial.clone()).collect::<Vec<_>>(), [third.serial()]);
    assert_eq!(live[0].attestation, "current_svid");
    assert_eq!(live[0].key_type, "ECDSA P-256");
    assert_eq!(live[0].last_rotation.unwrap().seconds, live[0].not_before.unwrap().seconds + 60);

    let all = ListIdentitiesRequest { include_superseded: true, spiffe_id: Some(WEB.into()), ..Default::default() };
    let all = status.list_identities(all).await.unwrap().into_inner().identities;
    let serials: HashSet<String> = all.into_iter().map(|i| i.serial).collect();
    assert_eq!(serials, HashSet::from([first.serial(), second.serial(), third.serial()]));
}

#[tokio::test]
async fn a_connection_that_outlived_its_certificate_is_refused_and_then_ended() {
    let tested = Tested::start(&["--svid-lifetime=60s"]).await;
    let svid = tested.svid(WEB).await;
    let mut client = tested.mutual(&svid).await;
    client.issue_certificate(by_svid(Key::new().csr())).await.unwrap();
    tested.clock.set(svid.not_after() + Duration::from_secs(2));
    let status = client.issue_certificate(by_svid(Key::new().csr())).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "svid_expired"));
    // The connection goes soon afterwards; a new one can't be made, for the client's own SVID has expired.
    tested.clock.set(svid.not_after() + Duration::from_secs(10));
    tested
        .until("the connection has ended", async |_| {
            let status = client.issue_certificate(by_svid(Key::new().csr())).await.unwrap_err();
            status.code() == Code::Unavailable
        })
        .await;
}

#[tokio::test]
async fn renewal_ends_at_a_maximum_age_if_one_is_set() {
    let tested = Tested::start(&["--max-age-since-attestation=6h", "--svid-lifetime=12h"]).await;
    let first = tested.svid(WEB).await;
    tested.clock.advance(Duration::from_secs(3 * 3600));
    let second = tested.renew(&first).await.unwrap();
    tested.clock.advance(Duration::from_secs(3 * 3600 + 1));
    let status = tested.renew(&second).await.err().unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "attestation_too_old"));
}

#[tokio::test]
async fn without_a_maximum_it_goes_on_for_ever() {
    let tested = Tested::start(&["--svid-lifetime=50d"]).await;
    let mut svid = tested.svid(WEB).await;
    for _ in 0..2 {
        tested.clock.advance(Duration::from_secs(20 * 24 * 3600));
        svid = tested.renew(&svid).await.unwrap();
    }
}

#[tokio::test]
async fn an_svid_that_was_never_recorded_renews_nothing() {
    let tested = Tested::start(&[]).await;
    let svid = tested.svid(WEB).await;
    sqlx::query("DELETE FROM certificates WHERE serial = ?")
        .bind(svid.serial())
        .execute(&mut tested.database().await)
        .await
        .unwrap();
    let status = tested.renew(&svid).await.err().unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "svid_unknown"));
}

#[tokio::test]
async fn no_serial_number_comes_twice() {
    let tested = Tested::start(&[]).await;
    let svid = tested.svid(WEB).await;
    let renewals = futures_util::future::join_all((0..64).map(|_| tested.renew(&svid))).await;
    let serials: HashSet<String> = renewals.into_iter().map(|svid| svid.unwrap().serial()).collect();
    assert_eq!(serials.len(), 64);
    assert!(serials.iter().all(|serial| serial.len() <= 32));
}
