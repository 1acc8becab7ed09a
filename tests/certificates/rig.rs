//! An agent, two pods that have sidecars once a test starts them, and an application that echoes in one of them.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use kith_tests::{
    Agent, MeshFile, Net, Pod, PodCommand, Process, Sidecar, kith_proxy,
    sidecar::{SIDECAR_UID, Start, identity_args, token_file},
    spiffe_id,
    tcp::{self, Server},
    wait_until,
};
use serde_json::Value;

/// The client's SPIFFE ID's path.
pub(crate) const FRONT: &str = "/ns/shop/sa/front";
/// The server's.
pub(crate) const WEB: &str = "/ns/shop/sa/web";
/// Where the server's application echoes.
pub(crate) const ECHO: u16 = 7001;

pub(crate) struct Rig {
    pub(crate) agent: Agent,
    pub(crate) mesh: MeshFile,
    pub(crate) client: Pod,
    pub(crate) server: Pod,
    pub(crate) echoes: [Server; 2],
    pub(crate) net: Net,
}

impl Rig {
    /// With an agent that runs, given these arguments.
    pub(crate) fn new(agent: &[&str]) -> Self {
        let rig = Self::before_its_agent(agent);
        rig.agent.launch();
        rig.agent.write_bundle(rig.agent.bundle());
        rig
    }

    /// With an agent that was never started.
    pub(crate) fn before_its_agent(agent: &[&str]) -> Self {
        let net = Net::new();
        let (control, client, server) = (net.pod("control"), net.pod("client"), net.pod("server"));
        let agent = Agent::prepare(&control, agent);
        let mesh = MeshFile::new(&net).meshed(&client, FRONT).meshed(&server, WEB);
        let echoes = [Server::echo(&server, server.at(ECHO)), Server::echo(&server, server.at_v6(ECHO))];
        Self { agent, mesh, client, server, echoes, net }
    }

    /// The client pod's sidecar.
    pub(crate) fn front(&self) -> Start<'_> {
        Sidecar::of(&self.client, &self.agent, self.mesh.path(), FRONT)
    }

    /// The server pod's sidecar.
    pub(crate) fn web(&self) -> Start<'_> {
        Sidecar::of(&self.server, &self.agent, self.mesh.path(), WEB)
    }

    /// Connects from the client's application to the server's.
    pub(crate) fn dial(&self) -> io::Result<TcpStream> {
        tcp::connect(&self.client, self.server.at(ECHO))
    }

    /// A whole connection from the client's application to the server's: dialled, echoed, ended.
    pub(crate) fn echo(&self) -> io::Result<()> {
        echo(&self.client, self.server.at(ECHO), b"from one application to the other")
    }

    /// Puts a fresh join token where a pod's sidecar reads it.
    pub(crate) fn give_token(&self, pod: &Pod, path: &str) {
        let _same_file_as_ever = token_file(pod, &self.agent.token(path));
    }

    /// A join token for this path that has expired unused.
    pub(crate) fn expired_token(&self, path: &str) -> String {
        let id = spiffe_id(path);
        let created = self.agent.ask_json(&["token", "create", "--spiffe-id", &id, "--ttl", "1s"]);
        wait_until("the token is listed as expired", Duration::from_secs(20), || {
            let listed = self.agent.ask_json(&["token", "list"]);
            let expired = |token: &Value| token["id"] == created["id"] && token["state"] == "expired";
            listed.as_array().unwrap().iter().any(expired)
        });
        text(&created, "token").to_owned()
    }

    /// `kith-proxy svid` in this pod, for this path, into a new directory.
    pub(crate) fn svid(&self, pod: &Pod, path: &str, more: &[&str]) -> Svid {
        Svid::begin(pod, svid_command(pod, &self.agent, path).args(more))
    }
}

/// `kith-proxy svid` with a fresh token for this path, without its `--out`.
pub(crate) fn svid_command(pod: &Pod, agent: &Agent, path: &str) -> PodCommand {
    let token = token_file(pod, &agent.token(path));
    identity_args(pod.command(kith_proxy()).arg("svid"), agent, &token).uid(SIDECAR_UID)
}

/// An SVID in files, kept renewed.
pub(crate) struct Svid {
    pub(crate) dir: PathBuf,
    pub(crate) process: Process,
}

impl Svid {
    /// Starts the command with an `--out`, and waits for the files.
    pub(crate) fn begin(pod: &Pod, command: PodCommand) -> Self {
        let dir = pod.dir_of("svid", SIDECAR_UID);
        let process = command.arg("--out").arg(&dir).spawn();
        let chain = dir.join("svid.pem");
        wait_until("the SVID is written", Duration::from_secs(20), || {
            assert!(process.is_running(), "kith-proxy svid ended: {}", process.log());
            chain.exists()
        });
        Self { dir, process }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The serial number of the first certificate in a text that holds PEM among other things, in lower-case hexadecimal.
///
/// openssl, which shares no code with us, reads it.
pub(crate) fn serial_of(text: &str) -> String {
    let start = text.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("no certificate in: {text}"));
    let printed = openssl(&["x509", "-noout", "-serial"], &text[start..]);
    let serial = printed.trim().strip_prefix("serial=").unwrap_or_else(|| panic!("no serial: {printed}"));
    serial.to_lowercase()
}

/// Runs openssl on a text, to its successful end.
pub(crate) fn openssl(args: &[&str], input: &str) -> String {
    let (status, output) = try_openssl(args, input);
    assert!(status, "openssl {args:?}: {output}");
    output
}

/// Runs openssl on a text; whether it was content, and all that it said.
pub(crate) fn try_openssl(args: &[&str], input: &str) -> (bool, String) {
    use std::process::Stdio;
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may not want to hear it all.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// Asserts that openssl builds the chain from its leaf to a root of the bundle, for both ends of a connection.
#[track_caller]
pub(crate) fn assert_openssl_verifies(chain: &Path, bundle: &Path) {
    for purpose in ["sslserver", "sslclient"] {
        let [chain, bundle] = [chain, bundle].map(|path| path.to_str().unwrap());
        let args = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", bundle, "-untrusted", chain, chain];
        let (verified, said) = try_openssl(&args, "");
        assert!(verified, "openssl does not verify {chain} as {purpose}: {said}");
    }
}

/// Connects and hears an echo of the whole text, to its orderly end.
pub(crate) fn echo(from: &Pod, to: SocketAddr, text: &[u8]) -> io::Result<()> {
    let answer = tcp::exchange(tcp::connect(from, to)?, text)?;
    if answer == text { Ok(()) } else { Err(io::Error::other(format!("{} bytes of another echo", answer.len()))) }
}

/// Sends these bytes to an echo server and reads as many.
pub(crate) fn ping(mut stream: &TcpStream, text: &[u8]) -> io::Result<()> {
    stream.write_all(text)?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    if back == text { Ok(()) } else { Err(io::Error::other("the echo is another")) }
}

/// Waits until a sidecar is not ready and its reason holds all of these.
#[track_caller]
pub(crate) fn wait_for_reason(sidecar: &Sidecar, parts: &[&str]) {
    let within = Duration::from_secs(40);
    let mut last = (true, String::new());
    let (said, name) = (format!("{parts:?}"), sidecar.pod().name().to_owned());
    let deadline = std::time::Instant::now() + within;
    loop {
        if !last.0 && parts.iter().all(|part| last.1.contains(part)) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{name} is not unready with {said}: {last:?}");
        std::thread::sleep(Duration::from_millis(20));
        last = sidecar.readiness();
    }
}

/// The text in a field.
#[track_caller]
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field} in {value}"))
}
