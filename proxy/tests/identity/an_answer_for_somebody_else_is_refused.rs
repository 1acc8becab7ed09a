use std::time::{Duration, SystemTime};

use kith_runtime::clock::{Clock, ManualClock};

use crate::{
    ca::{Ca, Spoil},
    workload::{Setup, Workload},
};

#[tokio::test]
async fn whatever_is_wrong_with_it() {
    let clock = Clock::system();
    let ca = Ca::running(&clock);
    for (spoil, words) in [
        (Spoil::OtherKey, "the certificate is for another key"),
        (Spoil::OtherTrustDomain, "spiffe://example.com/ns/shop/sa/web, which is not of our trust domain"),
        (Spoil::NoBundles, "there are no trust bundles in it"),
        (Spoil::NoCertificate, "the certificate chain is empty"),
    ] {
        ca.spoil(Some(spoil));
        let setup = Setup::of(&ca).token_file();
        setup.write("token", &ca.token(&format!("{spoil:?}")));
        let mut workload = Workload::start(&setup, &clock);
        let error = workload.failing("bad_answer").await.failing.unwrap().error;
        assert!(error.contains(words), "{error}");
        assert!(workload.identity.credentials.current().is_none());
        ca.spoil(None);
        setup.write("token", &ca.token(&format!("good after {spoil:?}")));
        workload.certified().await;
    }
}

#[tokio::test]
async fn a_renewal_cannot_change_the_name() {
    let manual = ManualClock::running(SystemTime::now());
    let clock = manual.clock();
    let ca = Ca::running(&clock);
    ca.set_lifetime(Duration::from_secs(20));
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t"));
    let mut workload = Workload::start(&setup, &clock);
    let serial = workload.certified().await;
    ca.spoil(Some(Spoil::OtherId));
    manual.advance(Duration::from_secs(11));
    let error = workload.failing("bad_answer").await.failing.unwrap().error;
    assert!(error.contains("a renewal was asked for, and the certificate is for"), "{error}");
    assert_eq!(workload.serial(), serial);
    ca.spoil(None);
    workload.until("it has renewed", |state| state.rotations == 1).await;
}
