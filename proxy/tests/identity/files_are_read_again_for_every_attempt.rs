use kith_runtime::clock::Clock;

use crate::{
    ca::Ca,
    workload::{Setup, Workload, eventually},
};

#[tokio::test]
async fn a_token_may_come_later_and_may_be_replaced() {
    let clock = Clock::system();
    let ca = Ca::running(&clock);
    let setup = Setup::of(&ca).bundle_file().token_file();
    setup.write("bundle.pem", &ca.root_pem());
    let mut workload = Workload::start(&setup, &clock);
    workload.failing("join_token_unreadable").await;
    workload.until_unready("no SVID yet: the join token file").await;

    setup.write("token", "nonsense");
    let failing = workload.failing("token_unknown").await.failing.unwrap();
    assert!(failing.error.contains("the CA refused as token_unknown: not this one"), "{}", failing.error);
    assert!(workload.metric(r#"kith_svid_rotations_total{result="token_unknown"} 1"#));

    setup.write("token", &ca.token("good"));
    workload.certified().await;
    assert_eq!(workload.state().failing, None);
    workload.until_ready().await;
}

#[tokio::test]
async fn a_bundle_may_come_later_and_may_be_replaced() {
    let clock = Clock::system();
    let (ca, other) = (Ca::running(&clock), Ca::new(&clock));
    let setup = Setup::of(&ca).bundle_file().token_file();
    setup.write("token", &ca.token("t"));
    let mut workload = Workload::start(&setup, &clock);
    workload.failing("no_trust_bundle").await;
    setup.write("bundle.pem", "garbage");
    workload
        .until("it says what is wrong", |state| {
            state.failing.as_ref().is_some_and(|failing| failing.error.contains("bundle.pem: "))
        })
        .await;
    setup.write("bundle.pem", &other.root_pem());
    workload.failing("unknown_ca").await;
    assert!(ca.issued().is_empty(), "no token was shown to who had not proved to be our CA");
    setup.write("bundle.pem", &ca.root_pem());
    workload.certified().await;
}

#[tokio::test]
async fn a_root_replaced_behind_a_running_workload_is_picked_up() {
    let manual = kith_runtime::clock::ManualClock::running(std::time::SystemTime::now());
    let clock = manual.clock();
    let mut ca = Ca::running(&clock);
    ca.set_lifetime(std::time::Duration::from_secs(20));
    ca.stream_bundle(7);
    let setup = Setup::of(&ca).bundle_file().token_file();
    setup.write("bundle.pem", &ca.root_pem());
    setup.write("token", &ca.token("old"));
    let mut workload = Workload::start(&setup, &clock);
    let old = workload.certified().await;

    let mut new = Ca::new(&clock);
    setup.write("bundle.pem", &new.root_pem());
    new.run_in_place_of(&mut ca);
    manual.advance(std::time::Duration::from_secs(10));
    // The new CA takes neither the SVID of another root nor a token that it has not made.
    let failing = workload.failing("alert_unknown_ca").await.failing.unwrap();
    assert!(failing.error.contains("refused our SVID with alert unknown_ca"), "{}", failing.error);
    assert!(failing.error.contains("token_unknown"), "{}", failing.error);
    assert_eq!(workload.serial(), old);
    setup.write("token", &new.token("new"));
    workload
        .until("the new CA has certified it", |state| {
            state.svid.as_ref().is_some_and(|svid| svid.serial.to_string() != old)
        })
        .await;
    assert_eq!(new.issued().len(), 1);
    assert_eq!(new.issued()[0].attestation, "join_token");
    // The new CA counts its bundles from the beginning.
    let material = workload.identity.credentials.current().unwrap();
    assert_eq!(material.trust().bundles(), &new.bundles());
    eventually("the stream goes on", || new.acks().iter().any(|ack| ack.sequence == 1)).await;
    workload.until_ready().await;
}
