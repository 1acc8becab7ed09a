use std::time::{Duration, SystemTime};

use kith_runtime::clock::ManualClock;

use crate::{
    ca::Ca,
    workload::{Setup, Workload},
};

const LIFETIME: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_renewal_has_a_new_key_and_proves_itself_by_the_last_svid() {
    let manual = ManualClock::running(SystemTime::now());
    let clock = manual.clock();
    let ca = Ca::running(&clock);
    ca.set_lifetime(LIFETIME);
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t"));
    let mut workload = Workload::start(&setup, &clock);
    workload.certified().await;
    for rotations in 1..=3 {
        manual.advance(Duration::from_secs(11));
        let state = workload.until("it has renewed", |state| state.rotations == rotations).await;
        assert!(state.last_rotation.is_some());
        assert!(workload.readiness.report().is_ok());
    }
    let issued = ca.issued();
    let by: Vec<_> = issued.iter().map(|issued| issued.attestation).collect();
    assert_eq!(by, ["join_token", "current_svid", "current_svid", "current_svid"]);
    let mut keys: Vec<_> = issued.iter().map(|issued| &issued.public_key).collect();
    keys.dedup();
    assert_eq!(keys.len(), 4);
    assert_eq!(workload.state().svid.unwrap().attestation.as_str(), "current_svid");
}

#[tokio::test]
async fn a_night_of_sleep_is_noticed() {
    let manual = ManualClock::running(SystemTime::now());
    let clock = manual.clock();
    let ca = Ca::running(&clock);
    ca.set_lifetime(LIFETIME);
    let setup = Setup::of(&ca).token_file();
    setup.write("token", &ca.token("evening"));
    let mut workload = Workload::start(&setup, &clock);
    workload.certified().await;
    workload.until_ready().await;
    setup.write("token", &ca.token("morning"));
    manual.advance(Duration::from_secs(8 * 3600));
    workload.until("it has a new SVID", |state| state.rotations == 1).await;
    workload.until_ready().await;
    assert_eq!(ca.issued()[1].attestation, "join_token", "what has expired proves nothing");
}

#[tokio::test]
async fn a_refused_renewal_attests_anew_where_it_can() {
    let manual = ManualClock::running(SystemTime::now());
    let clock = manual.clock();
    let ca = Ca::running(&clock);
    ca.set_lifetime(LIFETIME);
    ca.refuse_renewals(true);
    let setup = Setup::of(&ca).token_file();
    setup.write("token", &ca.token("first"));
    let mut workload = Workload::start(&setup, &clock);
    let serial = workload.certified().await;
    manual.advance(Duration::from_secs(11));
    let state = workload.failing("svid_revoked").await;
    let error = state.failing.unwrap().error;
    assert!(
        error.contains("the CA refused as svid_revoked: not this one; attesting anew failed too: the CA refused"),
        "{error}"
    );
    assert!(error.contains("token_spent"), "{error}");
    assert_eq!(workload.serial(), serial, "the last good one stays");

    setup.write("token", &ca.token("second"));
    workload.until("it was attested anew", |state| state.rotations == 1).await;
    assert_eq!(workload.state().svid.unwrap().attestation.as_str(), "join_token");
}
