use std::{io, time::Duration};

use humantime::parse_duration;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How long a silent peer is believed to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Peers that vanish")]
pub struct Options {
    /// After how much silence both legs of a connection are probed; 0s probes neither. Linux forgets a half-closed
    /// connection's original destination after 60 s of silence, so stay below that.
    #[arg(long, env = "KITH_KEEPALIVE_IDLE", default_value = "30s", value_parser = parse_duration)]
    pub keepalive_idle: Duration,
    /// The time between probes.
    #[arg(long, env = "KITH_KEEPALIVE_INTERVAL", default_value = "10s", value_parser = parse_duration)]
    pub keepalive_interval: Duration,
    /// How many probes may stay unanswered.
    #[arg(long, env = "KITH_KEEPALIVE_PROBES", default_value_t = 6)]
    pub keepalive_probes: u32,
    /// How long sent bytes may stay unacknowledged on the wire before the connection is given up; 0s leaves that to
    /// the kernel, about 15 minutes. A bound also ends connections whose reader pauses for so long.
    #[arg(long, env = "KITH_USER_TIMEOUT", default_value = "0s", value_parser = parse_duration)]
    pub user_timeout: Duration,
}

impl Options {
    /// For the leg between the sidecar and its own application.
    ///
    /// # Errors
    /// When the kernel refuses, as on a socket that is gone already.
    pub fn apply_to_application(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        if self.keepalive_idle.is_zero() {
            return Ok(());
        }
        let keepalive = TcpKeepalive::new()
            .with_time(self.keepalive_idle)
            .with_interval(self.keepalive_interval)
            .with_retries(self.keepalive_probes);
        SockRef::from(stream).set_tcp_keepalive(&keepalive)
    }

    /// For the leg that leaves the pod.
    ///
    /// # Errors
    /// As [`Self::apply_to_application`].
    pub fn apply_to_wire(&self, stream: &TcpStream) -> io::Result<()> {
        self.apply_to_application(stream)?;
        let timeout = Some(self.user_timeout).filter(|timeout| !timeout.is_zero());
        SockRef::from(stream).set_tcp_user_timeout(timeout)
    }
}
