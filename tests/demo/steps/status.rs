use std::time::Duration;

use kith_tests::{kith_proxy, programs, wait_until};

use super::{
    conversation::text as text_of,
    identities::{Mesh, list},
};
use crate::{screen::Screen, stage::Stage};

pub(super) fn show(screen: &Screen, stage: &Stage, mesh: &Mesh) {
    screen.step(
        "Who is this, until when, and whom does it talk to?",
        "Both programs answer over gRPC; these commands ask. One slow download runs meanwhile.",
    );
    let download = stage.curl(&stage.front, "/file").args(["--limit-rate", "256k"]);
    let _download = download.spawn();
    let destination = stage.web.at(80).to_string();
    for sidecar in [&mesh.front, &mesh.web] {
        wait_until("the download runs", Duration::from_secs(10), || {
            let open = sidecar.status(&["connections"]);
            open.as_array().is_some_and(|all| {
                all.iter().any(|one| one["original_destination"] == destination && one["bytes_received"] != 0)
            })
        });
    }
    let text = stage.run(screen, &stage.front, stage.front.command(kith_proxy()).arg("status"));
    screen.output(&text);
    screen.blank();
    let identity = mesh.front.status(&["identity"]);
    assert!(identity["rotations"].as_u64().is_some_and(|rotations| rotations > 0), "nothing was renewed: {identity}");
    let text = stage.run(screen, &stage.web, stage.web.command(kith_proxy()).args(["status", "connections"]));
    screen.output(&text);
    screen.blank();
    list(screen, mesh);
    screen.blank();
    if let Some(grpcurl) = programs::find_grpcurl() {
        let command = stage.front.command(grpcurl).args(["-plaintext", "127.0.0.1:15022", "list"]);
        let services = stage.run(screen, &stage.front, command);
        assert!(services.contains("kith.status.v1alpha1.IdentityStatus"), "grpcurl sees only {services}");
        screen.output(&services);
        screen.blank();
    }
    for sidecar in mesh.sidecars() {
        let serial = text_of(&sidecar.status(&["identity"]), "serial");
        let recorded = mesh.agent.ask_json(&["identities", "show", &serial]);
        assert_eq!(recorded[0]["serial"], serial, "the CA has no record of what {} holds", sidecar.pod().name());
    }
    screen.fact("Every sidecar knows its own certificate and connections; the CA has each certificate on record.");
}
