use kith_tests::{
    Sidecar,
    peers::{APPLICATION_UID, sha256},
    spiffe_id,
};
use serde_json::{Value, json};

use super::identities::{Mesh, path_of};
use crate::{screen::Screen, stage::Stage};

const FILE: usize = 16 << 20;
/// The seed of the file's bytes.
const SEED: u64 = 1;

/// Returns how many bytes have passed at least.
pub(super) fn show(screen: &Screen, stage: &Stage, mesh: &Mesh) -> usize {
    screen.step(
        "Through the mesh",
        "The same two commands again. Neither curl, nginx, psql nor PostgreSQL was told or restarted.",
    );
    for (command, expected) in [stage.letter(), stage.note()] {
        let said = stage.run(screen, &stage.front, command);
        assert_eq!(said, expected, "something else came through the mesh");
        screen.output(&said);
    }
    let sum = stage.nginx.put_pattern("file", SEED, FILE);
    let target = stage.front.dir_of("downloads", APPLICATION_UID).join("file");
    stage.run(screen, &stage.front, stage.curl(&stage.front, "/file").arg("-o").arg(&target));
    assert_eq!(sha256(&target), sum, "the file arrived with another checksum");
    screen.note("From both ends' access logs:");
    screen.blank();
    let records = records(stage, mesh);
    screen.table(["LOG OF", "DIRECTION", "DESTINATION", "PEER", "ALLOWED BY"], &records.rows);
    screen.blank();
    screen.fact(&format!("{} MiB arrived with the SHA-256 of what nginx has: {}…", FILE >> 20, &sum[..16]));
    screen.fact("Both ends proved who they are, and each log names the other.");
    screen.fact(&format!("Every one of them: {}.", records.tls));
    FILE
}

struct Records {
    rows: Vec<[String; 5]>,
    tls: String,
}

fn records(stage: &Stage, mesh: &Mesh) -> Records {
    let conversations = [(&mesh.front, &mesh.web, stage.web.at(80)), (&mesh.front, &mesh.db, stage.db.at(5432))];
    let ends = conversations.into_iter().flat_map(|(client, server, destination)| {
        [("outbound", client, server, destination), ("inbound", server, client, destination)]
    });
    let mut rows = Vec::new();
    let mut tls = Vec::new();
    for (direction, sidecar, peer, destination) in ends {
        let record = sidecar.wait_for_record(&json!({
            "direction": direction,
            "original_destination": destination.to_string(),
            "outcome": "closed",
            "local_id": id(sidecar),
            "peer_id": id(peer),
            "tls_version": "TLSv1.3",
        }));
        rows.push([
            sidecar.pod().name().to_owned(),
            direction.to_owned(),
            stage.name_of(destination),
            text(&record, "peer_id"),
            text(&record, "rule"),
        ]);
        tls.push(["tls_version", "cipher_suite", "key_exchange_group"].map(|field| text(&record, field)).join(", "));
    }
    tls.dedup();
    Records { rows, tls: tls.join("; ") }
}

fn id(sidecar: &Sidecar) -> String {
    spiffe_id(&path_of(sidecar.pod()))
}

/// A field of a record; a dash where it has none.
pub(super) fn text(record: &Value, field: &str) -> String {
    record[field].as_str().unwrap_or("-").to_owned()
}
