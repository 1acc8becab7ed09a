//! One JSON line for each connection, written when it has ended.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::outcome::{Audience, ConnectionView};

/// Lines that wait for a slow reader of our output; beyond them lines are dropped rather than connections delayed.
const QUEUE: usize = 8192;
/// How long the end of the process waits for a reader of our output that has stopped reading.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where access lines go. Clones are the same.
#[derive(Debug, Clone)]
pub struct AccessLog(Option<Arc<Writer>>);

#[derive(Debug)]
struct Writer {
    lines: Mutex<Option<mpsc::SyncSender<String>>>,
    /// Disconnected when the thread has written everything.
    written: Mutex<Option<mpsc::Receiver<()>>>,
}

impl AccessLog {
    /// Writes nothing.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Writes lines from a thread of its own, so that no connection waits for whoever reads them.
    pub fn to(mut output: impl Write + Send + 'static) -> Self {
        let (lines, queue) = mpsc::sync_channel::<String>(QUEUE);
        let (writing, written) = mpsc::channel();
        let write_all = move || {
            let _until_the_end: mpsc::Sender<()> = writing;
            for line in queue {
                // Whoever read our output has gone; connections matter more.
                let _ = output.write_all(line.as_bytes()).and_then(|()| output.flush());
            }
        };
        thread::spawn(write_all);
        Self(Some(Arc::new(Writer { lines: Mutex::new(Some(lines)), written: Mutex::new(Some(written)) })))
    }

    /// Waits until every line so far is written, but not for ever for who does not read them; later ones are dropped.
    /// For the end of the process.
    pub fn finish(&self) {
        let Some(writer) = &self.0 else { return };
        writer.lines.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(written) = writer.written.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Yields an error at once when the thread has ended, which is what it is waited for.
            let _ = written.recv_timeout(FAREWELL);
        }
    }
}

impl Audience for AccessLog {
    fn closed(&self, view: &ConnectionView) {
        let Some(writer) = &self.0 else { return };
        let Ok(mut line) = serde_json::to_string(&Line::new(view)) else { return };
        line.push('\n');
        if let Some(lines) = &*writer.lines.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = lines.try_send(line);
        }
    }
}

#[derive(Debug, Serialize)]
struct Line {
    time: String,
    connection: u64,
    direction: &'static str,
    outcome: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    client: SocketAddr,
    original_destination: Option<SocketAddr>,
    dialled: Option<SocketAddr>,
    #[serde(flatten)]
    tls: Option<TlsFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expected_ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audit_rules: Vec<String>,
    retries: u32,
    bytes_sent: u64,
    bytes_received: u64,
    duration_ms: u64,
}

#[derive(Debug, Serialize)]
struct TlsFields {
    local_id: String,
    local_serial: String,
    peer_id: String,
    peer_serial: String,
    tls_version: &'static str,
    cipher_suite: &'static str,
    key_exchange_group: String,
    alpn: Option<String>,
    resumed: bool,
}

impl Line {
    fn new(view: &ConnectionView) -> Self {
        let details = &view.details;
        let reason = details.reason.as_ref();
        let closed = view.closed.unwrap_or(view.opened);
        let duration = closed.duration_since(view.opened).unwrap_or_default();
        Self {
            time: rfc3339(closed),
            connection: view.number,
            direction: view.direction.as_str(),
            outcome: reason.map_or("", |r| r.outcome.as_str()),
            reason: reason.map_or("", |r| r.label),
            detail: reason.map_or_else(String::new, |r| r.detail.to_string()),
            client: canonical(view.client),
            original_destination: details.original_destination,
            dialled: details.dialled,
            tls: details.tls.as_ref().map(|tls| TlsFields {
                local_id: tls.local_id.to_string(),
                local_serial: tls.local_serial.to_string(),
                peer_id: tls.peer_id.to_string(),
                peer_serial: tls.peer_serial.to_string(),
                tls_version: tls.parameters.version,
                cipher_suite: tls.parameters.cipher_suite,
                key_exchange_group: tls.parameters.key_exchange_group.clone(),
                alpn: tls.parameters.alpn.as_ref().map(|id| String::from_utf8_lossy(id).into_owned()),
                resumed: tls.parameters.resumed,
            }),
            plaintext_reason: details.plaintext_reason,
            expected_ids: details.expected.iter().map(ToString::to_string).collect(),
            rule: details.rule.as_ref().map(ToString::to_string),
            audit_rules: details.audits.iter().map(ToString::to_string).collect(),
            retries: details.retries,
            bytes_sent: view.sent,
            bytes_received: view.received,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn rfc3339(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A reader that has stopped reading.
    struct Stuck;

    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            loop {
                thread::park();
            }
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_does_not_read_the_lines_does_not_hold_up_the_end() {
        let log = AccessLog::to(Stuck);
        if let Some(lines) = &*log.0.as_ref().unwrap().lines.lock().unwrap() {
            lines.send("a line\n".to_owned()).unwrap();
        }
        let began = Instant::now();
        log.finish();
        assert!(began.elapsed() >= FAREWELL && began.elapsed() < 10 * FAREWELL, "{:?}", began.elapsed());
    }

    #[test]
    fn the_end_waits_for_what_is_still_to_be_written() {
        let (out, written) = mpsc::channel();
        struct Slow(mpsc::Sender<Vec<u8>>);
        impl Write for Slow {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                thread::sleep(Duration::from_millis(50));
                self.0.send(bytes.to_vec()).unwrap();
                Ok(bytes.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = AccessLog::to(Slow(out));
        if let Some(lines) = &*log.0.as_ref().unwrap().lines.lock().unwrap() {
            for line in ["a\n", "b\n"] {
                lines.send(line.to_owned()).unwrap();
            }
        }
        log.finish();
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [b"a\n", b"b\n"]);
    }
}
