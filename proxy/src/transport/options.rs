use std::{io, time::Duration};

use kith_runtime::settings::duration;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// What Linux takes; with anything else no connection would get its options.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(32_767);
const MOST_PROBES: i64 = 127;
const LONGEST_USER_TIMEOUT: Duration = Duration::from_hours(24 * 24);

/// How long a silent peer is believed to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Peers that vanish")]
pub struct Options {
    /// After how much silence both legs of a connection are probed; 0s probes neither. Linux forgets a half-closed
    /// connection's original destination after 60 s of silence, so stay below that.
    #[arg(long, env = "KITH_KEEPALIVE_IDLE", default_value = "30s", value_name = "DURATION", value_parser = idle)]
    pub keepalive_idle: Duration,
    /// The time between probes.
    #[arg(
        long,
        env = "KITH_KEEPALIVE_INTERVAL",
        default_value = "10s",
        value_name = "DURATION",
        value_parser = interval
    )]
    pub keepalive_interval: Duration,
    /// How many probes may stay unanswered.
    #[arg(long, env = "KITH_KEEPALIVE_PROBES", default_value_t = 6, value_name = "NUMBER", value_parser = probes())]
    pub keepalive_probes: u32,
    /// How long sent bytes may stay unacknowledged on the wire before the connection is given up; 0s leaves that to
    /// the kernel, about 15 minutes. A bound also ends connections whose reader pauses for so long.
    #[arg(long, env = "KITH_USER_TIMEOUT", default_value = "0s", value_name = "DURATION", value_parser = user_timeout)]
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

fn probes() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=MOST_PROBES)
}

fn idle(text: &str) -> Result<Duration, String> {
    let idle = duration(text)?;
    if idle.is_zero() { Ok(idle) } else { interval(text).map_err(|expected| format!("{expected}, or 0s")) }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if (Duration::from_secs(1)..=LONGEST_KEEPALIVE).contains(&interval) {
        return Ok(interval);
    }
    Err(format!("expected a duration from 1s to {}s", LONGEST_KEEPALIVE.as_secs()))
}

fn user_timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration(text)?;
    if timeout.is_zero() || (Duration::from_millis(1)..=LONGEST_USER_TIMEOUT).contains(&timeout) {
        return Ok(timeout);
    }
    Err("expected a duration from 1ms to 24 days, or 0s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_would_refuse_is_refused_at_start() {
        for good in ["1s", "30s", "9h"] {
            assert_eq!(idle(good), interval(good));
            assert!(idle(good).is_ok(), "{good}");
        }
        assert_eq!(idle("0s"), Ok(Duration::ZERO));
        for (parse, wrong) in [(idle as fn(&str) -> _, "10h"), (idle, "500ms"), (interval, "0s"), (interval, "999ms")] {
            assert!(parse(wrong).unwrap_err().contains("from 1s to 32767s"), "{wrong}");
        }
        assert!(user_timeout("25days").unwrap_err().contains("24 days"));
        assert_eq!(user_timeout("24days"), Ok(LONGEST_USER_TIMEOUT));
    }

    #[tokio::test]
    async fn the_kernel_takes_the_bounds() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let second = Duration::from_secs(1);
        for (time, keepalive_probes) in [(second, 1), (LONGEST_KEEPALIVE, 127)] {
            let options = Options {
                keepalive_idle: time,
                keepalive_interval: time,
                keepalive_probes,
                user_timeout: LONGEST_USER_TIMEOUT,
            };
            options.apply_to_wire(&stream).unwrap();
        }
    }
}
