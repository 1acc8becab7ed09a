use std::time::{Duration, SystemTime};

use kith_runtime::clock::{Clock, ManualClock};

use crate::{
    ca::{Ack, Ca},
    workload::{Setup, Workload, eventually},
};

fn sequence(workload: &Workload) -> u64 {
    workload.identity.credentials.current().unwrap().trust().bundles().sequence
}

fn has_acknowledged(ca: &Ca, serial: &str, sequence: u64) -> bool {
    ca.acks().contains(&Ack { serial: Some(serial.to_owned()), sequence })
}

#[tokio::test]
async fn a_change_is_applied_and_then_acknowledged_for_the_svid_in_force() {
    let manual = ManualClock::running(SystemTime::now());
    let clock = manual.clock();
    let (ca, other) = (Ca::running(&clock), Ca::new(&clock));
    ca.set_lifetime(Duration::from_secs(20));
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t"));
    let mut workload = Workload::start(&setup, &clock);
    let first = workload.certified().await;
    eventually("the stream is up", || workload.metric("kith_ca_stream_connected 1")).await;

    ca.stream_bundle_with(2, &other);
    eventually("it is acknowledged", || has_acknowledged(&ca, &first, 2)).await;
    let material = workload.identity.credentials.current().unwrap();
    assert_eq!(material.trust().bundles().iter().next().unwrap().authorities().len(), 2);
    assert_eq!(material.svid().serial().to_string(), first, "the SVID stays");
    assert!(workload.metric("kith_trust_bundle_sequence 2"));

    manual.advance(Duration::from_secs(11));
    workload.until("it has renewed", |state| state.rotations == 1).await;
    let second = workload.serial();
    eventually("the new SVID acknowledges too", || has_acknowledged(&ca, &second, 2)).await;
}

#[tokio::test]
async fn a_stream_never_goes_back_and_another_one_may() {
    let clock = Clock::system();
    let mut ca = Ca::new(&clock);
    ca.stream_bundle(5);
    ca.run();
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t"));
    let mut workload = Workload::start(&setup, &clock);
    let serial = workload.certified().await;
    eventually("the stream is up", || has_acknowledged(&ca, &serial, 5)).await;
    let before = ca.acks().len();

    ca.stream_bundle(4);
    // The stream that went back is left. The next one begins with what was in force: by that the CA knows.
    eventually("another stream has begun", || ca.acks().len() > before).await;
    assert_eq!(ca.acks()[before].sequence, 5, "it was not applied on the stream that went back");
    eventually("the new stream's set is in force", || has_acknowledged(&ca, &serial, 4)).await;
    assert_eq!(sequence(&workload), 4);
}

#[tokio::test]
async fn a_broken_stream_is_mended_and_what_is_there_stays() {
    let clock = Clock::system();
    let mut ca = Ca::running(&clock);
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t"));
    let mut workload = Workload::start(&setup, &clock);
    let serial = workload.certified().await;
    eventually("the stream is up", || workload.metric("kith_ca_stream_connected 1")).await;
    ca.kill();
    eventually("the stream is down", || workload.metric("kith_ca_stream_connected 0")).await;
    assert_eq!(sequence(&workload), 1);
    workload.until_ready().await;
    ca.stream_bundle(2);
    ca.run();
    eventually("it has caught up", || has_acknowledged(&ca, &serial, 2)).await;
    eventually("the stream is up again", || workload.metric("kith_ca_stream_connected 1")).await;
}

#[tokio::test]
async fn a_bundle_that_disowns_the_svid_renews_it_at_once() {
    let clock = Clock::system();
    let (mut ca, mut other) = (Ca::running(&clock), Ca::new(&clock));
    let setup = Setup::of(&ca).token_file();
    setup.write("token", &ca.token("old"));
    let mut workload = Workload::start(&setup, &clock);
    let serial = workload.certified().await;
    eventually("the stream is up", || has_acknowledged(&ca, &serial, 1)).await;

    // The CA withdraws its root in favour of another one, and is then replaced by it.
    ca.stream_bundle_of(2, &other);
    workload.until("it is disowned", |state| !state.trusted).await;
    workload.until_unready("the trust bundle no longer vouches for the SVID").await;
    setup.write("token", &other.token("new"));
    other.stream_bundle(3);
    other.run_in_place_of(&mut ca);
    workload.until("it has another one, long before the time", |state| state.rotations == 1 && state.trusted).await;
    workload.until_ready().await;
    assert_eq!(sequence(&workload), 3);
}
