//! A sidecar, as a program in a pod.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{Agent, Finished, Pod, PodCommand, Process, http, kith_proxy, wait_for, wait_until};

/// The user that sidecars run as.
pub const SIDECAR_UID: u32 = 5484;

/// A running `kith-proxy`, with its capture.
#[derive(Debug)]
pub struct Sidecar {
    pod: Pod,
    process: Process,
}

/// How to start one.
#[derive(Debug)]
#[must_use]
pub struct Start<'a> {
    pod: &'a Pod,
    agent: &'a Agent,
    mesh_file: &'a Path,
    path: &'a str,
    args: Vec<String>,
    open_files: Option<u64>,
    token: Option<String>,
    ca_address: Option<SocketAddr>,
    capture: bool,
}

impl Sidecar {
    /// A sidecar for the workload with this path of the trust domain, such as `/ns/shop/sa/web`.
    pub fn of<'a>(pod: &'a Pod, agent: &'a Agent, mesh_file: &'a Path, path: &'a str) -> Start<'a> {
        Start {
            pod,
            agent,
            mesh_file,
            path,
            args: Vec::new(),
            open_files: None,
            token: None,
            ca_address: None,
            capture: true,
        }
    }

    /// The pod's capture, by `kith-proxy init`.
    pub fn init(pod: &Pod) {
        pod.command(kith_proxy()).arg("init").run();
    }

    /// The pod that it is in.
    #[must_use]
    pub fn pod(&self) -> &Pod {
        &self.pod
    }

    /// The program.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Asks it to end, and waits for that.
    #[must_use]
    pub fn stop(&self, within: Duration) -> Finished {
        self.process.signal(Signal::TERM);
        self.process.wait_for_exit(within)
    }

    /// Whether it says that it is ready, and why not.
    #[must_use]
    pub fn readiness(&self) -> (bool, String) {
        match http::get(&self.pod, 15020, "/readyz") {
            Ok(answer) => (answer.status == 200, answer.body),
            Err(error) => (false, error.to_string()),
        }
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it ends, or is not ready in time; the reason is then the last thing said.
    #[track_caller]
    pub fn wait_ready(&self) {
        let mut last = String::new();
        wait_until(&format!("the sidecar in {} is ready", self.pod.name()), Duration::from_secs(30), || {
            assert!(self.process.is_running(), "the sidecar ended: {}", self.process.log());
            let (ready, reason) = self.readiness();
            if !ready && reason != last {
                eprintln!("{}: {reason}", self.pod.name());
                last = reason;
            }
            ready
        });
    }

    /// Its access log: a record for each connection that has ended.
    ///
    /// # Panics
    /// When a line is no JSON.
    #[must_use]
    pub fn records(&self) -> Vec<Value> {
        let text = self.process.stdout();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// Waits for a record that has these fields, given as JSON.
    ///
    /// # Panics
    /// When there is none in time; what there is instead is then said.
    #[track_caller]
    pub fn wait_for_record(&self, fields: &Value) -> Value {
        let wanted = fields.as_object().expect("an object of fields");
        let found = || self.records().into_iter().find(|r| wanted.iter().all(|(key, value)| r.get(key) == Some(value)));
        let waiting = format!("a record with {fields} in the access log of {}", self.pod.name());
        wait_for(&waiting, Duration::from_secs(20), || {
            let found = found();
            if found.is_none() && !self.process.is_running() {
                panic!("the sidecar ended without {fields}: {}", self.process.log());
            }
            found
        })
    }

    /// The value of a metric with exactly these labels, such as `kith_connections_open{direction="inbound"}`;
    /// 0 where it is not there.
    ///
    /// # Panics
    /// When the metrics can't be read.
    #[must_use]
    pub fn metric(&self, series: &str) -> f64 {
        let metrics = http::get(&self.pod, 15020, "/metrics").unwrap().body;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// What `kith-proxy status` with these arguments says, as JSON.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn status(&self, args: &[&str]) -> Value {
        let text = self.pod.command(kith_proxy()).args(["status", "-o", "json"]).args(args).run();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl Start<'_> {
    /// More arguments for `kith-proxy run`.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// A bound on its open files.
    pub fn open_files(mut self, limit: u64) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// This join token rather than a fresh one.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Looks for the CA agent there rather than where it is, as for a relay.
    pub fn ca_at(mut self, address: SocketAddr) -> Self {
        self.ca_address = Some(address);
        self
    }

    /// Leaves capture to the test.
    pub fn without_capture(mut self) -> Self {
        self.capture = false;
        self
    }

    /// Sets up capture, starts it, and waits until it is ready.
    pub fn ready(self) -> Sidecar {
        let sidecar = self.begin();
        sidecar.wait_ready();
        sidecar
    }

    /// Sets up capture and starts it.
    pub fn begin(mut self) -> Sidecar {
        if self.capture {
            Sidecar::init(self.pod);
        }
        let token = self.token.take().unwrap_or_else(|| self.agent.token(self.path));
        let file = token_file(self.pod, &token);
        let pod = self.pod.clone();
        Sidecar { process: self.command(&file).spawn(), pod }
    }

    fn command(self, token: &Path) -> PodCommand {
        let ca = self.ca_address.unwrap_or_else(|| self.agent.pod().at(15011));
        let command = identity_args_at(self.pod.command(kith_proxy()).arg("run"), ca, self.agent, token)
            .arg("--mesh-file")
            .arg(self.mesh_file)
            .args(&self.args)
            .uid(SIDECAR_UID);
        match self.open_files {
            Some(limit) => command.open_files(limit),
            None => command,
        }
    }
}

/// The arguments that lead a `kith-proxy run` or `svid` to its identity.
pub fn identity_args(command: PodCommand, agent: &Agent, token: &Path) -> PodCommand {
    identity_args_at(command, agent.pod().at(15011), agent, token)
}

fn identity_args_at(command: PodCommand, ca: SocketAddr, agent: &Agent, token: &Path) -> PodCommand {
    command
        .args(["--trust-domain", crate::agent::TRUST_DOMAIN, "--ca-address"])
        .arg(ca.to_string())
        .arg("--ca-bundle")
        .arg(agent.bundle())
        .arg("--join-token-file")
        .arg(token)
}

/// Writes a join token to a file that only the sidecar's user reads.
///
/// # Panics
/// When it can't.
#[must_use]
pub fn token_file(pod: &Pod, token: &str) -> PathBuf {
    let path = pod.dir().join(format!("{}-token", pod.name()));
    fs::write(&path, token).unwrap();
    chown(&path, Some(SIDECAR_UID), Some(SIDECAR_UID)).unwrap();
    path
}
