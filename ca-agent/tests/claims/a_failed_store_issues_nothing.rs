use sqlx::Executor as _;
use tonic::Code;

use crate::common::{Key, Tested, WEB, reason};

#[tokio::test]
async fn nothing_is_issued_that_can_not_be_recorded_and_it_heals() {
    let tested = Tested::start(&[]).await;
    let (token, svid) = (tested.token(WEB).await, tested.svid(WEB).await);
    // What a full disk does, arranged from outside: every insert into the last table of the transaction fails.
    let mut database = tested.database().await;
    let trigger = "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    database.execute(trigger).await.unwrap();
    let certificates = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM certificates").fetch_one(&mut tested.database().await).await.unwrap()
    };
    let before = certificates().await;

    let key = Key::new();
    let status = tested.spend(&token, key.copy()).await.err().unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "store_unavailable"));
    let status = tested.renew(&svid).await.err().unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "store_unavailable"));
    assert_eq!(certificates().await, before);
    let (_, metrics) = tested.page("/metrics").await;
    assert!(metrics.contains("kith_ca_refused_total{reason=\"store_unavailable\"} 2"), "{metrics}");
    assert!(!metrics.contains("kith_ca_store_errors_total 0"), "{metrics}");
    let (code, page) = tested.page("/readyz").await;
    assert!(code == 503 && page.contains("store: the store failed") && page.contains("the disk is full"), "{page}");

    database.execute("DROP TRIGGER full").await.unwrap();
    tested.until("the store is found to work again", async |tested| tested.page("/readyz").await.0 == 200).await;
    // The token was not spent by the attempt.
    tested.spend(&token, key).await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_held_by_another_is_waited_for_and_then_reported() {
    let tested = Tested::start(&[]).await;
    let token = tested.token(WEB).await;
    let mut database = tested.database().await;
    database.execute("BEGIN EXCLUSIVE").await.unwrap();
    let status = tested.spend(&token, Key::new()).await.err().unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "store_unavailable"));
    database.execute("ROLLBACK").await.unwrap();
    tested.spend(&token, Key::new()).await.unwrap();
}

#[tokio::test]
async fn what_expired_long_ago_is_forgotten_at_the_next_start() {
    let tested = Tested::start(&["--retention=1d"]).await;
    let svid = tested.svid(WEB).await;
    tested.clock.advance(std::time::Duration::from_secs(29 * 3600));
    let tested = tested.restart().await;
    tested
        .until("the old certificate is forgotten", async |tested| {
            let left: i64 = sqlx::query_scalar("SELECT count(*) FROM certificates WHERE serial = ?")
                .bind(svid.serial())
                .fetch_one(&mut tested.database().await)
                .await
                .unwrap();
            left == 0
        })
        .await;
    let left: i64 =
        sqlx::query_scalar("SELECT (SELECT count(*) FROM join_tokens) + (SELECT count(*) FROM audit WHERE serial = ?)")
            .bind(svid.serial())
            .fetch_one(&mut tested.database().await)
            .await
            .unwrap();
    assert_eq!(left, 0);
}
