use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use kith_runtime::listen;
use tokio::net::TcpListener;

/// Who was killed at this address may be gone only in a moment.
pub(super) fn bind(address: SocketAddr) -> TcpListener {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match listen::bind(address, 64) {
            Ok(listener) => return listener,
            Err(error) if Instant::now() > deadline => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
