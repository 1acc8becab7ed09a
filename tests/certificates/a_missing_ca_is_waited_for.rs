use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use kith_tests::{Sidecar, peers::s_client, tcp, wait_until};
use serde_json::json;

use crate::rig::{ECHO, FRONT, Rig, WEB, echo, ping, text, wait_for_reason};

#[test]
fn from_the_very_start_without_a_byte_in_plaintext_and_it_heals_by_itself() {
    let rig = Rig::before_its_agent(&[]);
    let pods = [(&rig.client, FRONT), (&rig.server, WEB)];
    pods.iter().for_each(|(pod, _)| Sidecar::init(pod));
    let capture = rig.net.capture();
    let (tries, marker) = (Arc::new(AtomicUsize::new(0)), tcp::marker(6));
    let application = {
        let (pod, to, tries, marker) = (rig.client.clone(), rig.server.at(ECHO), Arc::clone(&tries), marker.clone());
        std::thread::spawn(move || {
            while echo(&pod, to, marker.as_bytes()).is_err() {
                tries.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(50));
            }
        })
    };
    let patience = ["--first-answer-timeout", "1s"];
    let start = |start: kith_tests::sidecar::Start<'_>| start.token("of-no-agent").args(&patience).begin();
    let sidecars = [start(rig.front()), start(rig.web())];

    // Neither a CA nor a bundle; then a bundle, but a CA that is down; then a CA that does not know the token.
    let bundle = rig.agent.bundle().file_name().unwrap().to_str().unwrap();
    sidecars.iter().for_each(|sidecar| wait_for_reason(sidecar, &["svid:", "no SVID yet", bundle]));
    rig.agent.launch();
    rig.agent.write_bundle(rig.agent.bundle());
    rig.agent.kill();
    sidecars.iter().for_each(|sidecar| wait_for_reason(sidecar, &["no SVID yet", "15011 can't be reached"]));
    let status = sidecars[0].status(&[]);
    assert!(text(&status, "no_identity_because").contains("can't be reached"), "status says why too: {status}");
    rig.agent.launch();
    sidecars.iter().for_each(|sidecar| wait_for_reason(sidecar, &["no SVID yet", "token_unknown"]));
    let before = tries.load(Ordering::SeqCst);
    wait_until("the application has tried again", Duration::from_secs(20), || tries.load(Ordering::SeqCst) > before);
    assert!(!application.is_finished(), "it reaches nobody");
    assert_eq!(rig.echoes.each_ref().map(tcp::Server::accepted), [0, 0], "nobody reaches the other application");
    sidecars[0].wait_for_record(&json!({"direction": "outbound", "outcome": "failed", "reason": "no_svid"}));

    pods.iter().for_each(|(pod, path)| rig.give_token(pod, path));
    sidecars.iter().for_each(Sidecar::wait_ready);
    wait_until("the application gets through", Duration::from_secs(30), || application.is_finished());
    application.join().unwrap();
    sidecars[0].wait_for_record(&json!({"direction": "outbound", "outcome": "closed", "tls_version": "TLSv1.3"}));

    let captured = capture.stop();
    assert!(captured.assert_only_tls13() > 0, "something was on the wire");
    assert!(captured.ports().contains(&ECHO), "the application's connection too");
    assert!(!captured.contains(marker.as_bytes()), "nothing of it in plaintext");
    captured.assert_nothing_beyond_tcp();
}

