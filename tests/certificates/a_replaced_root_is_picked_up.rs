use std::{fs, time::Duration};

use kith_tests::{Sidecar, wait_until};

use crate::rig::{FRONT, Rig, WEB, ping, text};

#[test]
fn behind_a_running_sidecars_bundle_file_without_a_restart() {
    let rig = Rig::new(&["--svid-lifetime", "12s"]);
    let sidecars = [rig.front().ready(), rig.web().ready()];
    let open = rig.dial().unwrap();
    ping(&open, b"under the old root").unwrap();
    let (old_root, old_issuers) = (fs::read(rig.agent.bundle()).unwrap(), sidecars.each_ref().map(issuer));

    assert_eq!(rig.agent.stop().code(), Some(0));
    rig.agent.forget();
    rig.agent.launch();
    rig.agent.write_bundle(rig.agent.bundle());
    assert_ne!(fs::read(rig.agent.bundle()).unwrap(), old_root, "it is another root");
    rig.give_token(&rig.client, FRONT);
    rig.give_token(&rig.server, WEB);

    wait_until("both have SVIDs under the new root", Duration::from_secs(60), || {
        assert!(sidecars.iter().all(|sidecar| sidecar.process().is_running()), "without a restart");
        sidecars.iter().zip(&old_issuers).all(|(sidecar, old)| issuer(sidecar) != *old)
    });
    sidecars.iter().for_each(Sidecar::wait_ready);
    rig.echo().unwrap();
    ping(&open, b"open connections live on").unwrap();
    for sidecar in &sidecars {
        let status = sidecar.status(&["identity"]);
        let known = rig.agent.ask_json(&["identities", "show", text(&status, "serial")]);
        assert_eq!(text(&known[0], "spiffe_id"), text(&status, "spiffe_id"), "the new CA knows it");
    }
    wait_until("both follow the new CA's trust bundles", Duration::from_secs(40), || {
        sidecars.iter().all(|sidecar| sidecar.metric("kith_ca_stream_connected") >= 1.0)
    });

    // From now on it is as it ever was: renewals go by SVID.
    wait_until("both renew under the new root", Duration::from_secs(40), || {
        sidecars.iter().all(|sidecar| text(&sidecar.status(&["identity"]), "attestation") == "current_svid")
    });
    rig.echo().unwrap();
}

fn issuer(sidecar: &Sidecar) -> String {
    text(&sidecar.status(&["identity"]), "issuer").to_owned()
}
