//! A wire: a bridge in a namespace of its own, with pods on it.

mod cleanup;

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use tempfile::TempDir;

use crate::{Capture, Pod, net::cleanup::delete_namespace, pod::enter};

pub use self::cleanup::sweep;

/// The pods' addresses of a net.
pub const PODS_V4: &str = "10.88.0.0/16";
/// The pods' IPv6 addresses of a net.
pub const PODS_V6: &str = "fd88::/64";
/// Where services may have their addresses: routed onto the wire, answered by no one.
pub const SERVICES_V4: &str = "10.96.0.0/16";
/// Where services may have their IPv6 addresses.
pub const SERVICES_V6: &str = "fd96::/64";
/// The world outside the mesh (RFC 5737).
pub const OUTSIDE_V4: &str = "198.51.100.0/24";
/// The world outside the mesh (RFC 3849).
pub const OUTSIDE_V6: &str = "2001:db8::/64";

/// The bridge's name in the wire's namespace.
pub(crate) const BRIDGE: &str = "br0";
/// The bridge's own address, from which captures mark their end.
pub(crate) const BRIDGE_V4: Ipv4Addr = Ipv4Addr::new(10, 88, 255, 254);
pub(crate) const BROADCAST_V4: Ipv4Addr = Ipv4Addr::new(10, 88, 255, 255);

const PREFIX: &str = "kith-";

/// A wire with pods on it. All of it, processes included, goes when this is dropped.
#[derive(Debug)]
pub struct Net {
    inner: Arc<Inner>,
}

/// What pods and processes need of their net.
#[derive(Debug)]
pub(crate) struct Inner {
    prefix: String,
    dir: TempDir,
    pods: AtomicU32,
    files: AtomicU32,
    namespaces: Mutex<Vec<String>>,
    logs: Mutex<Vec<PathBuf>>,
}

/// How a pod begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pod,
    PodWithoutIpv6,
    Outside,
}

impl Net {
    /// Lays a wire.
    ///
    /// # Panics
    /// When the kernel or the rights for it are missing.
    #[expect(clippy::new_without_default, reason = "it changes the system")]
    #[must_use]
    pub fn new() -> Self {
        static NETS: AtomicU32 = AtomicU32::new(0);
        sweep();
        let prefix = format!("{}{}", prefix_of(process::id()), NETS.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix(&format!("{prefix}-")).tempdir().unwrap();
        // Programs under other users read and write below it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let inner = Inner {
            prefix,
            dir,
            pods: AtomicU32::new(0),
            files: AtomicU32::new(0),
            namespaces: Mutex::default(),
            logs: Mutex::default(),
        };
        let net = Self { inner: Arc::new(inner) };
        let wire = net.inner.add_namespace("wire");
        ip_batch(
            Some(&wire),
            &format!(
                "link set lo up\n\
                 link add {BRIDGE} type bridge mcast_snooping 0\n\
                 addr add {BRIDGE_V4}/16 broadcast {BROADCAST_V4} dev {BRIDGE}\n\
                 link set {BRIDGE} up\n"
            ),
        );
        net
    }

    /// A pod with an address of each family.
    #[must_use]
    pub fn pod(&self, name: &str) -> Pod {
        self.add(name, Kind::Pod)
    }

    /// A pod in whose namespace IPv6 is switched off.
    #[must_use]
    pub fn pod_without_ipv6(&self, name: &str) -> Pod {
        self.add(name, Kind::PodWithoutIpv6)
    }

    /// A host outside the mesh's networks, which pods can reach and which can reach pods.
    #[must_use]
    pub fn outside(&self, name: &str) -> Pod {
        self.add(name, Kind::Outside)
    }