#[test]
fn later_nothing_shows_until_expiry_then_new_connections_fail_closed_and_it_heals() {
    let rig = Rig::new(&["--svid-lifetime", "20s"]);
    let sidecars = [rig.front().ready(), rig.web().ready()];
    let [front, web] = &sidecars;
    let open = rig.dial().unwrap();
    ping(&open, b"while all is well").unwrap();

    away_for_a_while_is_not_noticed(&rig, &sidecars);
    ping(&open, b"after a restart of the CA").unwrap();

    rig.agent.kill();
    let last = sidecars.iter().map(expiry).min().unwrap();
    let mut connections = 0;
    while SystemTime::now() + Duration::from_secs(2) < last {
        rig.echo().unwrap_or_else(|error| panic!("before the expiry, connection {connections}: {error}"));
        connections += 1;
        for sidecar in &sidecars {
            let (ready, reason) = sidecar.readiness();
            assert!(ready || SystemTime::now() >= last, "ready until the expiry: {reason}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(connections > 10, "there was time to see it: {connections}");
    let status = front.status(&["identity"]);
    assert!(text(&status, "last_error").contains("can't be reached"), "status knows before: {status}");
    assert!(front.metric("kith_svid_rotations_total{result=\"unreachable\"}") >= 1.0);

    // Fails closed, and says why.
    sidecars.iter().for_each(|sidecar| wait_for_reason(sidecar, &["the SVID expired at", "can't be reached"]));
    // The reset may outrun the look at the connection that was made.
    let ended = rig.dial().and_then(|mut refused| refused.read(&mut [0; 1])).map_err(|error| error.kind());
    assert_eq!(ended, Err(io::ErrorKind::ConnectionReset), "a new connection is reset");
    front.wait_for_record(&json!({"direction": "outbound", "outcome": "refused", "reason": "own_svid_expired"}));
    let hello = s_client(&rig.net.pod("stranger"), rig.server.at(ECHO), None).output();
    assert!(!hello.text().contains("BEGIN CERTIFICATE"), "an expired SVID is never presented: {}", hello.text());
    web.wait_for_record(&json!({"direction": "inbound", "outcome": "refused", "reason": "own_svid_expired"}));
    let status = front.status(&["identity"]);
    assert!(text(&status, "last_error").contains("can't be reached"), "{status}");
    let table = rig.client.command(kith_tests::kith_proxy()).arg("status").run();
    let says = |name: &str, what: &str| table.lines().any(|line| line.starts_with(name) && line.contains(what));
    assert!(says("valid until", "ago)") && says("last error", "can't be reached"), "the table says it: {table}");
    ping(&open, b"open connections live on").unwrap();

    // The CA is back. The SVIDs are no proof any more and the tokens are spent: that is said, until there are others.
    rig.agent.launch();
    sidecars.iter().for_each(|sidecar| wait_for_reason(sidecar, &["the SVID expired at", "token_spent"]));
    rig.give_token(&rig.client, FRONT);
    rig.give_token(&rig.server, WEB);
    sidecars.iter().for_each(Sidecar::wait_ready);
    rig.echo().unwrap();
    ping(&open, b"through all of it").unwrap();
    let status = front.status(&["identity"]);
    assert_eq!((&status["last_error"], text(&status, "attestation")), (&json!(null), "join_token"), "{status}");
}

/// Killed, missed by a renewal, and started again before anything has expired.
fn away_for_a_while_is_not_noticed(rig: &Rig, sidecars: &[Sidecar; 2]) {
    let renewed = |sidecar: &Sidecar| sidecar.metric("kith_svid_rotations_total{result=\"success\"}");
    rig.agent.kill();
    wait_until("both have missed the CA", Duration::from_secs(30), || {
        rig.echo().unwrap();
        let missed = |sidecar: &Sidecar| sidecar.metric("kith_svid_rotations_total{result=\"unreachable\"}") >= 1.0;
        sidecars.iter().all(missed)
    });
    let before = sidecars.each_ref().map(renewed);
    rig.agent.launch();
    wait_until("both have renewed their SVIDs", Duration::from_secs(30), || {
        rig.echo().unwrap();
        let (ready, reasons): (Vec<_>, Vec<_>) = sidecars.iter().map(Sidecar::readiness).unzip();
        assert_eq!(ready, [true, true], "{reasons:?}");
        sidecars.iter().zip(before).all(|(sidecar, before)| renewed(sidecar) > before)
    });
    for sidecar in sidecars {
        let status = sidecar.status(&["identity"]);
        assert_eq!(text(&status, "attestation"), "current_svid", "no other token was needed: {status}");
    }
}

fn expiry(sidecar: &Sidecar) -> SystemTime {
    let seconds = sidecar.metric("kith_svid_expiry_seconds");
    assert!(seconds > 0.0);
    SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds)
}
