use std::time::{Duration, SystemTime};

use super::view::{ConnectionView, HolderView, IdentityView, Moment};
use crate::identity::rfc3339;

/// One line a fact, its name first.
pub(super) fn identity(identity: &IdentityView, now: SystemTime) -> String {
    let mut lines = vec![
        ("SPIFFE ID", identity.spiffe_id.clone()),
        ("held by", holder(&identity.holder)),
        ("version", identity.version.clone()),
        ("serial", identity.serial.clone()),
        ("issuer", identity.issuer.clone()),
        ("key", identity.key_type.clone()),
        ("attested by", identity.attestation.clone()),
        ("valid from", moment(identity.not_before, now)),
        ("valid until", moment(identity.not_after, now)),
        ("renewed", moment(identity.last_rotation, now)),
        ("next renewal", moment(identity.next_rotation, now)),
        ("renewals", identity.rotations.map_or_else(|| "-".to_owned(), |rotations| rotations.to_string())),
    ];
    if let Some(error) = &identity.last_error {
        lines.push(("failing since", moment(identity.failing_since, now)));
        lines.push(("last error", error.clone()));
    }
    lines.iter().map(|(name, value)| format!("{name:<14}{}\n", printable(value))).collect()
}

fn holder(holder: &HolderView) -> String {
    let parts =
        [("host", &holder.host), ("pod", &holder.pod_name), ("uid", &holder.pod_uid), ("node", &holder.node_name)];
    let known: Vec<String> =
        parts.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name} {value}")).collect();
    known.join(", ")
}

fn moment(moment: Option<Moment>, now: SystemTime) -> String {
    let Some(Moment(time)) = moment else { return "-".to_owned() };
    let distance = match time.duration_since(now) {
        Ok(left) => format!("in {}", roughly(left)),
        Err(past) => format!("{} ago", roughly(past.duration())),
    };
    format!("{} ({distance})", rfc3339(time))
}

/// The two largest units say enough.
fn roughly(duration: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

const HEADINGS: [&str; 8] = ["DIRECTION", "PEER", "DESTINATION", "WIRE", "RULE", "SENT", "RECEIVED", "STATE"];

/// One line a connection, columns as wide as they need to be.
pub(super) fn connections(connections: &[ConnectionView], now: SystemTime) -> String {
    if connections.is_empty() {
        return "no connections\n".to_owned();
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(connections.iter().map(|connection| row(connection, now)));
    let mut widths = [0; HEADINGS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; HEADINGS.len()]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(connection: &ConnectionView, now: SystemTime) -> [String; HEADINGS.len()] {
    let wire = match (connection.tls_version.as_str(), connection.plaintext_reason.as_str()) {
        ("", "") => "-".to_owned(),
        ("", reason) => format!("plaintext ({reason})"),
        (version, _) => format!("{version} {}", connection.key_exchange_group),
    };
    let state = match (connection.closed, connection.opened) {
        (Some(_), _) => format!("{} ({})", connection.outcome, connection.reason),
        (None, Some(Moment(opened))) => {
            format!("open {}", roughly(now.duration_since(opened).unwrap_or_default()))
        }
        (None, None) => "open".to_owned(),
    };
    let cells = [
        connection.direction,
        &connection.peer_spiffe_id,
        &connection.original_destination,
        &wire,
        &connection.rule,
        &connection.bytes_sent.to_string(),
        &connection.bytes_received.to_string(),
        &state,
    ];
    cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { printable(cell) })
}

/// What others chose to say is not to steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
