use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use kith_tests::{
    Pod, Sidecar,
    peers::{Nginx, curl, s_client, sha256},
    pki::Files,
    spiffe_id, tcp, wait_until,
};
use serde_json::Value;

use crate::rig::{ECHO, FRONT, Rig, Svid, WEB, assert_openssl_verifies, echo, serial_of, text};

const LONG: Duration = Duration::from_secs(90);
/// Sent in this time at the rate below it.
const TRANSFER: usize = 92 * 200_000;
const RATE: &str = "200000";
const LEGACY: &str = "/ns/shop/sa/legacy";

#[test]
fn of_svids_of_30_s_and_of_their_issuing_authority_of_60_s() {
    let rig = Rig::new(&["--svid-lifetime", "30s", "--issuing-lifetime", "60s"]);
    let nginx = Nginx::start(&rig.server, &[rig.server.at(80)]);
    let (front, web) = (rig.front().ready(), rig.web().ready());
    let legacy = rig.net.pod("legacy");
    let svid = rig.svid(&legacy, LEGACY, &[]);
    let authorities = issuing_authorities(&rig);

    let transfer = Transfer::start(&rig, &nginx);
    let loads = [rig.server.at(ECHO), rig.server.at_v6(ECHO)].map(|to| Load::start(&rig.client, to));
    let began = Instant::now();
    let mut seen_by_openssl = BTreeSet::new();
    while began.elapsed() < LONG {
        seen_by_openssl.insert(ask_by_openssl(&legacy, &rig, &svid));
        assert!(loads.iter().all(|load| !load.thread.is_finished()), "the load has met an error");
        std::thread::sleep(Duration::from_millis(500));
    }
    transfer.finish();
    let connections: usize = loads.map(Load::stop).iter().sum();
    eprintln!("{connections} connections, {} serials seen by openssl", seen_by_openssl.len());
    assert!(connections > 500, "continuously: {connections}");

    assert!(seen_by_openssl.len() >= 4, "serials that openssl has seen of its peer: {seen_by_openssl:?}");
    let issuers = issuers(&rig);
    wait_until("both access logs are whole", Duration::from_secs(20), || {
        with_peer(&front, "outbound", WEB).len() == with_peer(&web, "inbound", FRONT).len()
    });
    assert_all_closed_and_peers_rotated(&front, "outbound", WEB, &issuers);
    assert_all_closed_and_peers_rotated(&web, "inbound", FRONT, &issuers);
    let legacies = serials(&web, "inbound", LEGACY);
    assert!(legacies.len() >= 4, "of the openssl peer's renewed files: {legacies:?}");
    assert!(seen_by_openssl.is_subset(&known(&issuers)), "all of them are the CA's");

    // The root is the one of the beginning; the issuing authority is not.
    let now = issuing_authorities(&rig);
    let active =
        |list: &[Value]| text(list.iter().find(|one| text(one, "state") == "active").unwrap(), "serial").to_owned();
    assert_ne!(active(&authorities), active(&now), "the issuing authority has replaced itself");
    for sidecar in [&front, &web] {
        let log = sidecar.process().stderr();
        let troubled: Vec<_> = log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR")).collect();
        assert!(troubled.is_empty(), "{} has noticed something: {troubled:#?}", sidecar.pod().name());
        let (ready, reason) = sidecar.readiness();
        assert!(ready, "{reason}");
    }
    let log = rig.agent.log();
    assert!(!log.contains(" WARN ") && !log.contains("ERROR"), "the agent has noticed something: {log}");
}

/// One connection of openssl's with what `kith-proxy svid` has written: there and back, and the server's serial number.
fn ask_by_openssl(from: &Pod, rig: &Rig, svid: &Svid) -> String {
    // A copy, so that key and certificate are of the same moment.
    let dir = from.dir_of("copy", 0);
    let (combined, bundle) = (dir.join("combined.pem"), dir.join("bundle.pem"));
    fs::copy(svid.file("svid.combined.pem"), &combined).unwrap();
    fs::copy(svid.file("bundle.pem"), &bundle).unwrap();
    assert_openssl_verifies(&combined, &bundle);
    let files = Files { chain: combined.clone(), key: combined, bundle };
    let mut client = s_client(from, rig.server.at(ECHO), Some(&files))
        .args(["-verify", "3", "-verify_return_error"])
        .stdin_piped()
        .spawn();
    let mut input = client.stdin().unwrap();
    input.write_all(b"is it still you?\n").unwrap();
    client.wait_for_log("is it still you?", Duration::from_secs(20));
    drop(input);
    let finished = client.wait_for_exit(Duration::from_secs(20));
    assert!(finished.status.success(), "openssl was refused: {}{}", finished.text(), finished.stderr);
    serial_of(&finished.text())
}

