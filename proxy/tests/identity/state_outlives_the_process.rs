use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, SystemTime},
};

use kith_proxy::identity::{self, Surroundings};
use kith_runtime::{
    clock::{Clock, ManualClock},
    metrics::Registry,
    readiness::Readiness,
};
use tokio_util::sync::CancellationToken;

use crate::{
    ca::Ca,
    workload::{Setup, Workload, eventually},
};

#[tokio::test]
async fn a_restart_keeps_the_identity_without_any_ca() {
    let clock = Clock::system();
    let mut ca = Ca::running(&clock);
    let setup = Setup::of(&ca).bundle_file().token_file().state_dir();
    setup.write("bundle.pem", &ca.root_pem());
    setup.write("token", &ca.token("t"));
    let mut workload = Workload::start(&setup, &clock);
    let serial = workload.certified().await;
    let file = setup.path("state/identity.json");
    eventually("it is kept", || file.exists()).await;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&setup.path("state"))), (0o600, 0o700));
    let before = workload.state();
    drop(workload);
    ca.kill();

    let workload = Workload::start(&setup, &clock);
    workload.until_ready().await;
    assert_eq!(workload.serial(), serial);
    let (then, now) = (before.next_rotation.unwrap(), workload.state().next_rotation.unwrap());
    assert!(then.duration_since(now).unwrap_or_default() < Duration::from_secs(1), "the schedule goes on");
    assert_eq!(workload.identity.credentials.current().unwrap().trust().bundles(), &ca.bundles());
}

#[tokio::test]
async fn what_has_expired_or_is_of_another_ca_is_not_used() {
    let manual = ManualClock::running(SystemTime::now());
    let clock = manual.clock();
    let mut ca = Ca::running(&clock);
    let setup = Setup::of(&ca).bundle_file().token_file().state_dir();
    setup.write("bundle.pem", &ca.root_pem());
    setup.write("token", &ca.token("t"));
    let mut workload = Workload::start(&setup, &clock);
    workload.certified().await;
    eventually("it is kept", || setup.path("state/identity.json").exists()).await;
    drop(workload);
    ca.kill();

    setup.write("bundle.pem", &Ca::new(&clock).root_pem());
    let workload = Workload::start(&setup, &clock);
    assert!(workload.state().svid.is_none(), "the bundle file is another CA's");
    drop(workload);

    setup.write("bundle.pem", &ca.root_pem());
    manual.advance(Duration::from_secs(3700));
    let workload = Workload::start(&setup, &clock);
    assert!(workload.state().svid.is_none(), "it has expired");
}

#[tokio::test]
async fn a_file_that_is_broken_is_no_reason_to_stop() {
    let clock = Clock::system();
    let ca = Ca::running(&clock);
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t")).state_dir();
    fs::create_dir(setup.path("state")).unwrap();
    fs::set_permissions(setup.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
    setup.write("state/identity.json", "{");
    let mut workload = Workload::start(&setup, &clock);
    let serial = workload.certified().await;
    let is_mended = || fs::read_to_string(setup.path("state/identity.json")).unwrap().contains("PRIVATE KEY");
    eventually("it is mended", is_mended).await;
    assert!(!serial.is_empty());
}

#[tokio::test]
async fn a_directory_that_others_reach_is_refused_by_name() {
    let clock = Clock::system();
    let ca = Ca::running(&clock);
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t")).state_dir();
    fs::create_dir(setup.path("state")).unwrap();
    fs::set_permissions(setup.path("state"), fs::Permissions::from_mode(0o755)).unwrap();
    let surroundings = Surroundings {
        clock,
        metrics: identity::Metrics::register(&mut Registry::new()),
        gate: Readiness::new().gate("svid", ""),
        shutdown: CancellationToken::new(),
        version: "",
    };
    let error = identity::start(setup.config(), surroundings).unwrap_err().to_string();
    for part in ["--state-dir", "KITH_STATE_DIR", "0755", "expected mode 0700"] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
}
