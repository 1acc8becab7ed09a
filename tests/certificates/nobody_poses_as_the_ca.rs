use std::{fs, time::Duration};

use kith_tests::{
    Agent, Sidecar, kith_proxy,
    peers::s_server,
    pki::Files,
    sidecar::{SIDECAR_UID, token_file},
    spiffe_id,
};

use crate::{
    relay::Relay,
    rig::{Rig, WEB, svid_command, text, wait_for_reason},
};

#[test]
fn neither_another_ca_nor_a_workload_with_an_svid_and_the_true_one_is_believed() {
    let rig = Rig::new(&[]);
    let (elsewhere, between) = (rig.net.pod("elsewhere"), rig.net.pod("between"));
    // A whole CA agent of the same trust domain, that knows nothing of our token, nor needs to.
    let other = Agent::start(&elsewhere, &[]);
    let relay = Relay::start(&between, 15011, elsewhere.at(15011));
    let token = rig.agent.token(WEB);
    let mutual = rig.agent.pod().at(15012).to_string();
    let sidecar = rig.web().token(&*token).ca_at(relay.address()).args(&["--ca-mtls-address", &mutual]).begin();
    wait_for_reason(&sidecar, &["no SVID yet", "unknown_ca"]);
    assert_counted(&sidecar, "unknown_ca");
    let heard = other.log();
    assert!(!heard.contains("Certificate refused"), "the other CA was asked for nothing: {heard}");

    // A workload of ours, whose SVID every peer believes.
    let poser = obtain(&rig);
    let server = s_server(&between, between.at(443), &poser).args(["-alpn", "h2", "-msg"]).spawn();
    server.wait_for_log("ACCEPT", Duration::from_secs(20));
    relay.lead_to(between.at(443));
    wait_for_reason(&sidecar, &["no SVID yet", "not_expected", &spiffe_id("/kith/ca")]);
    assert_counted(&sidecar, "not_expected");
    server.wait_for_log("access denied", Duration::from_secs(20));
    let secret = token.split('.').next().unwrap();
    assert!(!server.log().contains(secret), "the token was not told to it: {}", server.log());

    // The same sidecar, the same token, the same way: only the end of it is another.
    relay.lead_to(rig.agent.pod().at(15011));
    sidecar.wait_ready();
    assert_eq!(text(&sidecar.status(&["identity"]), "spiffe_id"), spiffe_id(WEB));
}

#[test]
fn a_pin_in_the_token_is_enough_to_know_the_true_one_and_no_other() {
    let rig = Rig::new(&[]);
    let (elsewhere, between) = (rig.net.pod("elsewhere"), rig.net.pod("between"));
    let _other = Agent::start(&elsewhere, &[]);
    let relay = Relay::start(&between, 15011, elsewhere.at(15011));
    let token = token_file(&rig.client, &rig.agent.token(WEB));
    let out = rig.client.dir_of("pinned", SIDECAR_UID);
    let process = rig
        .client
        .command(kith_proxy())
        .args(["svid", "--once", "--trust-domain", "example.org", "--ca-address", &relay.address().to_string()])
        .arg("--join-token-file")
        .arg(&token)
        .arg("--out")
        .arg(&out)
        .uid(SIDECAR_UID)
        .spawn();
    process.wait_for_log("unknown_ca", Duration::from_secs(20));
    assert!(!out.join("svid.pem").exists());
    relay.lead_to(rig.agent.pod().at(15011));
    assert!(process.wait_for_exit(Duration::from_secs(40)).status.success());
    assert!(out.join("svid.pem").exists());
    assert_eq!(fs::read_to_string(out.join("bundle.pem")).unwrap(), fs::read_to_string(rig.agent.bundle()).unwrap());
}

fn obtain(rig: &Rig) -> Files {
    let pod = rig.net.pod("poser");
    let out = pod.dir_of("svid", SIDECAR_UID);
    svid_command(&pod, &rig.agent, "/ns/shop/sa/poser").args(["--once", "--out"]).arg(&out).run();
    Files { chain: out.join("svid.pem"), key: out.join("svid.key.pem"), bundle: out.join("bundle.pem") }
}

fn assert_counted(sidecar: &Sidecar, reason: &str) {
    let series = format!("kith_svid_rotations_total{{result=\"{reason}\"}}");
    assert!(sidecar.metric(&series) >= 1.0, "{series}");
}
