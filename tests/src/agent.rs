//! The control plane, as a program in a pod.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{Finished, Pod, Process, http, kith_ca_agent, wait_until};

/// The trust domain of every test's mesh.
pub const TRUST_DOMAIN: &str = "example.org";

/// A `kith-ca-agent` that can be killed and started again on the same state.
#[derive(Debug)]
pub struct Agent {
    pod: Pod,
    state: PathBuf,
    bundle: PathBuf,
    args: Vec<String>,
    process: Mutex<Option<Process>>,
}

impl Agent {
    /// Starts one in this pod, with these arguments besides those that every test needs, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(pod: &Pod, args: &[&str]) -> Self {
        let agent = Self::prepare(pod, args);
        agent.launch();
        agent.write_bundle(&agent.bundle);
        agent
    }

    /// Everything but the start.
    #[must_use]
    pub fn prepare(pod: &Pod, args: &[&str]) -> Self {
        let dir = pod.dir_of("agent", 0);
        Self {
            pod: pod.clone(),
            state: dir.join("state"),
            bundle: pod.dir().join(format!("{}-bundle.pem", pod.name())),
            args: args.iter().map(ToString::to_string).collect(),
            process: Mutex::new(None),
        }
    }

    /// Starts it, again or for the first time, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn launch(&self) {
        let process = self
            .pod
            .command(kith_ca_agent())
            .args(["serve", "--trust-domain", TRUST_DOMAIN, "--join-tokens-for-workloads", "--state-dir"])
            .arg(&self.state)
            .args(&self.args)
            .spawn();
        wait_until("the CA agent is ready", Duration::from_secs(20), || {
            assert!(process.is_running(), "the CA agent ended: {}", process.log());
            http::get(&self.pod, 15020, "/readyz").is_ok_and(|answer| answer.status == 200)
        });
        *self.process.lock().unwrap() = Some(process);
    }

    /// Kills it without a word.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&self) {
        self.process.lock().unwrap().take().expect("the agent runs").kill();
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Panics
    /// When it is not running, or does not end in time.
    #[must_use]
    pub fn stop(&self) -> Finished {
        let process = self.process.lock().unwrap().take().expect("the agent runs");
        process.signal(Signal::TERM);
        process.wait_for_exit(Duration::from_secs(20))
    }

    /// Throws its state away: the next start makes a new root.
    ///
    /// # Panics
    /// When it can't.
    pub fn forget(&self) {
        fs::remove_dir_all(&self.state).unwrap();
    }

    /// What it has logged.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.lock().unwrap().as_ref().expect("the agent runs").log()
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.lock().unwrap().as_ref().expect("the agent runs").pid()
    }

    /// Where it runs.
    #[must_use]
    pub fn pod(&self) -> &Pod {
        &self.pod
    }

    /// Its state directory.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// The bundle file that sidecars are given; it holds the roots of this agent's start.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// Writes its trust bundle to a file.
    ///
    /// # Panics
    /// When it does not say it.
    pub fn write_bundle(&self, path: &Path) {
        let fresh = path.with_extension("fresh");
        fs::write(&fresh, self.ask(&["bundle", "show"])).unwrap();
        fs::rename(fresh, path).unwrap();
    }

    /// Makes a join token for this path of the trust domain.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn token(&self, path: &str) -> String {
        let id = spiffe_id(path);
        let created = self.ask_json(&["token", "create", "--spiffe-id", &id]);
        created["token"].as_str().unwrap_or_else(|| panic!("no token in {created}")).to_owned()
    }

    /// Runs one of its local commands.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn ask(&self, args: &[&str]) -> String {
        self.command(args).success()
    }

    /// Runs one of its local commands with `-o json`.
    ///
    /// # Panics
    /// When that fails or is no JSON.
    #[must_use]
    pub fn ask_json(&self, args: &[&str]) -> Value {
        let answer = self.ask(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Runs one of its local commands, however it ends.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Finished {
        let socket = self.state.join("admin.sock");
        self.pod.command(kith_ca_agent()).args(args).arg("--admin-socket").arg(socket).output()
    }
}

/// The SPIFFE ID with this path, which begins with `/`, in the trust domain of every test.
#[must_use]
pub fn spiffe_id(path: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}{path}")
}
