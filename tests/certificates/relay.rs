//! What stands between a workload and its CA agent, and does not always pass on what it hears.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use kith_tests::{Pod, tcp::Server};

/// The record type of everything that is encrypted (RFC 8446 §5.1).
const APPLICATION_DATA: u8 = 23;

/// A TCP relay.
pub(crate) struct Relay {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    to: Mutex<SocketAddr>,
    /// Nothing that the server says after a handshake passes on.
    holds_back: AtomicBool,
    /// How many bytes were not passed on.
    held_back: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Listens on this port of the pod and leads there.
    pub(crate) fn start(pod: &Pod, port: u16, to: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            to: Mutex::new(to),
            holds_back: AtomicBool::new(false),
            held_back: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let carrier = Arc::clone(&shared);
        let server = Server::start(pod, pod.at(port), move |client| carrier.carry(client));
        Self { server, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Leads new connections elsewhere.
    pub(crate) fn lead_to(&self, to: SocketAddr) {
        *self.shared.to.lock().unwrap() = to;
    }

    /// Whether what the server says to new connections after the handshake is held back.
    pub(crate) fn hold_back(&self, holds: bool) {
        self.shared.holds_back.store(holds, Ordering::SeqCst);
    }

    /// How many bytes it has not passed on.
    pub(crate) fn held_back(&self) -> usize {
        self.shared.held_back.load(Ordering::SeqCst)
    }

    /// How many connections have come.
    pub(crate) fn accepted(&self) -> usize {
        self.server.accepted()
    }

    /// Cuts every connection that it carries.
    pub(crate) fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn carry(&self, client: TcpStream) {
        let to = *self.to.lock().unwrap();
        // Whoever can't be reached through it is seen to end at once.
        let Ok(server) = TcpStream::connect(to) else { return };
        self.open.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        let holds_back = self.holds_back.load(Ordering::SeqCst);
        let shaken_hands = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = to_server(&client, &server, &shaken_hands);
                let _ = server.shutdown(Shutdown::Write);
            });
            let _ = self.to_client(&server, &client, holds_back, &shaken_hands);
            if !holds_back {
                let _ = client.shutdown(Shutdown::Write);
            }
        });
    }

    fn to_client(&self, mut from: &TcpStream, mut to: &TcpStream, holds: bool, shaken: &AtomicBool) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            if holds && shaken.load(Ordering::SeqCst) {
                self.held_back.fetch_add(read, Ordering::SeqCst);
            } else {
                to.write_all(&buffer[..read])?;
            }
        }
    }
}

/// Passes on record by record. The client's first encrypted one tells that it has all of the server's handshake.
fn to_server(mut from: &TcpStream, mut to: &TcpStream, shaken_hands: &AtomicBool) -> io::Result<()> {
    loop {
        let mut record = vec![0; 5];
        from.read_exact(&mut record)?;
        let [kind, _, _, high, low] = record[..] else { unreachable!("five bytes") };
        record.resize(5 + usize::from(u16::from_be_bytes([high, low])), 0);
        from.read_exact(&mut record[5..])?;
        if kind == APPLICATION_DATA {
            shaken_hands.store(true, Ordering::SeqCst);
        }
        to.write_all(&record)?;
    }
}
