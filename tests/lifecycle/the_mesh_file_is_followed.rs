use std::{fs, time::Duration};

use kith_tests::{Sidecar, tcp::Server, wait_until};
use serde_json::json;

use crate::rig::{Rig, WEB, assert_refused_by_reset, echo};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn absent_at_start_it_is_not_ready_and_heals_and_a_later_broken_one_changes_nothing() {
    let rig = Rig::new();
    let _echo = Server::echo(&rig.server, rig.server.at(7001));
    let _client = rig.front().ready();
    let path = rig.net.dir_of("followed", 0).join("mesh.yaml");
    let good = fs::read_to_string(rig.mesh.path()).unwrap();
    let put = |text: &str| {
        let fresh = path.with_extension("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, &path).unwrap();
    };
    let sidecar = Sidecar::of(&rig.server, &rig.agent, &path, WEB).begin();
    let not_ready = |sidecar: &Sidecar, why: &str| {
        wait_until(&format!("not ready because of {why:?}"), SOON, || {
            let (ready, reason) = sidecar.readiness();
            !ready && reason.contains("mesh:") && reason.contains(why)
        });
    };
    let loads = |result: &str| sidecar.metric(&format!("kith_mesh_file_loads_total{{result=\"{result}\"}}"));

    not_ready(&sidecar, "mesh.yaml can't be read");
    assert_eq!(loads("unreadable"), 1.0);
    put("trust_domain: example.org\nmesh_networks: [10.88.0.0/16]\nworklods: []\n");
    not_ready(&sidecar, "line 3");
    assert_eq!(loads("syntax"), 1.0);
    put("trust_domain: elsewhere.example\nmesh_networks: [10.88.0.0/16]\nworkloads: []\n");
    not_ready(&sidecar, "elsewhere.example");
    put("trust_domain: example.org\nmesh_networks: [10.88.0.0/16]\nworkloads: []\n");
    not_ready(&sidecar, "lists no workload");
    assert_eq!(loads("not_listed"), 1.0);
    assert_eq!(loads("loaded"), 0.0);
    put(&good);
    sidecar.wait_ready();
    assert_eq!(loads("loaded"), 1.0);
    echo(&rig.client, rig.server.at(7001), b"healed").unwrap();

    for (broken, result) in [("{", "syntax"), ("mesh_networks: []\n", "syntax")] {
        let before = loads(result);
        put(broken);
        wait_until("the broken file is noticed", SOON, || loads(result) == before + 1.0);
        assert_eq!(sidecar.readiness(), (true, "ok".to_owned()), "the last good one stays");
        echo(&rig.client, rig.server.at(7001), b"as before").unwrap();
    }
    let before = loads("unreadable");
    fs::remove_file(&path).unwrap();
    wait_until("the loss is noticed", SOON, || loads("unreadable") == before + 1.0);
    assert!(sidecar.readiness().0, "the last good one stays");
    echo(&rig.client, rig.server.at(7001), b"as before").unwrap();
    sidecar.process().wait_for_log("the last good one stays in force", SOON);

    let deny = "policies: [{name: p, layer: mesh, rules: [{name: r, action: deny, from: [{namespace: shop}]}]}]\n";
    put(&format!("{good}\n{deny}"));
    wait_until("a mended file is in force", SOON, || loads("loaded") == 2.0);
    assert_refused_by_reset(&rig.client, rig.server.at(7001), "denied by the new policy");
    sidecar.wait_for_record(
        &json!({"direction": "inbound", "outcome": "refused", "reason": "not_allowed", "rule": "p/r"}),
    );
    assert!(sidecar.readiness().0);
}
