//! A pod: a network namespace on the wire.

use std::{
    ffi::OsStr,
    fs::{self, File},
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
    panic,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{PodCommand, net::Inner};

/// A network namespace on the wire of a [`crate::Net`]; clones are the same pod.
#[derive(Debug, Clone)]
pub struct Pod {
    net: Arc<Inner>,
    name: String,
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
}

impl Pod {
    pub(crate) fn new(net: Arc<Inner>, name: &str, v4: Ipv4Addr, v6: Option<Ipv6Addr>) -> Self {
        Self { net, name: name.to_owned(), v4, v6 }
    }

    /// Its name within the net.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn v4(&self) -> Ipv4Addr {
        self.v4
    }

    /// Its IPv6 address.
    ///
    /// # Panics
    /// When IPv6 is switched off in it.
    #[must_use]
    pub fn v6(&self) -> Ipv6Addr {
        self.v6.expect("the pod has IPv6")
    }

    /// Its addresses, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        [Some(IpAddr::V4(self.v4)), self.v6.map(IpAddr::V6)].into_iter().flatten().collect()
    }

    /// A port on its IPv4 address.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.v4, port).into()
    }

    /// A port on its IPv6 address.
    #[must_use]
    pub fn at_v6(&self, port: u16) -> SocketAddr {
        (self.v6(), port).into()
    }

    /// The file that stands for its network namespace.
    #[must_use]
    pub fn netns(&self) -> PathBuf {
        Path::new("/run/netns").join(self.net.namespace(&self.name))
    }

    /// Where the net's files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.net.dir()
    }

    /// A new empty directory that belongs to this uid.
    #[must_use]
    pub fn dir_of(&self, name: &str, uid: u32) -> PathBuf {
        self.net.dir_of(&format!("{}-{name}", self.name), uid)
    }

    /// A program that will run in this pod.
    pub fn command(&self, program: impl AsRef<OsStr>) -> PodCommand {
        PodCommand::new(self, program.as_ref())
    }

    /// Runs `ip` with these words in the pod, such as `route add …`.
    pub fn ip(&self, words: &str) {
        self.command("ip").args(words.split_whitespace()).run();
    }

    /// Loads these nft commands in the pod.
    pub fn nft(&self, commands: &str) {
        self.command("nft").args(["-f", "-"]).stdin_bytes(commands.as_bytes()).run();
    }

    /// Sets a kernel parameter under `net.`, such as `ipv4.tcp_rmem`.
    pub fn set_sysctl(&self, key: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(key.replace('.', "/"));
        self.run_in_netns(|| fs::write(&path, value).unwrap());
    }

    /// Runs this on a thread of its own inside the pod's network: its sockets and the programs it spawns are the pod's.
    /// A panic passes on.
    pub fn run_in_netns<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let netns = self.netns();
        let outcome = thread::scope(|scope| {
            scope
                .spawn(|| {
                    enter(&netns);
                    work()
                })
                .join()
        });
        outcome.unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Like [`Pod::run_in_netns`], but goes on in the background.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let netns = self.netns();
        thread::spawn(move || {
            enter(&netns);
            work()
        })
    }

    /// Runs this future inside the pod's network, on a runtime of one thread; what it spawns lives until it is done.
    pub fn block_on<F: Future>(&self, future: impl FnOnce() -> F + Send) -> F::Output
    where
        F::Output: Send,
    {
        self.run_in_netns(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(future())
        })
    }

    pub(crate) fn net(&self) -> &Arc<Inner> {
        &self.net
    }
}

/// Moves the calling thread, and no other, into a network namespace.
pub(crate) fn enter(netns: &Path) {
    let file = File::open(netns).unwrap_or_else(|error| panic!("no namespace {}: {error}", netns.display()));
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}
