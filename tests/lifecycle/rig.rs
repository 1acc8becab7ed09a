//! An agent, and two pods that have sidecars once a test starts them.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use kith_tests::{
    Agent, MeshFile, Net, Pod, Process, Sidecar, kith_proxy,
    sidecar::{SIDECAR_UID, Start, identity_args, token_file},
    tcp, wait_until,
};

/// The client's SPIFFE ID's path.
pub(crate) const FRONT: &str = "/ns/shop/sa/front";
/// The server's.
pub(crate) const WEB: &str = "/ns/shop/sa/web";

pub(crate) struct Rig {
    pub(crate) agent: Agent,
    pub(crate) mesh: MeshFile,
    pub(crate) client: Pod,
    pub(crate) server: Pod,
    pub(crate) net: Net,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with_agent(&[])
    }

    pub(crate) fn with_agent(args: &[&str]) -> Self {
        let net = Net::new();
        let (control, client, server) = (net.pod("control"), net.pod("client"), net.pod("server"));
        let agent = Agent::start(&control, args);
        let mesh = MeshFile::new(&net).meshed(&client, FRONT).meshed(&server, WEB);
        Self { agent, mesh, client, server, net }
    }

    /// The client pod's sidecar.
    pub(crate) fn front(&self) -> Start<'_> {
        Sidecar::of(&self.client, &self.agent, self.mesh.path(), FRONT)
    }

    /// The server pod's sidecar.
    pub(crate) fn web(&self) -> Start<'_> {
        Sidecar::of(&self.server, &self.agent, self.mesh.path(), WEB)
    }

    /// An SVID in files that `kith-proxy svid` keeps, for a program in this pod.
    pub(crate) fn svid(&self, pod: &Pod, path: &str) -> Svid {
        let dir = pod.dir_of("svid", SIDECAR_UID);
        let token = token_file(pod, &self.agent.token(path));
        let command = identity_args(pod.command(kith_proxy()).arg("svid"), &self.agent, &token);
        let process = command.arg("--out").arg(&dir).uid(SIDECAR_UID).spawn();
        wait_until("the SVID is written", Duration::from_secs(20), || {
            assert!(process.is_running(), "kith-proxy svid ended: {}", process.log());
            dir.join("svid.pem").exists()
        });
        Svid { dir, _process: process }
    }
}

/// An SVID in files.
pub(crate) struct Svid {
    dir: PathBuf,
    _process: Process,
}

impl Svid {
    pub(crate) fn chain(&self) -> PathBuf {
        self.dir.join("svid.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.dir.join("svid.key.pem")
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.join("bundle.pem")
    }
}

/// Sends these bytes to an echo server and reads as many.
pub(crate) fn ping(mut stream: &TcpStream, text: &[u8]) -> io::Result<()> {
    stream.write_all(text)?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    if back == text { Ok(()) } else { Err(io::Error::other("the echo is another")) }
}

/// Connects and hears an echo of the whole text, to its orderly end.
pub(crate) fn echo(from: &Pod, to: SocketAddr, text: &[u8]) -> io::Result<()> {
    let answer = tcp::exchange(tcp::connect(from, to)?, text)?;
    if answer == text { Ok(()) } else { Err(io::Error::other(format!("{} bytes of another echo", answer.len()))) }
}

/// Asserts that reading from here ends with a reset, and not with an end of stream, whatever came before.
#[track_caller]
pub(crate) fn assert_reset(mut stream: &TcpStream, what: &str) {
    match stream.read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("{what}: expected a reset, got {other:?}"),
    }
}

/// Asserts that whoever connects is reset before a byte.
#[track_caller]
pub(crate) fn assert_refused_by_reset(from: &Pod, to: SocketAddr, what: &str) {
    let stream = match tcp::connect(from, to) {
        // It may come before we have looked at the connection.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
        connected => connected.unwrap_or_else(|error| panic!("{what}: capture takes every connection: {error}")),
    };
    // A write that comes after the reset takes its error; the read then sees an end.
    let said = (&stream).write_all(b"anybody there?").map_err(|error| error.kind());
    let mut got = Vec::new();
    let ended = (&stream).read_to_end(&mut got).map_err(|error| error.kind());
    let reset = Err(io::ErrorKind::ConnectionReset);
    assert!(
        said == reset || ended.is_err_and(|kind| kind == io::ErrorKind::ConnectionReset),
        "{what}: {said:?} {ended:?}"
    );
    assert!(got.is_empty(), "{what}: got {got:?}");
}

/// Connections that come one after another until told to stop.
pub(crate) struct Load {
    done: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), String>>,
}

impl Load {
    pub(crate) fn start(from: &Pod, to: SocketAddr) -> Self {
        let (done, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped, pod) = (Arc::clone(&done), Arc::clone(&stop), from.clone());
        let text = tcp::pattern(9, 100_000);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let number = count.load(Ordering::Relaxed);
                echo(&pod, to, &text).map_err(|error| format!("connection {number} to {to}: {error}"))?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { done, stop, thread }
    }

    pub(crate) fn wait_for_more(&self, more: usize) {
        let goal = self.done.load(Ordering::Relaxed) + more;
        wait_until("the load goes on", Duration::from_secs(30), || {
            self.thread.is_finished() || self.done.load(Ordering::Relaxed) >= goal
        });
    }

    /// Ends it; every connection must have been whole.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap();
    }
}
