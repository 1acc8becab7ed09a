//! The log of a process: sentences with fields, on standard error.

use std::{
    fmt,
    io::{self, IsTerminal as _},
    str::FromStr,
};

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt as _};

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people; in colour where standard error is a terminal.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// Not a filter.
    #[error("--log (KITH_LOG) is '{filter}': {reason}; expected a level such as 'info', or 'warn,kith_proxy=debug'")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The process has one already.
    #[error("the log is set up already")]
    AlreadySet,
}

/// Not the name of a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no log format; expected 'text' or 'json'")]
pub struct LogFormatError(String);

/// Sets up the log of this process: once, before anything is worth a line.
///
/// `filter` is a level, or directives such as `warn,kith_proxy=debug`, as `tracing_subscriber::EnvFilter` reads them.
///
/// # Errors
/// When the filter is none, or the process has a log already.
pub fn init(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let colour = io::stderr().is_terminal();
    subscriber(filter, format, colour, io::stderr)?.try_init().map_err(|_| TelemetryError::AlreadySet)
}

fn subscriber<W>(
    filter: &str,
    format: LogFormat,
    colour: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|error| TelemetryError::Filter { filter: filter.to_owned(), reason: error.to_string() })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(writer);
    Ok(match format {
        LogFormat::Text => Box::new(lines.finish()),
        LogFormat::Json => Box::new(lines.json().flatten_event(true).with_current_span(false).finish()),
    })
}

impl FromStr for LogFormat {
    type Err = LogFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LogFormatError(other.to_owned())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, info, subscriber::DefaultGuard, warn};

    use super::*;

    /// What this thread logs while the guard lives.
    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn begin(filter: &str, format: LogFormat) -> (Self, DefaultGuard) {
            let captured = Self::default();
            let writer = captured.clone();
            let subscriber = subscriber(filter, format, false, move || writer.clone()).unwrap();
            (captured, tracing::subscriber::set_default(subscriber))
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn text_is_a_sentence_with_its_fields() {
        let (log, _guard) = Captured::begin("info", LogFormat::Text);
        info!(left = 3, "Renewed the SVID");
        debug!("Not asked for");
        let text = log.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("INFO") && text.contains("Renewed the SVID left=3"), "{text}");
    }

    #[test]
    fn json_is_one_object_a_line_with_its_fields_at_the_top() {
        let (log, _guard) = Captured::begin("warn,kith_runtime=debug", LogFormat::Json);
        warn!(peer = "a \"quoted\" name\n", "Refused");
        debug!("Asked for by its module");
        let text = log.text();
        assert_eq!(text.lines().count(), 2, "{text}");
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("{\"timestamp\":\"20") && first.ends_with('}'), "{first}");
        for field in [r#""level":"WARN""#, r#""message":"Refused""#, r#""peer":"a \"quoted\" name\n""#] {
            assert!(first.contains(field), "{field} in {first}");
        }
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let Err(error) = subscriber("info,kith=loud", LogFormat::Text, false, io::sink) else { panic!("accepted") };
        let text = error.to_string();
        assert!(text.contains("'info,kith=loud'") && text.contains("expected a level"), "{text}");
    }

    #[test]
    fn a_process_has_one_log() {
        // Other tests don't set the process's own, only their thread's.
        init("off", LogFormat::Text).unwrap();
        assert!(matches!(init("off", LogFormat::Json), Err(TelemetryError::AlreadySet)));
    }

    #[test]
    fn formats_are_read_as_they_are_printed() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "xml".parse::<LogFormat>().unwrap_err();
        assert_eq!(error.to_string(), "'xml' is no log format; expected 'text' or 'json'");
    }
}
