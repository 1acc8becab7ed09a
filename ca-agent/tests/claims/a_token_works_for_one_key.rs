use std::{collections::HashSet, time::Duration};

use kith_proto::ca::{DeleteJoinTokenRequest, ListJoinTokensRequest};
use tonic::Code;

use crate::common::{DB, Key, Tested, WEB, reason};

#[tokio::test]
async fn the_same_key_gets_the_same_certificate_again_also_after_a_restart() {
    let tested = Tested::start(&[]).await;
    let token = tested.token(WEB).await;
    let key = Key::new();
    let first = tested.spend(&token, key.copy()).await.unwrap();
    assert_eq!(tested.spend(&token, key.copy()).await.unwrap().chain, first.chain);
    let tested = tested.restart().await;
    assert_eq!(tested.spend(&token, key.copy()).await.unwrap().chain, first.chain);
    // Also when the token would have expired meanwhile: it is the certificate that counts.
    tested.clock.advance(Duration::from_secs(3600));
    assert_eq!(tested.spend(&token, key.copy()).await.unwrap().chain, first.chain);
    // Not for ever.
    tested.clock.advance(Duration::from_secs(4 * 3600));
    let tested = tested.restart().await;
    assert_eq!(reason(&tested.spend(&token, key).await.err().unwrap()), "token_spent");
}

#[tokio::test]
async fn another_key_late_unknown_and_deleted_are_each_denied_by_name() {
    let tested = Tested::start(&[]).await;
    let spent = tested.token(WEB).await;
    tested.spend(&spent, Key::new()).await.unwrap();
    let late = tested.token_for(DB, Duration::from_secs(30)).await;
    let deleted = tested.token(DB).await;
    let mut admin = tested.administration().await;
    let tokens = admin.list_join_tokens(ListJoinTokensRequest {}).await.unwrap().into_inner().tokens;
    let id = tokens.iter().filter(|t| t.spent_at.is_none()).max_by_key(|t| t.expires_at.unwrap().seconds).unwrap();
    admin.delete_join_token(DeleteJoinTokenRequest { id: id.id.clone() }).await.unwrap();
    let again = admin.delete_join_token(DeleteJoinTokenRequest { id: id.id.clone() }).await.unwrap_err();
    assert_eq!((again.code(), reason(&again).as_str()), (Code::NotFound, "token_unknown"));
    tested.clock.advance(Duration::from_secs(30));
    let cases = [
        (spent.as_str(), "token_spent"),
        (late.as_str(), "token_expired"),
        (deleted.as_str(), "token_unknown"),
        ("", "token_unknown"),
        ("not-a-token", "token_unknown"),
    ];
    for (token, expected) in cases {
        let status = tested.spend(token, Key::new()).await.err().unwrap();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, expected));
    }
}

#[tokio::test]
async fn of_eight_at_once_one_key_wins() {
    let tested = Tested::start(&[]).await;
    let token = tested.token(WEB).await;
    let attempts = futures_util::future::join_all((0..8).map(|_| tested.spend(&token, Key::new()))).await;
    let (won, lost): (Vec<_>, Vec<_>) = attempts.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for status in lost.into_iter().filter_map(Result::err) {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "token_spent"));
    }
    let issued: i64 = sqlx::query_scalar("SELECT count(*) FROM certificates WHERE attestation = 'join_token'")
        .fetch_one(&mut tested.database().await)
        .await
        .unwrap();
    assert_eq!(issued, 1);
}

#[tokio::test]
async fn of_eight_at_once_with_one_key_all_get_the_one_certificate() {
    let tested = Tested::start(&[]).await;
    let (token, key) = (tested.token(WEB).await, Key::new());
    let attempts = futures_util::future::join_all((0..8).map(|_| tested.spend(&token, key.copy()))).await;
    let serials: HashSet<String> = attempts.into_iter().map(|svid| svid.unwrap().serial()).collect();
    assert_eq!(serials.len(), 1);
}

#[tokio::test]
async fn what_is_behind_the_dot_is_for_the_workload() {
    let tested = Tested::start(&[]).await;
    let token = tested.token(WEB).await;
    let (secret, pin) = token.split_once('.').unwrap();
    assert_eq!(pin, kith_tls::RootPin::of_certificate(&tested.root().await).unwrap().to_string());
    tested.spend(secret, Key::new()).await.unwrap();
}

#[tokio::test]
async fn the_secret_is_stored_nowhere() {
    let tested = Tested::start(&[]).await;
    let token = tested.token(WEB).await;
    tested.spend(&token, Key::new()).await.unwrap();
    let secret = token.split('.').next().unwrap();
    let raw = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, secret).unwrap();
    let holds = |content: &[u8], needle: &[u8]| content.windows(needle.len()).any(|window| window == needle);
    let mut looked_at = 0;
    for entry in std::fs::read_dir(tested.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let content = std::fs::read(&path).unwrap();
            assert!(!holds(&content, secret.as_bytes()) && !holds(&content, &raw), "{}", path.display());
            looked_at += usize::from(holds(&content, WEB.as_bytes()));
        }
    }
    // The control: what is stored is found in these files.
    assert!(looked_at > 0);
}

#[tokio::test]
async fn a_list_shows_what_became_of_each_token() {
    let tested = Tested::start(&[]).await;
    let token = tested.token(WEB).await;
    let svid = tested.spend(&token, Key::new()).await.unwrap();
    tested.clock.advance(Duration::from_secs(1));
    tested.token(DB).await;
    let answer = tested.administration().await.list_join_tokens(ListJoinTokensRequest {}).await.unwrap();
    let tokens = answer.into_inner().tokens;
    let shown: Vec<_> = tokens.iter().map(|t| (t.spiffe_id.as_str(), t.serial.clone())).collect();
    assert_eq!(shown, [(DB, None), (WEB, Some(svid.serial()))]);
    assert!(tokens[1].spent_at.is_some() && tokens[0].spent_at.is_none());
}

#[tokio::test]
async fn tokens_name_no_identity_of_kiths_and_of_no_other_domain() {
    let tested = Tested::start(&[]).await;
    let cases = [
        ("spiffe://example.org/kith/ca", Code::FailedPrecondition, "reserved_identity"),
        ("spiffe://example.org/kith/discovery", Code::FailedPrecondition, "reserved_identity"),
        ("spiffe://other.org/ns/shop/sa/web", Code::FailedPrecondition, "other_trust_domain"),
        ("spiffe://example.org", Code::InvalidArgument, "spiffe_id_invalid"),
        ("web", Code::InvalidArgument, "spiffe_id_invalid"),
    ];
    for (id, code, expected) in cases {
        let request = kith_proto::ca::CreateJoinTokenRequest { spiffe_id: id.into(), ttl: None };
        let status = tested.administration().await.create_join_token(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{id}");
    }
    for seconds in [-1, 0, 40 * 24 * 3600] {
        let ttl = Some(prost_types::Duration { seconds, nanos: 0 });
        let request = kith_proto::ca::CreateJoinTokenRequest { spiffe_id: WEB.into(), ttl };
        let status = tested.administration().await.create_join_token(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "ttl_invalid"));
    }
}
