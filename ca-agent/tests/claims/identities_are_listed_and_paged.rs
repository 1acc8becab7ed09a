use std::time::Duration;

use kith_proto::{
    ca::Instance,
    status::{GetIdentityRequest, ListIdentitiesRequest, ListIdentitiesResponse, get_identity_request::Key as By},
};
use tonic::{Code, Status};

use crate::common::{DB, Key, Tested, WEB, by_token, reason};

const OWN: &str = "spiffe://example.org/kith/ca";

async fn list(tested: &Tested, request: ListIdentitiesRequest) -> Result<ListIdentitiesResponse, Status> {
    tested.mesh_status().await.list_identities(request).await.map(tonic::Response::into_inner)
}

fn ids(page: &ListIdentitiesResponse) -> Vec<&str> {
    page.identities.iter().map(|identity| identity.spiffe_id.as_str()).collect()
}

#[tokio::test]
async fn pages_join_to_the_whole_in_order() {
    let tested = Tested::start(&[]).await;
    for id in [WEB, DB, WEB, DB, WEB] {
        tested.svid(id).await;
    }
    let whole = list(&tested, ListIdentitiesRequest::default()).await.unwrap();
    assert_eq!(ids(&whole), [OWN, DB, DB, WEB, WEB, WEB]);
    assert_eq!(whole.next_page_token, "");
    for page_size in 1..=7 {
        let mut joined = Vec::new();
        let mut page_token = String::new();
        let mut pages = 0;
        loop {
            let request = ListIdentitiesRequest { page_size, page_token, ..Default::default() };
            let page = list(&tested, request).await.unwrap();
            assert!(page.identities.len() <= page_size as usize);
            joined.extend(page.identities);
            pages += 1;
            if page.next_page_token.is_empty() {
                break;
            }
            page_token = page.next_page_token;
        }
        assert_eq!(joined, whole.identities);
        assert_eq!(pages, 6_u32.div_ceil(page_size));
    }
    let wrong = ListIdentitiesRequest { page_token: "x".into(), ..Default::default() };
    let status = list(&tested, wrong).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "page_token_invalid"));
}

#[tokio::test]
async fn filters_choose_by_identity_prefix_and_age() {
    let tested = Tested::start(&["--svid-lifetime=1h"]).await;
    for id in [WEB, DB, "spiffe://example.org/ns/shopping/sa/web", "spiffe://example.org/ns/shop"] {
        tested.svid(id).await;
    }
    let by_id = ListIdentitiesRequest { spiffe_id: Some(WEB.into()), ..Default::default() };
    assert_eq!(ids(&list(&tested, by_id).await.unwrap()), [WEB]);
    let prefix = "spiffe://example.org/ns/shop";
    for prefix in [prefix.to_owned(), format!("{prefix}/")] {
        let below = ListIdentitiesRequest { spiffe_id_prefix: Some(prefix), ..Default::default() };
        assert_eq!(ids(&list(&tested, below).await.unwrap()), ["spiffe://example.org/ns/shop", DB, WEB]);
    }
    let wrong = ListIdentitiesRequest { spiffe_id: Some("web".into()), ..Default::default() };
    assert_eq!(reason(&list(&tested, wrong).await.unwrap_err()), "spiffe_id_invalid");

    tested.clock.advance(Duration::from_secs(3602));
    let workloads = ListIdentitiesRequest { spiffe_id_prefix: Some(prefix.into()), ..Default::default() };
    assert!(list(&tested, workloads.clone()).await.unwrap().identities.is_empty());
    let expired = ListIdentitiesRequest { include_expired: true, ..workloads };
    assert_eq!(list(&tested, expired).await.unwrap().identities.len(), 3);
}

#[tokio::test]
async fn an_identity_says_who_holds_it_in_the_holders_own_words() {
    let tested = Tested::start(&[]).await;
    let mut request = by_token(&tested.token(WEB).await, Key::new().csr());
    request.version = "1.2.3".into();
    request.instance = Some(Instance {
        host: "host-1".into(),
        pod_name: "web-0".into(),
        pod_uid: "uid".into(),
        node_name: "node-1".into(),
    });
    tested.attest().await.issue_certificate(request).await.unwrap();
    let found = GetIdentityRequest { key: Some(By::SpiffeId(WEB.into())) };
    let found = tested.mesh_status().await.get_identity(found).await.unwrap().into_inner().identities.remove(0);
    let holder = found.holder.unwrap();
    assert_eq!(
        (holder.host.as_str(), holder.pod_name.as_str(), holder.pod_uid.as_str(), holder.node_name.as_str()),
        ("host-1", "web-0", "uid", "node-1")
    );
    assert_eq!((found.version.as_str(), found.attestation.as_str()), ("1.2.3", "join_token"));
    assert!(found.issuer.starts_with("CN=Kith issuing authority ") && found.issuer.ends_with(",O=example.org"));
    // What only the holder knows is left open.
    assert!(found.last_rotation.is_none() && found.rotations.is_none() && found.next_rotation.is_none());
}

#[tokio::test]
async fn one_is_found_by_serial_and_what_is_not_there_is_not_found() {
    let tested = Tested::start(&[]).await;
    let svid = tested.svid(WEB).await;
    let get = async |key| {
        let request = GetIdentityRequest { key };
        tested.mesh_status().await.get_identity(request).await.map(|answer| answer.into_inner().identities)
    };
    assert_eq!(get(Some(By::Serial(svid.serial()))).await.unwrap()[0].serial, svid.serial());
    let cases = [
        (Some(By::Serial("ab".into())), Code::NotFound, "identity_unknown"),
        (Some(By::SpiffeId(DB.into())), Code::NotFound, "identity_unknown"),
        (Some(By::Serial("xyz".into())), Code::InvalidArgument, "serial_invalid"),
        (Some(By::SpiffeId("web".into())), Code::InvalidArgument, "spiffe_id_invalid"),
        (None, Code::InvalidArgument, "key_missing"),
    ];
    for (key, code, expected) in cases {
        let status = get(key).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected));
    }
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let tested = Tested::start(&[]).await;
    let svids = [tested.svid(WEB).await, tested.svid(DB).await];
    let tested = tested.restart().await;
    for svid in &svids {
        let request = GetIdentityRequest { key: Some(By::Serial(svid.serial())) };
        let found = tested.mesh_status().await.get_identity(request).await.unwrap().into_inner().identities;
        assert_eq!(found[0].spiffe_id, svid.leaf().id.to_string());
        tested.renew(svid).await.unwrap();
    }
}
