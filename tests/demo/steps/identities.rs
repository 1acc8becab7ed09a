use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use kith_tests::{Agent, Capture, MeshFile, Pod, Sidecar, kith_proxy, spiffe_id};

use super::conversation::text;
use crate::{
    screen::{Screen, as_typed},
    stage::Stage,
};

/// Short, so that rotations can be watched.
pub(super) const LIFETIME: &str = "20s";

/// Sidecars are ready within a second.
const PATIENCE: Duration = Duration::from_secs(30);

const POLICIES: &str = "
policies:
  - name: shop
    layer: {namespace: shop}
    rules:
      - name: from-the-shop
        action: allow
        from:
          - namespace: shop
  - name: database
    layer: {workloads: [db]}
    rules:
      - name: only-front
        action: allow
        ports: [5432]
        from:
          - service_account: {namespace: shop, name: front}
";

/// The control plane and the sidecars, and what they have put on the wire so far.
#[derive(Debug)]
pub(super) struct Mesh {
    pub(super) front: Sidecar,
    pub(super) web: Sidecar,
    pub(super) db: Sidecar,
    pub(super) agent: Agent,
    capture: Option<Capture>,
}

impl Mesh {
    pub(super) fn sidecars(&self) -> [&Sidecar; 3] {
        [&self.front, &self.web, &self.db]
    }

    pub(super) fn take_capture(&mut self) -> Capture {
        self.capture.take().expect("taken once")
    }
}

/// A workload's place in the trust domain.
pub(super) fn path_of(pod: &Pod) -> String {
    format!("/ns/shop/sa/{}", pod.name())
}

pub(super) fn show(screen: &Screen, stage: &Stage) -> Mesh {
    screen.step(
        "Identities",
        "Each workload proves itself once with a one-time token, and gets a certificate that names it for 20 s.",
    );
    // Attestation and issuance are on the wire too.
    let capture = stage.net.capture();
    let agent = Agent::start(&stage.control, &["--svid-lifetime", LIFETIME]);
    screen.command(stage.control.name(), &running(agent.pid(), stage.net.dir()));

    let file = MeshFile::new(&stage.net);
    let file =
        [&stage.front, &stage.web, &stage.db].into_iter().fold(file, |file, pod| file.meshed(pod, &path_of(pod)));
    file.set_rest(POLICIES);
    let begin = |pod: &Pod, is_shown: bool| begin(screen, stage, &agent, file.path(), pod, is_shown);
    let [front, web, db] = [(&stage.front, true), (&stage.web, false), (&stage.db, false)].map(|(pod, is_shown)| {
        let sidecar = begin(pod, is_shown);
        wait_ready(&sidecar);
        if is_shown {
            screen.command(pod.name(), &running(sidecar.process().pid(), stage.net.dir()));
            screen.note("… and the same in web and db. Who holds what, as the CA has recorded it:");
            screen.blank();
        }
        sidecar
    });
    let mesh = Mesh { front, web, db, agent, capture: Some(capture) };
    list(screen, &mesh);
    for sidecar in mesh.sidecars() {
        let identity = sidecar.status(&["identity"]);
        let expected = spiffe_id(&path_of(sidecar.pod()));
        assert_eq!(identity["spiffe_id"], expected, "the sidecar in {} has another identity", sidecar.pod().name());
        let recorded = mesh.agent.ask_json(&["identities", "show", &text(&identity, "serial")]);
        let same = |field: &str, value: &str| recorded[0][field] == value;
        assert!(
            same("spiffe_id", &expected) && same("attestation", "join_token"),
            "the CA has another record of {expected}: {recorded}"
        );
    }
    screen.blank();
    screen.fact("Each sidecar holds the name that its token was made for, in a certificate that the CA has on record.");
    mesh
}

/// What `kith-ca-agent identities list` says, shown.
pub(super) fn list(screen: &Screen, mesh: &Mesh) {
    screen.command(mesh.agent.pod().name(), "kith-ca-agent identities list");
    screen.output(&mesh.agent.ask(&["identities", "list"]));
}

fn begin(screen: &Screen, stage: &Stage, agent: &Agent, mesh_file: &Path, pod: &Pod, is_shown: bool) -> Sidecar {
    let path = path_of(pod);
    let id = spiffe_id(&path);
    let create = ["token", "create", "--spiffe-id", &id];
    let token = agent.ask(&create);
    let init = pod.command(kith_proxy()).arg("init");
    if is_shown {
        screen.command(agent.pod().name(), &format!("kith-ca-agent {}", create.join(" ")));
        screen.output(&format!("{}…", token.get(..12).expect("a token is longer")));
        stage.show(screen, pod, &init);
    }
    init.run();
    Sidecar::of(pod, agent, mesh_file, &path).without_capture().token(token.trim()).begin()
}

fn wait_ready(sidecar: &Sidecar) {
    let name = sidecar.pod().name();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(sidecar.process().is_running(), "the sidecar in {name} ended: {}", sidecar.process().stderr());
        let (is_ready, reason) = sidecar.readiness();
        if is_ready {
            return;
        }
        assert!(Instant::now() < deadline, "the sidecar in {name} is not ready after {PATIENCE:?}: {}", reason.trim());
        thread::sleep(Duration::from_millis(10));
    }
}

/// The command line of a process that runs.
fn running(pid: i32, files: &Path) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).expect("the process runs");
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    let words: Vec<_> = words.map(|word| OsString::from_vec(word.to_vec())).collect();
    as_typed(&words, files)
}