    /// Where the test keeps its files; others may read it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.inner.dir()
    }

    /// A new empty directory that belongs to this uid.
    #[must_use]
    pub fn dir_of(&self, name: &str, uid: u32) -> PathBuf {
        self.inner.dir_of(name, uid)
    }

    /// Begins to record everything on the wire.
    #[must_use]
    pub fn capture(&self) -> Capture {
        Capture::start(&self.wire())
    }

    /// Cuts the wire: nothing passes between pods any more, and no one is told.
    pub fn cut(&self) {
        self.wire().nft(
            "add table bridge cut\n\
             add chain bridge cut forward { type filter hook forward priority 0; policy drop; }\n",
        );
    }

    /// Mends a wire that was cut.
    pub fn mend(&self) {
        self.wire().nft("delete table bridge cut\n");
    }

    /// The wire's own namespace, as a pod without an address: for captures and for rules that cut the wire.
    #[must_use]
    pub fn wire(&self) -> Pod {
        Pod::new(Arc::clone(&self.inner), "wire", Ipv4Addr::UNSPECIFIED, None)
    }

    fn add(&self, name: &str, kind: Kind) -> Pod {
        let number = u16::try_from(self.inner.pods.fetch_add(1, Ordering::Relaxed) + 1).unwrap();
        let [high, low] = number.to_be_bytes();
        let (v4, v6, v4_len, routes) = match kind {
            Kind::Outside => (
                Ipv4Addr::new(198, 51, 100, low),
                Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number),
                24,
                [PODS_V4, PODS_V6].as_slice(),
            ),
            _ => (
                Ipv4Addr::new(10, 88, high, low),
                Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, number),
                16,
                [SERVICES_V4, SERVICES_V6, OUTSIDE_V4, OUTSIDE_V6].as_slice(),
            ),
        };
        let namespace = self.inner.add_namespace(name);
        let ipv6 = kind != Kind::PodWithoutIpv6;
        prepare(&namespace, ipv6);

        let wire = self.inner.namespace("wire");
        let mut script = format!(
            "link set lo up\n\
             link add eth0 type veth peer name v{number} netns {wire}\n\
             addr add {v4}/{v4_len} dev eth0\n"
        );
        if ipv6 {
            writeln!(script, "addr add {v6}/64 dev eth0 nodad").unwrap();
        }
        script.push_str("link set eth0 up\n");
        for route in routes.iter().filter(|route| ipv6 || !route.contains(':')) {
            writeln!(script, "route add {route} dev eth0").unwrap();
        }
        ip_batch(Some(&namespace), &script);
        ip_batch(Some(&wire), &format!("link set v{number} master {BRIDGE} up\n"));
        Pod::new(Arc::clone(&self.inner), name, v4, ipv6.then_some(v6))
    }
}

/// What must be set before the interface exists.
fn prepare(namespace: &str, ipv6: bool) {
    let namespace = Path::new("/run/netns").join(namespace);
    thread::spawn(move || {
        enter(&namespace);
        let conf = Path::new("/proc/sys/net/ipv6/conf");
        for which in ["all", "default"] {
            // Without duplicate address detection an address can be used at once.
            fs::write(conf.join(which).join("accept_dad"), "0").unwrap();
            if !ipv6 {
                fs::write(conf.join(which).join("disable_ipv6"), "1").unwrap();
            }
        }
        // As container runtimes do: programs without rights may listen on low ports.
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").unwrap();
    })
    .join()
    .unwrap();
}

impl Inner {
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn dir_of(&self, name: &str, uid: u32) -> PathBuf {
        let dir = self.dir().join(format!("{name}-{}", self.number()));
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::chown(&dir, Some(uid), Some(uid)).unwrap();
        dir
    }

    /// Distinguishes files of one net.
    pub(crate) fn number(&self) -> u32 {
        self.files.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub(crate) fn keep_log(&self, path: &Path) {
        self.logs.lock().unwrap().push(path.to_path_buf());
    }

    fn add_namespace(&self, name: &str) -> String {
        let namespace = self.namespace(name);
        {
            let mut namespaces = self.namespaces.lock().unwrap();
            assert!(!namespaces.contains(&namespace), "there is a pod {name} already");
            namespaces.push(namespace.clone());
        }
        // The first `ip netns add` of a system mounts the directory, and two at once would mount it twice.
        let lock = File::open(std::env::temp_dir()).unwrap();
        lock.lock().unwrap();
        ip_batch(None, &format!("netns add {namespace}\n"));
        namespace
    }

    fn show_logs(&self) {
        for path in self.logs.lock().unwrap().iter() {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
            let lines: Vec<_> = text.lines().collect();
            if lines.is_empty() {
                continue;
            }
            let skipped = lines.len().saturating_sub(60);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            eprintln!("--- {name}{}", if skipped > 0 { format!(" ({skipped} lines before)") } else { String::new() });
            lines.iter().skip(skipped).for_each(|line| eprintln!("{}", line.get(..2000).unwrap_or(line)));
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if thread::panicking() {
            self.inner.show_logs();
        }
        for namespace in self.inner.namespaces.lock().unwrap_or_else(std::sync::PoisonError::into_inner).drain(..) {
            delete_namespace(&namespace);
        }
    }
}

/// What the names of all namespaces and directories begin with that this process makes.
#[must_use]
pub fn prefix_of(process: u32) -> String {
    format!("{PREFIX}{process}-")
}

/// Runs lines of `ip`, in a namespace if one is named.
fn ip_batch(namespace: Option<&str>, script: &str) {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    command.args(["-batch", "-"]);
    let output = run_with_input(&mut command, script);
    assert!(output.status.success(), "ip refused:\n{script}{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn run_with_input(command: &mut Command, input: &str) -> process::Output {
    use std::{io::Write, process::Stdio};
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}
