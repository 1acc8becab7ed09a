//! Out of descriptors, for real: the process's own limit is lowered, so this test has a process of its own.

use std::{
    fs::File,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use kith_runtime::{
    accept, listen,
    metrics::{Registry, names},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};

/// What is logged; clones share it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut lines = self.0.lock().map_err(|_| std::io::Error::other("a test that logs has failed"))?;
        std::io::Write::write(&mut *lines, bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn accepting_resumes_when_descriptors_return() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let listener = listen::bind((Ipv4Addr::LOCALHOST, 0).into(), 16).unwrap();
    let address = listener.local_addr().unwrap();
    let errors = Registry::new().counter(&names::ACCEPT_ERRORS);
    let (taken, mut connections) = mpsc::unbounded_channel();
    let serving =
        accept::serve(listener, errors.clone(), std::future::pending(), move |stream, _| taken.send(stream).unwrap());
    tokio::spawn(serving);

    let mut early = TcpStream::connect(address).await.unwrap();
    let mut early_served = connections.recv().await.unwrap();
    // The client needs a descriptor too, so it has its own before they run out.
    let late = TcpSocket::new_v4().unwrap();

    let limit = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    let late = late.connect(address).await.unwrap();
    let failing = async {
        while errors.get() < 4 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), failing).await.expect("accepting fails");
    assert!(connections.try_recv().is_err());

    early.write_all(b"x").await.unwrap();
    assert_eq!(early_served.read_u8().await.unwrap(), b'x', "what is open goes on");

    drop(hoard);
    let late_served = timeout(Duration::from_secs(10), connections.recv()).await.expect("accepting resumes").unwrap();
    assert_eq!(late_served.peer_addr().unwrap(), late.local_addr().unwrap());

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("Can't accept connections").count(), 1, "{log}");
}
