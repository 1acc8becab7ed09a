use std::{collections::BTreeSet, thread, time::Duration};

use kith_tests::{Sidecar, wait_for, wait_until};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    conversation::text,
    identities::{LIFETIME, Mesh},
};
use crate::{screen::Screen, session::Session, stage::Stage};

/// Several lifetimes.
const PATIENCE: Duration = Duration::from_secs(90);
/// The time between two requests.
const PACE: Duration = Duration::from_millis(100);
const BACKEND: &str = "select pg_backend_pid();";

pub(super) fn show(screen: &Screen, stage: &Stage, mesh: &Mesh) {
    screen.step(
        "A rotation that nobody notices",
        "Certificates live 20 s here. Sidecars renew them at half time; connections that are open stay open.",
    );
    assert_eq!(LIFETIME, "20s", "the text above says so");
    let psql = stage.psql().arg("-At");
    stage.show(screen, &stage.front, &psql);
    let mut session = Session::begin(psql);
    let backend = session.ask(BACKEND);
    screen.output(&format!("{BACKEND}\n{backend}"));
    let opening = opened_with(stage, mesh);
    screen.note("The session stays open. Meanwhile front asks nginx again and again, and the sidecars renew:");

    let first = mesh.front.records().len();
    let requests = watch(screen, stage, mesh, &opening);
    let again = session.ask(BACKEND);
    screen.note("Both certificates of the open session have expired by now. The same session, asked again:");
    screen.output(&format!("{BACKEND}\n{again}"));
    screen.blank();
    assert_eq!(again, backend, "PostgreSQL speaks from another session");
    session.end();
    let record = mesh.db.wait_for_record(&json!({
        "direction": "inbound", "outcome": "closed", "local_serial": opening.db, "peer_serial": opening.front,
    }));
    let (front, web) = serials_of_requests(mesh, stage, first, requests);
    assert!(front.len() > 1 && web.len() > 1, "{requests} requests used the certificates {front:?} and {web:?}");
    screen.fact(&format!(
        "{requests} of {requests} requests answered, over {} certificates of front and {} of web.",
        front.len(),
        web.len()
    ));
    screen.fact(&format!(
        "The session of {:.1} s outlived both certificates that opened it.",
        record["duration_ms"].as_f64().unwrap_or_default() / 1000.0
    ));
}

/// The certificates that an open session began with.
struct Opening {
    front: String,
    db: String,
    both_expired: OffsetDateTime,
}

/// What the sidecars hold now; if one renews at this very moment, its session began with the one before.
fn opened_with(stage: &Stage, mesh: &Mesh) -> Opening {
    let port = stage.db.at(5432).to_string();
    wait_until("the session is open on both sides", Duration::from_secs(10), || {
        [&mesh.front, &mesh.db].iter().all(|sidecar| {
            let open = sidecar.status(&["connections"]);
            open.as_array().is_some_and(|all| all.iter().any(|one| one["original_destination"] == port))
        })
    });
    let [front, db] = [&mesh.front, &mesh.db].map(|sidecar| sidecar.status(&["identity"]));
    let both_expired = [&front, &db].map(not_after).into_iter().max().expect("two");
    Opening { front: text(&front, "serial"), db: text(&db, "serial"), both_expired }
}

fn not_after(identity: &Value) -> OffsetDateTime {
    OffsetDateTime::parse(&text(identity, "not_after"), &Rfc3339).expect("status says RFC 3339")
}

/// Asks nginx until everybody has renewed and the opening's certificates have expired; returns how often.
fn watch(screen: &Screen, stage: &Stage, mesh: &Mesh, opening: &Opening) -> usize {
    let mut held = mesh.sidecars().map(serial);
    let mut renewed = [false; 3];
    let mut requests = 0;
    let begun = std::time::Instant::now();
    wait_for("every certificate is renewed, and the first ones have expired", PATIENCE, || {
        let (command, expected) = stage.letter();
        let said = command.run();
        assert_eq!(said, expected, "request {requests} was answered differently");
        requests += 1;
        for ((sidecar, held), renewed) in mesh.sidecars().into_iter().zip(&mut held).zip(&mut renewed) {
            let now = serial(sidecar);
            if now != *held {
                let seconds = begun.elapsed().as_secs_f64();
                let name = sidecar.pod().name();
                screen.output(&format!("{seconds:5.1} s  {name:<6} {}… → {}…", &held[..16], &now[..16]));
                (*held, *renewed) = (now, true);
            }
        }
        thread::sleep(PACE);
        let expired = OffsetDateTime::now_utc() > opening.both_expired;
        (expired && renewed.iter().all(|one| *one)).then_some(requests)
    })
}

fn serial(sidecar: &Sidecar) -> String {
    text(&sidecar.status(&["identity"]), "serial")
}

/// The certificates of front and of web that these requests were made with, by the access log.
fn serials_of_requests(
    mesh: &Mesh,
    stage: &Stage,
    first: usize,
    requests: usize,
) -> (BTreeSet<String>, BTreeSet<String>) {
    let destination = stage.web.at(80).to_string();
    let records = wait_for("every request is in the access log", Duration::from_secs(10), || {
        let records = mesh.front.records().into_iter().skip(first);
        let to_web: Vec<_> = records.filter(|record| record["original_destination"] == destination).collect();
        (to_web.len() >= requests).then_some(to_web)
    });
    assert!(records.iter().all(|record| record["outcome"] == "closed"), "not every request ended well: {records:?}");
    let serials = |field: &str| records.iter().map(|record| text(record, field)).collect();
    (serials("local_serial"), serials("peer_serial"))
}
