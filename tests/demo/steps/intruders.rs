use std::{path::PathBuf, time::Duration};

use kith_tests::{
    Leaf, Pki, Pod, PodCommand, agent::TRUST_DOMAIN, kith_proxy, peers::APPLICATION_UID, sidecar, spiffe_id,
};
use serde_json::{Value, json};

use super::{
    conversation::text,
    identities::{Mesh, path_of},
};
use crate::{screen::Screen, stage::Stage};

const PATIENCE: Duration = Duration::from_secs(20);
const VISITOR: &str = "/ns/guests/sa/visitor";

pub(super) fn show(screen: &Screen, stage: &Stage, mesh: &Mesh) {
    screen.step(
        "Intruders",
        "Another pod on the same wire wants to reach nginx. Whoever proves no name that policy allows never does.",
    );
    plaintext(screen, stage, mesh);
    let alert = |title: &str, files: Option<&Files>, alert: &str, reason: &str| {
        speak_tls(screen, stage, mesh, title, files, alert, reason)
    };
    alert("No certificate.", None, "certificate required", "no_certificate");
    let forged = forged(stage);
    let title = format!("A certificate for {}, from a CA of the intruder's own.", spiffe_id(&path_of(&stage.front)));
    alert(&title, Some(&forged), "unknown ca", "unknown_ca");
    let genuine = genuine(stage, mesh);
    let title = format!("A genuine certificate, for {}, whom no rule allows.", spiffe_id(VISITOR));
    alert(&title, Some(&genuine), "access denied", "not_allowed");
    screen.fact("Four attempts, four reasons; the sidecar did not dial nginx for any of them.");
}

struct Files {
    chain: PathBuf,
    key: PathBuf,
}

fn plaintext(screen: &Screen, stage: &Stage, mesh: &Mesh) {
    screen.note("Plaintext.");
    let command = stage.curl(&stage.intruder, "/letter");
    stage.show(screen, &stage.intruder, &command);
    let finished = command.output();
    assert!(!finished.status.success() && finished.stdout.is_empty(), "plaintext was answered: {}", finished.text());
    screen.output(&finished.stderr);
    record(screen, stage, mesh, "plaintext_on_strict");
}

fn speak_tls(
    screen: &Screen,
    stage: &Stage,
    mesh: &Mesh,
    title: &str,
    files: Option<&Files>,
    alert: &str,
    reason: &str,
) {
    screen.note(title);
    let command = s_client(stage, &stage.intruder, files);
    stage.show(screen, &stage.intruder, &command);
    // With its input open it stays until the server has spoken: in TLS 1.3 a client is done before it is refused.
    let process = command.stdin_piped().spawn();
    let finished = process.wait_for_exit(PATIENCE);
    let said = finished.stderr.lines().find_map(|line| line.split(':').find(|part| part.contains(" alert ")));
    let said = said.unwrap_or_else(|| panic!("openssl was sent no alert:\n{}", finished.stderr));
    assert!(said.ends_with(alert), "openssl was sent another alert than {alert}: {said}");
    screen.output(&format!("openssl: {said}"));
    record(screen, stage, mesh, reason);
}

/// What the sidecar of web wrote about it.
fn record(screen: &Screen, stage: &Stage, mesh: &Mesh, reason: &str) {
    let record = mesh.web.wait_for_record(&json!({"direction": "inbound", "outcome": "refused", "reason": reason}));
    let client = text(&record, "client");
    let from = format!("{}:", stage.intruder.v4());
    assert!(client.starts_with(&from), "{reason} was recorded of {client}");
    assert_eq!(record["dialled"], Value::Null, "nginx was dialled for {client}");
    assert_eq!(record["bytes_received"], 0, "bytes of {client} went on");
    let detail = record["detail"].as_str().map(|detail| format!(" ({detail})")).unwrap_or_default();
    screen.output(&format!("web's access log: {}, {}{detail}", text(&record, "outcome"), text(&record, "reason")));
    screen.blank();
}

fn s_client(stage: &Stage, from: &Pod, files: Option<&Files>) -> PodCommand {
    let to = stage.web.at(80).to_string();
    let command = from.command("openssl").args(["s_client", "-connect", &to, "-noservername"]);
    let Some(files) = files else { return command };
    command.arg("-cert").arg(&files.chain).arg("-cert_chain").arg(&files.chain).arg("-key").arg(&files.key)
}

/// The right name, vouched for by the wrong one.
fn forged(stage: &Stage) -> Files {
    let dir = stage.intruder.dir_of("forged", APPLICATION_UID);
    let files = Pki::new(TRUST_DOMAIN).write(&Leaf::of(spiffe_id(&path_of(&stage.front))), &dir, APPLICATION_UID);
    Files { chain: files.chain, key: files.key }
}

/// A name of this mesh, honestly obtained, that no rule allows.
fn genuine(stage: &Stage, mesh: &Mesh) -> Files {
    let dir = stage.intruder.dir_of("genuine", APPLICATION_UID);
    let token = sidecar::token_file(&stage.intruder, &mesh.agent.token(VISITOR));
    let command = stage.intruder.command(kith_proxy()).args(["svid", "--once"]);
    sidecar::identity_args(command, &mesh.agent, &token).arg("--out").arg(&dir).run();
    Files { chain: dir.join("svid.pem"), key: dir.join("svid.key.pem") }
}
