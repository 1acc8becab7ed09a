use std::time::Duration;

use kith_proto::ca::{
    Authority, ListAuthoritiesRequest,
    authority::{Role, State},
};

use crate::common::{DB, Tested, WEB};

async fn authorities(tested: &Tested) -> Vec<Authority> {
    let answer = tested.administration().await.list_authorities(ListAuthoritiesRequest {}).await.unwrap();
    answer.into_inner().authorities
}

fn shown(authorities: &[Authority]) -> Vec<(Role, State)> {
    authorities.iter().map(|authority| (authority.role(), authority.state())).collect()
}

#[tokio::test]
async fn under_the_same_root_and_nobody_notices() {
    let flags = ["--issuing-lifetime=60s", "--svid-lifetime=30s"];
    let tested = Tested::start(&flags).await;
    let before = authorities(&tested).await;
    assert_eq!(shown(&before), [(Role::Root, State::Active), (Role::Issuing, State::Active)]);
    let early = tested.svid(WEB).await;
    assert_eq!(early.chain[1], before[1].certificate);
    let bundles = tested.bundles().await;

    tested.clock.advance(Duration::from_secs(39));
    let still = authorities(&tested).await;
    assert_eq!(still[1].serial, before[1].serial);
    tested.clock.advance(Duration::from_secs(2));
    tested.until("it is replaced", async |tested| authorities(tested).await.len() == 3).await;
    let after = authorities(&tested).await;
    assert_eq!(
        shown(&after),
        [(Role::Root, State::Active), (Role::Issuing, State::Active), (Role::Issuing, State::Old)]
    );
    assert_eq!((&after[0], &after[2].serial), (&before[0], &before[1].serial));
    assert_ne!(after[1].subject, after[2].subject);
    assert_eq!(tested.bundles().await, bundles);

    // What the old one signed is good, and so is what the new one signs.
    tested.clock.set(early.not_after() - Duration::from_secs(1));
    let renewed = tested.renew(&early).await.unwrap();
    tested.clock.advance(Duration::from_secs(12));
    assert_eq!(renewed.chain[1], authorities_cert(&tested, &after[1].serial).await);
    tested.svid(DB).await;
}

async fn authorities_cert(tested: &Tested, serial: &str) -> Vec<u8> {
    authorities(tested).await.into_iter().find(|authority| authority.serial == serial).unwrap().certificate
}

#[tokio::test]
async fn an_old_one_is_listed_until_its_end_and_its_key_goes_then() {
    let tested = Tested::start(&["--issuing-lifetime=60s", "--svid-lifetime=30s"]).await;
    let files = |tested: &Tested| std::fs::read_dir(tested.dir.path().join("authorities")).unwrap().count();
    tested.clock.advance(Duration::from_secs(45));
    tested.until("it is replaced", async |tested| authorities(tested).await.len() == 3).await;
    assert_eq!(files(&tested), 3);
    tested.clock.advance(Duration::from_secs(17));
    assert_eq!(authorities(&tested).await.len(), 2);
    tested.until("its key is gone", async |tested| files(tested) == 2).await;
    let (_, metrics) = tested.page("/metrics").await;
    assert!(metrics.contains("kith_ca_issuing_rotations_total 1"), "{metrics}");
}

#[tokio::test]
async fn a_restart_goes_on_with_the_newest_and_remembers_the_old() {
    let tested = Tested::start(&["--issuing-lifetime=60s", "--svid-lifetime=30s"]).await;
    tested.clock.advance(Duration::from_secs(45));
    tested.until("it is replaced", async |tested| authorities(tested).await.len() == 3).await;
    let before = authorities(&tested).await;
    let tested = tested.restart().await;
    assert_eq!(authorities(&tested).await, before);
    assert_eq!(tested.svid(WEB).await.chain[1], before[1].certificate);
}
