use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use kith_tests::{Pod, Sidecar, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::timeout,
};

use crate::mesh::{Mesh, Settings, open};

const IDLE: usize = 5_000;
const PORT: u16 = 7001;
const PATIENCE: Duration = Duration::from_secs(120);
/// Generous: what matters is that it is no multiple of the buffers of a busy connection.
const MOST_MEMORY: u64 = 600 << 20;

#[test]
fn five_thousand_idle_connections_are_held_and_all_echo() {
    let mesh = Mesh::start(&Settings::default());
    let at = mesh.web.at(PORT);
    let _application = Echo::start(&mesh.web, at);
    let (held, holding) = std::sync::mpsc::channel();
    let (go, going) = oneshot::channel();
    let front = mesh.front.clone();
    let clients = thread::spawn(move || {
        front.block_on(|| async move {
            let streams = dial_all(at).await;
            held.send(()).unwrap();
            going.await.unwrap();
            echo_all(streams).await
        })
    });
    holding.recv_timeout(PATIENCE).expect("all of them are dialled");
    let all_open = |sidecar: &Sidecar, direction: &str| open(sidecar, direction) >= IDLE as f64;
    wait_until("every connection stands", PATIENCE, || {
        all_open(&mesh.outbound, "outbound") && all_open(&mesh.inbound, "inbound")
    });
    let succeeded =
        |direction| format!("kith_handshakes_total{{direction=\"{direction}\",result=\"succeeded\",reason=\"\"}}");
    wait_until("every handshake is done", PATIENCE, || {
        mesh.outbound.metric(&succeeded("outbound")) == IDLE as f64
            && mesh.inbound.metric(&succeeded("inbound")) == IDLE as f64
    });
    // Idle is the measurement itself: whatever wanted to end them has had its time.
    thread::sleep(Duration::from_secs(3));
    for (name, sidecar) in [("outbound", &mesh.outbound), ("inbound", &mesh.inbound)] {
        let memory = sidecar.process().memory();
        println!(
            "{IDLE} idle connections: the {name} sidecar holds {} MiB, {} MiB at its peak, {} KiB each",
            memory.resident >> 20,
            memory.peak >> 20,
            (memory.resident >> 10) / IDLE as u64,
        );
        assert!(memory.peak < MOST_MEMORY, "{name}: {} MiB at its peak", memory.peak >> 20);
    }
    go.send(()).unwrap();
    assert_eq!(clients.join().unwrap(), IDLE, "every one of them echoes");
    wait_until("every connection is over", PATIENCE, || {
        open(&mesh.outbound, "outbound") == 0.0 && open(&mesh.inbound, "inbound") == 0.0
    });
    for sidecar in [&mesh.outbound, &mesh.inbound] {
        println!("afterwards {} holds {} MiB", sidecar.pod().name(), sidecar.process().memory().resident >> 20);
    }
}

/// Every connection has been answered by the application once, so that it stands from end to end.
async fn dial_all(at: SocketAddr) -> Vec<TcpStream> {
    let dialling = Arc::new(Semaphore::new(64));
    let mut all = JoinSet::new();
    for _ in 0..IDLE {
        let dialling = Arc::clone(&dialling);
        all.spawn(async move {
            let _permit = dialling.acquire_owned().await.unwrap();
            let mut stream = TcpStream::connect(at).await.unwrap();
            echo(&mut stream, 0).await;
            stream
        });
    }
    all.join_all().await
}

async fn echo_all(streams: Vec<TcpStream>) -> usize {
    let mut all = JoinSet::new();
    for (number, mut stream) in streams.into_iter().enumerate() {
        all.spawn(async move { echo(&mut stream, number).await });
    }
    all.join_all().await.len()
}

async fn echo(stream: &mut TcpStream, number: usize) {
    let words = format!("words of connection {number:08}");
    let exchange = async {
        stream.write_all(words.as_bytes()).await?;
        let mut heard = vec![0; words.len()];
        stream.read_exact(&mut heard).await.map(|_| heard)
    };
    let heard = timeout(PATIENCE, exchange).await.expect("an echo in time").unwrap();
    assert!(heard == words.as_bytes(), "connection {number} hears something else");
}

/// An echo that needs no thread for each connection.
struct Echo(Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>);

impl Echo {
    fn start(pod: &Pod, at: SocketAddr) -> Self {
        let (stop, stopping) = oneshot::channel();
        let (bound, binding) = std::sync::mpsc::channel();
        let within = pod.clone();
        let thread = thread::spawn(move || {
            within.block_on(|| async move {
                let listener = TcpListener::bind(at).await.unwrap();
                bound.send(()).unwrap();
                let accept = async {
                    loop {
                        let (mut stream, _) = listener.accept().await.unwrap();
                        tokio::spawn(async move {
                            let (mut read, mut write) = stream.split();
                            let _ = tokio::io::copy(&mut read, &mut write).await;
                            let _ = write.shutdown().await;
                        });
                    }
                };
                tokio::select! {
                    () = accept => {}
                    _ = stopping => {}
                }
            });
        });
        binding.recv().unwrap();
        Self(Some((stop, thread)))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}
