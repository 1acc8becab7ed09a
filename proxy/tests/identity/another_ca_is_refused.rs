use kith_runtime::clock::Clock;

use crate::{
    ca::Ca,
    workload::{Setup, Workload},
};

/// Somebody on the path with a CA of their own, and everything else right.
#[tokio::test]
async fn a_man_in_the_middle_gets_no_token() {
    let clock = Clock::system();
    let (real, liar) = (Ca::new(&clock), Ca::running(&clock));
    let token = real.token("t");
    let by_pin = Setup::of(&liar).with("--join-token").with(&token);
    let by_file = Setup::of(&liar).bundle_file().with("--join-token").with(&token);
    by_file.write("bundle.pem", &real.root_pem());
    for setup in [by_pin, by_file] {
        let mut workload = Workload::start(&setup, &clock);
        let state = workload.failing("unknown_ca").await;
        assert!(state.failing.unwrap().error.contains("expected spiffe://example.org/kith/ca"));
        workload.until_unready("no root of the peer's trust domain signed this chain").await;
        assert!(workload.identity.credentials.current().is_none());
    }
    assert!(liar.issued().is_empty());
}

/// A workload whose SVID is of the right CA, where the CA should be.
#[tokio::test]
async fn a_workload_that_poses_as_the_ca_gets_no_token() {
    let clock = Clock::system();
    let mut ca = Ca::new(&clock);
    ca.present_as("spiffe://example.org/ns/shop/sa/thief");
    ca.run();
    let setup = Setup::of(&ca).bundle_file().with("--join-token").with(&ca.token("t"));
    setup.write("bundle.pem", &ca.root_pem());
    let mut workload = Workload::start(&setup, &clock);
    workload.failing("not_expected").await;
    assert!(ca.issued().is_empty());
}

/// The same in the place of the CA that renews, once there is an identity to lose.
#[tokio::test]
async fn whoever_takes_the_cas_place_later_is_refused_and_the_svid_stays() {
    let manual = kith_runtime::clock::ManualClock::running(std::time::SystemTime::now());
    let clock = manual.clock();
    let mut ca = Ca::running(&clock);
    ca.set_lifetime(std::time::Duration::from_secs(60));
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t"));
    let mut workload = Workload::start(&setup, &clock);
    let serial = workload.certified().await;

    let mut liar = Ca::new(&clock);
    liar.run_in_place_of(&mut ca);
    manual.advance(std::time::Duration::from_secs(35));
    let state = workload.failing("unknown_ca").await;
    assert!(state.failing.unwrap().error.contains("attesting anew failed too"), "the pin is older than the bundle");
    assert_eq!(workload.serial(), serial);
    workload.until_ready().await;
    assert!(liar.issued().is_empty());
}
