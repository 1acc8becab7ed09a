use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use kith_tests::{PodCommand, Sidecar, wait_for};
use serde_json::Value;
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
    stage.show(screen, &stage.front, &psql(stage));
    let (mut session, backend, opening) = open_session(stage, mesh);
    screen.output(&format!("{BACKEND}\n{backend}"));
    let open_since = Instant::now();
    screen.note("The session stays open. Meanwhile front asks nginx again and again, and the sidecars renew:");

    let first = mesh.front.records().len();
    let requests = watch(screen, stage, mesh, &opening);
    let again = session.ask(BACKEND);
    screen.note("Both certificates of the open session have expired by now. The same session, asked again:");
    screen.output(&format!("{BACKEND}\n{again}"));
    screen.blank();
    assert_eq!(again, backend, "PostgreSQL speaks from another session");
    let open_for = open_since.elapsed();
    session.end();
    let seconds = recorded_seconds(mesh, &opening, open_for);
    let (front, web) = serials_of_requests(mesh, stage, first, requests);
    assert!(front.len() > 1 && web.len() > 1, "{requests} requests used the certificates {front:?} and {web:?}");
    screen.fact(&format!(
        "{requests} of {requests} requests answered, over {} certificates of front and {} of web.",
        front.len(),
        web.len()
    ));
    screen.fact(&format!(
        "The session, {seconds:.1} s by the access log of db, outlived both certificates that opened it."
    ));
}

/// How long the session of these certificates was open, which lasted at least this long.
fn recorded_seconds(mesh: &Mesh, opening: &Opening, at_least: Duration) -> f64 {
    wait_for("the session is in the access log of db", Duration::from_secs(10), || {
        let of_the_session = |record: &Value| {
            record["direction"] == "inbound"
                && record["outcome"] == "closed"
                && record["local_serial"] == opening.db.as_str()
                && record["peer_serial"] == opening.front.as_str()
        };
        let records = mesh.db.records().into_iter().filter(of_the_session);
        let mut seconds = records.filter_map(|record| record["duration_ms"].as_f64()).map(|ms| ms / 1000.0);
        seconds.find(|seconds| *seconds >= at_least.as_secs_f64())
    })
}

/// The certificates that an open session began with.
struct Opening {
    front: String,
    db: String,
    both_expired: OffsetDateTime,
}

/// A session, the process that answers it, and the certificates that it certainly began with: those that both sides held
/// before it as well as after.
fn open_session(stage: &Stage, mesh: &Mesh) -> (Session, String, Opening) {
    let held = || [&mesh.front, &mesh.db].map(|sidecar| sidecar.status(&["identity"]));
    loop {
        let [front, db] = held();
        let mut session = Session::begin(psql(stage));
        let backend = session.ask(BACKEND);
        let serials = [&front, &db].map(|identity| text(identity, "serial"));
        if held().map(|identity| text(&identity, "serial")) == serials {
            let both_expired = [&front, &db].map(not_after).into_iter().max().expect("two");
            let [front, db] = serials;
            return (session, backend, Opening { front, db, both_expired });
        }
        session.end();
    }
}

fn psql(stage: &Stage) -> PodCommand {
    stage.psql().arg("-At")
}

fn not_after(identity: &Value) -> OffsetDateTime {
    OffsetDateTime::parse(&text(identity, "not_after"), &Rfc3339).expect("status says RFC 3339")
}

/// Asks nginx until everybody has renewed and the opening's certificates have expired; returns how often.
fn watch(screen: &Screen, stage: &Stage, mesh: &Mesh, opening: &Opening) -> usize {
    let mut held = mesh.sidecars().map(serial);
    let mut renewed = [false; 3];
    let mut requests = 0;
    let begun = Instant::now();
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
