//! Tables for people, JSON for programs.

use std::{
    io::{self, Write as _},
    time::SystemTime,
};

use kith_runtime::exit::Failure;
use prost_types::Timestamp;
use serde::Serialize;

use crate::time;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Prints text as it is.
pub(super) fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::runtime)
}

/// Prints one JSON document.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let document = serde_json::to_string_pretty(value).map_err(Failure::runtime)?;
    text(&format!("{document}\n"))
}

/// Prints rows under their headings.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> Result<(), Failure> {
    text(&lay_out(headings, rows))
}

fn lay_out<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let headings = headings.map(str::to_owned);
    let mut widths = headings.each_ref().map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    std::iter::once(&headings).chain(rows).map(line).collect()
}

/// RFC 3339, or nothing.
pub(super) fn moment(timestamp: Option<&Timestamp>) -> Option<String> {
    timestamp.map(|timestamp| time::text(kith_proto::system_time(timestamp)))
}

/// How long until a moment, or since, in words.
pub(super) fn from_now(timestamp: Option<&Timestamp>, now: SystemTime) -> String {
    let Some(then) = timestamp.map(kith_proto::system_time) else { return "-".to_owned() };
    let short = |duration: std::time::Duration| {
        let seconds = duration.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds % 86_400 / 3600, seconds % 3600 / 60);
        match (days, hours, minutes) {
            (0, 0, 0) => format!("{seconds}s"),
            (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
            (0, hours, minutes) => format!("{hours}h{minutes}m"),
            (days, hours, _) => format!("{days}d{hours}h"),
        }
    };
    match then.duration_since(now) {
        Ok(left) => format!("in {}", short(left)),
        Err(past) => format!("{} ago", short(past.duration())),
    }
}

/// Something, or a dash.
pub(super) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let rows = [["a".to_owned(), "long".to_owned()], ["abc".to_owned(), "b".to_owned()]];
        assert_eq!(lay_out(["X", "Y"], &rows), "X    Y\na    long\nabc  b\n");
        assert_eq!(lay_out::<1>(["X"], &[]), "X\n");
    }

    #[test]
    fn moments_are_told_as_seen_from_now() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let told = |offset: i64| {
            let seconds = 1_000_000 + offset;
            from_now(Some(&Timestamp { seconds, nanos: 0 }), now)
        };
        assert_eq!(told(30), "in 30s");
        assert_eq!(told(3599), "in 59m59s");
        assert_eq!(told(4 * 3600), "in 4h0m");
        assert_eq!(told(90 * 86_400), "in 90d0h");
        assert_eq!(told(-61), "1m1s ago");
        assert_eq!(from_now(None, now), "-");
    }
}
