use std::collections::BTreeSet;

use super::*;

/// The lines of the page that hold samples of a metric.
fn samples(registry: &Registry, name: &str) -> Vec<String> {
    let page = registry.encode().unwrap();
    let is_sample = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    let mut lines: Vec<String> = page.lines().filter(is_sample).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn what_is_exported_bears_the_names_of_the_table() {
    let mut registry = Registry::new();
    registry.info(&names::BUILD, ["0.1.0"]);
    registry.counter(&names::ACCEPT_ERRORS).inc_by(2);
    registry.gauge(&names::SVID_EXPIRY).set(1_800_000_000);
    let opened = registry.counters(&names::CONNECTIONS_OPENED);
    opened.with(["inbound"]).inc();
    opened.clone().with(["inbound"]).inc();
    let _ = opened.with(["outbound"]);
    registry.gauges(&names::CONNECTIONS_OPEN).with(["inbound"]).set(-1);

    assert_eq!(samples(&registry, "kith_build_info"), [r#"kith_build_info{version="0.1.0"} 1"#]);
    assert_eq!(samples(&registry, "kith_accept_errors_total"), ["kith_accept_errors_total 2"]);
    assert_eq!(samples(&registry, "kith_svid_expiry_seconds"), ["kith_svid_expiry_seconds 1800000000"]);
    assert_eq!(
        samples(&registry, "kith_connections_opened_total"),
        [
            r#"kith_connections_opened_total{direction="inbound"} 2"#,
            r#"kith_connections_opened_total{direction="outbound"} 0"#
        ]
    );
    assert_eq!(samples(&registry, "kith_connections_open"), [r#"kith_connections_open{direction="inbound"} -1"#]);
}

#[test]
fn the_page_is_openmetrics() {
    let mut registry = Registry::new();
    let _ = registry.counter(&names::ACCEPT_ERRORS);
    let expected = "\
# HELP kith_accept_errors Failures to accept a connection, most of them for want of descriptors or memory.
# TYPE kith_accept_errors counter
kith_accept_errors_total 0
# EOF
";
    assert_eq!(registry.encode().unwrap(), expected);
}

#[test]
fn labels_keep_the_order_of_the_table_and_are_escaped() {
    let mut registry = Registry::new();
    let decisions = registry.counters(&names::POLICY_DECISIONS);
    decisions.with(["shop/\"web\"\n\\", "allow"]).inc();
    let expected = r#"kith_policy_decisions_total{rule="shop/\"web\"\n\\",decision="allow"} 1"#;
    assert_eq!(samples(&registry, "kith_policy_decisions_total"), [expected]);
}

#[test]
fn names_say_kind_and_unit_and_are_said_once() {
    let mut seen = BTreeSet::new();
    for row in names::ALL {
        let name = row.name;
        assert!(seen.insert(name), "{name} is there twice");
        assert!(name.starts_with("kith_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), row.kind == Kind::Counter, "{name}");
        assert_eq!(name.ends_with("_info"), row.kind == Kind::Info, "{name}");
        if let Some(unit) = row.unit {
            assert!(row.family().ends_with(&format!("_{unit}")), "{name} is counted in {unit}");
        }
        // The encoding adds the full stop, and escapes nothing.
        assert!(!row.help.ends_with('.') && !row.help.contains(['\n', '\\', '"', '|']), "{name}");
    }
}

#[test]
fn the_docs_say_what_the_table_says() {
    let documented: Vec<&str> =
        include_str!("../../METRICS.md").lines().filter(|line| line.starts_with("| `kith_")).collect();
    let rows: Vec<String> = names::ALL.iter().map(|row| documented_row(row)).collect();
    for (documented, row) in documented.iter().zip(&rows) {
        assert_eq!(documented, row);
    }
    assert_eq!(documented.len(), rows.len(), "the table should be:\n{}", rows.join("\n"));
}

fn documented_row(row: &MetricInfo) -> String {
    let labels: Vec<String> = row.labels.iter().map(|label| format!("`{label}`")).collect();
    let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
    let (kind, unit) = (row.kind.as_str(), row.unit.unwrap_or("–"));
    format!("| `{}` | {kind} | {unit} | {labels} | {} | {} |", row.name, row.program, row.help)
}
