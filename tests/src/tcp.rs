//! Small TCP applications, as well and as badly behaved as needed, and their tools.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};

use crate::Pod;

/// How long a socket of ours waits for its peer: a test should fail, not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server in a pod; it accepts no more once this is dropped, and connections it has go on.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens there in the pod and gives each connection a thread that runs this.
    ///
    /// # Panics
    /// When the address can't be listened on.
    pub fn start(pod: &Pod, address: SocketAddr, handle: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = pod.run_in_netns(|| listen(address));
        let address = listener.local_addr().unwrap();
        let (accepted, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stop) = (Arc::clone(&accepted), Arc::clone(&stopped));
        let handle = Arc::new(handle);
        let thread = pod.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                set_patience(&stream);
                let handle = Arc::clone(&handle);
                thread::spawn(move || handle(stream));
            }
        });
        Self { address, accepted, stopped, thread: Some(thread) }
    }

    /// A server that sends back what it gets, and its end for its end.
    pub fn echo(pod: &Pod, address: SocketAddr) -> Self {
        Self::start(pod, address, |stream| {
            let _ = io::copy(&mut &stream, &mut &stream);
            let _ = stream.shutdown(Shutdown::Write);
        })
    }

    /// A server that reads to the end, then sends this many bytes of the pattern.
    pub fn answers_after_end(pod: &Pod, address: SocketAddr, seed: u64, len: usize) -> Self {
        Self::start(pod, address, move |mut stream| {
            let _ = io::copy(&mut &stream, &mut io::sink());
            let _ = stream.write_all(&pattern(seed, len));
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A listening socket whose accept returns now and then with an error. Both families are apart: `[::]` is only IPv6.
///
/// # Panics
/// When the address can't be listened on.
#[must_use]
pub fn listen(address: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket.bind(&address.into()).unwrap_or_else(|error| panic!("can't listen on {address}: {error}"));
    socket.listen(1024).unwrap();
    socket.into()
}

/// Connects from inside the pod.
///
/// # Errors
/// As the kernel says.
pub fn connect(pod: &Pod, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = pod.run_in_netns(|| TcpStream::connect_timeout(&to, PATIENCE))?;
    set_patience(&stream);
    Ok(stream)
}

/// Sends this, ends its own side, and reads to the end.
///
/// # Errors
/// As the kernel says; a reset is `ConnectionReset`.
pub fn exchange(mut stream: TcpStream, send: &[u8]) -> io::Result<Vec<u8>> {
    let mut writer = stream.try_clone()?;
    thread::scope(|scope| {
        let writing = scope.spawn(move || {
            writer.write_all(send)?;
            writer.shutdown(Shutdown::Write)
        });
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        // A peer that does not want to hear it all may still have an answer.
        let _ = writing.join().unwrap();
        reading.map(|_| answer)
    })
}

/// Ends a connection with a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Where a redirected connection was going.
///
/// # Errors
/// When it was not redirected, among others.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let v6 = stream.local_addr()?.is_ipv6();
    let address = if v6 { socket.original_dst_v6() } else { socket.original_dst_v4() }?;
    address.as_socket().ok_or_else(|| io::Error::other("no socket address"))
}

/// Bytes that are easy to recognise in a capture: lines that name the seed and their number.
#[must_use]
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 64);
    let mut line = 0_u64;
    while bytes.len() < len {
        writeln!(bytes, "{} line {line:016}", marker(seed)).unwrap();
        line += 1;
    }
    bytes.truncate(len);
    bytes
}

/// What is in every line of the pattern: the known plaintext that must not be on the wire.
#[must_use]
pub fn marker(seed: u64) -> String {
    format!("this is plaintext {seed:016x}")
}

fn set_patience(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
}
