use std::{net::SocketAddr, time::Duration};

use kith_tests::{Sidecar, spiffe_id, wait_for, wait_until};
use serde_json::Value;

use crate::{
    relay::Relay,
    rig::{Rig, WEB, text},
};

/// The server's sidecar, which reaches the CA through a relay that holds back the answer, and the certificate that the
/// CA has committed to for it.
fn with_a_committed_answer(rig: &Rig, relay: &Relay) -> (Sidecar, String) {
    relay.hold_back(true);
    let mutual: SocketAddr = rig.agent.pod().at(15012);
    let sidecar = rig.web().ca_at(relay.address()).args(&["--ca-mtls-address", &mutual.to_string()]).begin();
    let serial = wait_for("the CA has issued a certificate", Duration::from_secs(30), || {
        certificates(rig).first().map(|identity| text(identity, "serial").to_owned())
    });
    wait_until("the relay holds the answer", Duration::from_secs(20), || relay.held_back() > 500);
    let (ready, reason) = sidecar.readiness();
    assert!(!ready && reason.contains("no SVID yet"), "the answer was not passed on: {reason}");
    (sidecar, serial)
}

fn assert_one_certificate(rig: &Rig, sidecar: &Sidecar, serial: &str, relay: &Relay) {
    sidecar.wait_ready();
    let status = sidecar.status(&["identity"]);
    assert_eq!(text(&status, "serial"), serial, "the same certificate again");
    assert_eq!(text(&status, "attestation"), "join_token");
    let all = certificates(rig);
    assert_eq!(all.len(), 1, "and no other was issued: {all:?}");
    assert!(relay.accepted() > 1, "it was asked for again");
    let token = &rig.agent.ask_json(&["token", "list"])[0];
    assert_eq!((text(token, "state"), text(token, "serial")), ("spent", serial), "{token}");
}

fn certificates(rig: &Rig) -> Vec<Value> {
    let id = spiffe_id(WEB);
    let found = rig.agent.ask_json(&["identities", "list", "--superseded", "--expired", "--prefix", &id]);
    found.as_array().unwrap().clone()
}

#[test]
fn that_a_relay_swallowed() {
    let rig = Rig::new(&[]);
    let relay = Relay::start(&rig.net.pod("relay"), 15011, rig.agent.pod().at(15011));
    let (sidecar, serial) = with_a_committed_answer(&rig, &relay);
    relay.hold_back(false);
    relay.cut();
    assert_one_certificate(&rig, &sidecar, &serial, &relay);
}

#[test]
fn of_a_ca_that_was_killed_after_its_commit() {
    let rig = Rig::new(&[]);
    let relay = Relay::start(&rig.net.pod("relay"), 15011, rig.agent.pod().at(15011));
    let (sidecar, serial) = with_a_committed_answer(&rig, &relay);
    rig.agent.kill();
    relay.hold_back(false);
    relay.cut();
    rig.agent.launch();
    assert_one_certificate(&rig, &sidecar, &serial, &relay);
}
