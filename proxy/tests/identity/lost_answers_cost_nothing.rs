use kith_runtime::clock::Clock;

use crate::{
    ca::Ca,
    workload::{Setup, Workload, eventually},
};

#[tokio::test]
async fn a_ca_killed_after_its_commit_gives_the_same_certificate_again() {
    let clock = Clock::system();
    let mut ca = Ca::running(&clock);
    ca.hold_answers(true);
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t"));
    let mut workload = Workload::start(&setup, &clock);
    eventually("the CA has committed", || ca.issued().len() == 1).await;
    ca.kill();
    workload.until("it has noticed", |state| state.failing.is_some()).await;
    ca.hold_answers(false);
    ca.run();
    let serial = workload.certified().await;
    let issued = ca.issued();
    assert_eq!(issued.len(), 1, "the token was spent once");
    assert_eq!(issued[0].serial, serial);
}
