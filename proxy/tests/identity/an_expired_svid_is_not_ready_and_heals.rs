use std::time::{Duration, SystemTime};

use kith_runtime::clock::ManualClock;

use crate::{
    ca::Ca,
    workload::{Setup, Workload},
};

#[tokio::test]
async fn nothing_is_visible_until_the_expiry_and_a_ca_that_is_back_heals_it() {
    let manual = ManualClock::running(SystemTime::now());
    let clock = manual.clock();
    let mut ca = Ca::running(&clock);
    ca.set_lifetime(Duration::from_secs(60));
    let setup = Setup::of(&ca).token_file();
    setup.write("token", &ca.token("first"));
    let mut workload = Workload::start(&setup, &clock);
    let serial = workload.certified().await;
    workload.until_ready().await;

    ca.kill();
    manual.advance(Duration::from_secs(35));
    let state = workload.failing("unreachable").await;
    assert!(state.failing.unwrap().since >= state.svid.unwrap().not_before);
    assert!(workload.readiness.report().is_ok(), "the SVID still lasts");
    assert_eq!(workload.serial(), serial);

    manual.advance(Duration::from_secs(30));
    workload.until_unready("the SVID expired at ").await;
    workload.until_unready("can't be reached").await;
    assert!(workload.identity.credentials.current().is_some(), "its handshakes say themselves that it has expired");

    ca.run();
    workload.failing("token_spent").await;
    workload.until_unready("the CA refused as token_spent").await;
    setup.write("token", &ca.token("second"));
    workload.until("there is another SVID", |state| state.rotations == 1 && state.failing.is_none()).await;
    workload.until_ready().await;
}