/// An upload that takes as long as the test: what it has yet to send is nowhere in between.
struct Transfer {
    thread: JoinHandle<(String, Duration)>,
    sent: String,
    arrived: PathBuf,
}

impl Transfer {
    fn start(rig: &Rig, nginx: &Nginx) -> Self {
        let file = rig.net.dir().join("transfer");
        fs::write(&file, tcp::pattern(5, TRANSFER)).unwrap();
        let url = format!("http://{}/upload/transfer", rig.server.at(80));
        let (pod, path) = (rig.client.clone(), file.clone());
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            let upload = curl(&pod, &url).args(["--max-time", "300", "--limit-rate", RATE, "-T"]).arg(&path);
            (upload.timeout(Duration::from_secs(300)).run(), began.elapsed())
        });
        Self { thread, sent: sha256(&file), arrived: nginx.file("upload/transfer") }
    }

    fn finish(self) {
        let (_, took) = self.thread.join().expect("the transfer ends without an error");
        assert!(took >= LONG - Duration::from_secs(5), "it lasted throughout: {took:?}");
        assert_eq!(sha256(&self.arrived), self.sent, "and arrived as it was sent");
    }
}

/// New connections, one after another.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: JoinHandle<Result<(), String>>,
}

impl Load {
    fn start(from: &Pod, to: std::net::SocketAddr) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count, pod) = (Arc::clone(&stop), Arc::clone(&done), from.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let number = count.fetch_add(1, Ordering::SeqCst);
                echo(&pod, to, b"anything new?").map_err(|error| format!("connection {number} to {to}: {error}"))?;
                // Continuously, but other tests want to live as well.
                std::thread::sleep(Duration::from_millis(30));
            }
            Ok(())
        });
        Self { stop, done, thread }
    }

    /// How many there were, all of them whole.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap().unwrap();
        self.done.load(Ordering::SeqCst)
    }
}

/// Every record is of a connection that was closed in order; with this peer it is by at least four serial numbers, of
/// at least two issuing authorities.
fn assert_all_closed_and_peers_rotated(
    sidecar: &Sidecar,
    direction: &str,
    peer: &str,
    issuers: &BTreeMap<String, String>,
) {
    let records: Vec<_> = sidecar.records().into_iter().filter(|record| record["direction"] == direction).collect();
    for record in &records {
        assert_eq!(text(record, "outcome"), "closed", "{record}");
        assert_eq!(text(record, "tls_version"), "TLSv1.3", "{record}");
    }
    let serials = serials(sidecar, direction, peer);
    assert!(serials.len() >= 4, "{}: the peer's serials: {serials:?}", sidecar.pod().name());
    let signed_by: BTreeSet<_> = serials.iter().map(|serial| &issuers[serial]).collect();
    assert!(signed_by.len() >= 2, "{}: under both authorities: {signed_by:?}", sidecar.pod().name());
}

/// The serial numbers that this peer has shown.
fn serials(sidecar: &Sidecar, direction: &str, peer: &str) -> BTreeSet<String> {
    with_peer(sidecar, direction, peer).iter().map(|record| text(record, "peer_serial").to_owned()).collect()
}

fn with_peer(sidecar: &Sidecar, direction: &str, peer: &str) -> Vec<Value> {
    let peer = spiffe_id(peer);
    let records = sidecar.records().into_iter();
    records.filter(|record| record["direction"] == direction && record["peer_id"] == peer).collect()
}

/// Who has issued which serial number.
fn issuers(rig: &Rig) -> BTreeMap<String, String> {
    let all = rig.agent.ask_json(&["identities", "list", "--superseded", "--expired"]);
    let issuer = |one: &Value| (text(one, "serial").to_owned(), text(one, "issuer").to_owned());
    all.as_array().unwrap().iter().map(issuer).collect()
}

fn known(issuers: &BTreeMap<String, String>) -> BTreeSet<String> {
    issuers.keys().cloned().collect()
}

fn issuing_authorities(rig: &Rig) -> Vec<Value> {
    let all = rig.agent.ask_json(&["authority", "list"]);
    let of_role = |role: &str| -> Vec<Value> {
        all.as_array().unwrap().iter().filter(|one| text(one, "role") == role).cloned().collect()
    };
    assert_eq!(of_role("root").len(), 1, "one root: {all}");
    let issuing = of_role("issuing");
    assert_eq!(issuing.iter().filter(|one| text(one, "state") == "active").count(), 1, "one is active: {all}");
    issuing
}
