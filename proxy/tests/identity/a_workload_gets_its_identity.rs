use kith_runtime::clock::Clock;

use crate::{
    ca::{Ca, WORKLOAD},
    workload::{Setup, Workload},
};

#[tokio::test]
async fn with_a_bundle_file_or_with_nothing_but_a_pin() {
    let clock = Clock::system();
    let ca = Ca::running(&clock);
    let with_file = Setup::of(&ca).bundle_file().token_file();
    with_file.write("bundle.pem", &ca.root_pem());
    // The file counts, whatever a token says.
    let token = ca.token("first");
    with_file.write("token", &token);
    let with_pin = Setup::of(&ca).with("--join-token").with(&ca.token("second"));
    for setup in [with_file, with_pin] {
        let mut workload = Workload::start(&setup, &clock);
        workload.certified().await;
        workload.until_ready().await;
        let material = workload.identity.credentials.current().unwrap();
        assert_eq!(material.svid().id().to_string(), WORKLOAD);
        assert_eq!(material.trust().bundles(), &ca.bundles());
    }
}

#[tokio::test]
async fn and_says_everything_about_it() {
    let clock = Clock::system();
    let ca = Ca::running(&clock);
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t")).with("--pod-name").with("web-0");
    let mut workload = Workload::start(&setup.with("--node-name").with("n1"), &clock);
    let serial = workload.certified().await;
    let issued = ca.issued().remove(0);
    assert_eq!(issued.serial, serial);
    assert_eq!((issued.instance.pod_name.as_str(), issued.instance.node_name.as_str()), ("web-0", "n1"));
    assert_eq!(issued.instance.host, "");

    let state = workload.state();
    let svid = state.svid.unwrap();
    assert_eq!((svid.id.to_string().as_str(), svid.attestation.as_str()), (WORKLOAD, "join_token"));
    assert_eq!((svid.issuer.as_str(), svid.key_type), ("CN=issuing", "ECDSA P-256"));
    assert_eq!((state.rotations, state.last_rotation, state.version), (0, None, "1.2.3"));
    let next = state.next_rotation.unwrap().duration_since(clock.now()).unwrap().as_secs();
    assert!((1600..=1990).contains(&next), "half of an hour, give or take a tenth: {next}");
    assert_eq!(state.failing, None);
    assert!(workload.metric(r#"kith_svid_rotations_total{result="success"} 1"#));
}
