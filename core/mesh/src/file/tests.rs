use proptest::prelude::*;

use super::*;
use crate::{Kind, Mode, Principal};

const EXAMPLE: &str = include_str!("../../examples/mesh.yaml");

/// A mesh file that is right; each case below makes one thing of it wrong.
const RIGHT: &str = "\
trust_domain: example.org
mesh_networks: [10.0.0.0/8, 'fd00::/48']
outbound:
  except_networks: [10.9.0.0/16]
workloads:
  - name: a
    addresses: [10.0.0.1, 'fd00::1']
    spiffe_id: spiffe://example.org/ns/shop/sa/a
    kind: meshed
  - name: b
    addresses: [10.0.0.2]
    kind: plain
services:
  - name: s
    addresses: [10.96.0.1]
    ports: [{port: 80, target_port: 8080}]
    endpoints:
      - workload: a
policies:
  - name: p
    layer: {workloads: [a]}
    mode: STRICT
    ports:
      9100: {mode: DISABLE}
    rules:
      - name: r
        action: allow
        ports: [80]
        from: [{namespace: shop}]
";

fn error(from: &str, to: &str) -> MeshFileError {
    assert!(RIGHT.contains(from), "{from:?} is in the text");
    MeshFile::parse(&RIGHT.replacen(from, to, 1)).unwrap_err()
}

#[track_caller]
fn refused(from: &str, to: &str, label: &str, message: &str) {
    let error = error(from, to);
    assert_eq!((error.as_str(), error.to_string().as_str()), (label, message));
}

#[test]
fn the_documented_example_is_a_mesh() {
    let mesh = MeshFile::parse(EXAMPLE).unwrap();
    assert_eq!(mesh.trust_domain().as_str(), "example.org");
    assert_eq!(mesh.workloads().len(), 5);
    assert_eq!(mesh.check_served(), Ok(()));
    let db = mesh.workload_at(&["10.0.0.6".parse().unwrap()]).unwrap();
    assert_eq!(db.kind, Kind::Meshed);
    assert_eq!(db.inbound.mode(5432), Mode::Strict);
    assert_eq!(db.inbound.mode(9100), Mode::Disable);
    assert_eq!(db.inbound.alpn(5432), [b"postgresql".to_vec()]);
    let decide = |id: &str| db.inbound.decide(5432, &Principal::Identity(id.parse().unwrap()));
    assert_eq!(decide("spiffe://example.org/ns/shop/sa/web").rule.as_str(), "db/web-and-reports");
    assert_eq!(decide("spiffe://example.org/ns/shop/sa/other").rule.as_str(), "no-allow");
    assert_eq!(decide("spiffe://example.org/ns/interns/sa/x").rule.as_str(), "db/no-interns");
    let report = decide("spiffe://partner.example/reports/daily");
    assert!(report.allowed);
    assert_eq!(report.audits, ["db/reports".into()]);
}

#[test]
fn each_layer_selects_its_own_workloads() {
    let mesh = MeshFile::parse(EXAMPLE).unwrap();
    let policies = |address: &str| {
        let workload = mesh.workload_at(&[address.parse().unwrap()]).unwrap();
        workload.inbound.policies().iter().map(|p| p.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(policies("10.0.0.5"), ["everywhere", "shop"]);
    assert_eq!(policies("10.0.0.6"), ["db", "everywhere", "shop"]);
    assert_eq!(policies("10.0.0.8"), ["everywhere"]);
    assert_eq!(policies("10.0.0.9"), ["everywhere"]);
}

#[test]
fn a_port_without_a_mode_is_strict() {
    let mesh = MeshFile::parse(&RIGHT.replace("    mode: STRICT\n", "")).unwrap();
    assert_eq!(mesh.workloads()[0].inbound.mode(1234), Mode::Strict);
}

#[test]
fn an_unknown_field_is_refused_wherever_it_stands() {
    for (before, line) in [
        ("trust_domain:", 1),
        ("  except_networks:", 4),
        ("    kind: meshed", 9),
        ("    addresses: [10.96", 15),
        ("    mode: STRICT", 22),
        ("        action:", 27),
    ] {
        let indent = " ".repeat(before.len() - before.trim_start().len());
        let error = error(before, &format!("{indent}colour: red\n{before}"));
        assert_eq!((error.as_str(), error.line), ("syntax", line), "{error}");
        assert!(error.to_string().contains("unknown field `colour`, expected"), "{error}");
    }
    for (from, to) in [
        ("{port: 80,", "{colour: red, port: 80,"),
        ("{mode: DISABLE}", "{colour: red}"),
        ("{namespace: shop}", "{service_account: {namespace: a, name: b, colour: red}}"),
    ] {
        let error = error(from, to);
        assert!(error.to_string().contains("unknown field `colour`, expected"), "{error}");
    }
}

#[test]
fn a_wrong_value_is_named_with_its_line_its_field_and_what_was_expected() {
    let cases = [
        ("example.org\nmesh", "Example.org\nmesh", "line 1, trust_domain: a trust domain holds only a-z"),
        ("[10.0.0.0/8, 'fd00::/48']", "[]", "line 2, mesh_networks: invalid length 0, expected a list of at least one"),
        (
            "10.0.0.0/8",
            "10.0.0.1/8",
            "line 2, mesh_networks[0]: \"10.0.0.1/8\" has bits beyond its prefix: expected 10.0",
        ),
        ("10.0.0.0/8", "10.0.0.0/33", "line 2, mesh_networks[0]: \"10.0.0.0/33\" is no network: expected one such as"),
        ("10.0.0.0/8", "'::ffff:10.0.0.0/104'", "line 2, mesh_networks[0]: \"::ffff:10.0.0.0/104\" is an IPv4 network"),
        ("10.0.0.1,", "db.local,", "line 7, workloads[0].addresses[0]: \"db.local\" is no IP address: expected one,"),
        ("10.0.0.1,", "169.254.1.1,", "line 7, workloads[0].addresses[0]: 169.254.1.1 is never captured: expected a"),
        ("spiffe://example.org/ns/shop/sa/a", "shop/a", "line 8, workloads[0].spiffe_id: a SPIFFE ID begins with"),
        ("kind: meshed", "kind: mesh", "line 9, workloads[0].kind: unknown variant `mesh`, expected one of meshed, "),
        ("name: b", "name: b/c", "line 10, workloads[1].name: expected a name: 1 to 253 of"),
        (
            "port: 80,",
            "port: http,",
            "line 16, services[0].ports[0].port: \"http\" is no port: expected a number from 1 to",
        ),
        ("port: 80,", "port: 0,", "line 16, services[0].ports[0].port: \"0\" is no port: expected a number from 1 to"),
        ("port: 80,", "port: 65536,", "line 16, services[0].ports[0].port: \"65536\" is no port: expected a number"),
        ("9100:", "09100:", "line 24, policies[0].ports.09100: \"09100\" is no port: expected a number"),
        (
            "mode: STRICT",
            "mode: strict",
            "line 22, policies[0].mode: unknown variant `strict`, expected one of STRICT,",
        ),
        ("action: allow", "action: permit", "line 27, policies[0].rules[0].action: unknown variant `permit`, expected"),
        ("ports: [80]", "ports: []", "line 28, policies[0].rules[0].ports: invalid length 0, expected a list of at"),
        ("from: [{namespace: shop}]", "from: []", "line 29, policies[0].rules[0].from: invalid length 0, expected"),
        ("        from: [{namespace: shop}]\n", "", "line 28, policies[0].rules[0].from: missing field `from`"),
        ("mesh_networks: [10.0.0.0/8, 'fd00::/48']\n", "", "line 18, mesh_networks: missing field `mesh_networks`"),
    ];
    for (from, to, message) in cases {
        let error = error(from, to);
        assert_eq!(error.as_str(), "syntax", "{error}");
        assert!(error.to_string().starts_with(message), "{error}\n{message}");
    }
}

#[test]
fn a_name_is_given_once() {
    let duplicate = "the name a was given on line 6 already: names are unique";
    refused("name: b", "name: a", "duplicate_name", &format!("line 10, workloads[1].name: {duplicate}"));
    let rule = "      - {name: r, action: deny, from: [unauthenticated]}\n      - name: r\n";
    let message = "line 27, policies[0].rules[1].name: the name r was given on line 26 already: names are unique";
    refused("      - name: r\n", rule, "duplicate_name", message);
}

#[test]
fn an_address_belongs_to_one_workload_or_service() {
    for (from, to, message) in [
        ("[10.0.0.2]", "[10.0.0.1]", "line 11, workloads[1].addresses: the address 10.0.0.1 belongs to workload a"),
        ("'fd00::1'", "10.0.0.1", "line 7, workloads[0].addresses: the address 10.0.0.1 belongs to workload a"),
        ("'fd00::1'", "'::ffff:10.0.0.1'", "line 7, workloads[0].addresses: the address 10.0.0.1 belongs to workload"),
        ("[10.96.0.1]", "[10.0.0.2]", "line 15, services[0].addresses: the address 10.0.0.2 belongs to workload b"),
        (
            "[10.96.0.1]",
            "[10.2.2.2, 10.2.2.2]",
            "line 15, services[0].addresses: the address 10.2.2.2 belongs to service s",
        ),
    ] {
        let error = error(from, to);
        assert_eq!(error.as_str(), "duplicate_address");
        assert!(error.to_string().starts_with(message), "{error}");
    }
}

#[test]
fn what_is_listed_lies_inside_the_mesh_networks_and_outside_excepted_ones() {
    assert_eq!(error("10.0.0.2", "192.0.2.2").as_str(), "outside_mesh_networks");
    assert_eq!(error("10.96.0.1", "192.0.2.2").as_str(), "outside_mesh_networks");
    assert_eq!(error("10.0.0.1,", "10.9.0.1,").as_str(), "in_except_networks");
    assert_eq!(error("10.96.0.1", "10.9.0.1").as_str(), "in_except_networks");
    // A plain workload is plaintext either way.
    assert!(MeshFile::parse(&RIGHT.replace("10.0.0.2", "10.9.0.2")).is_ok());
}

#[test]
fn an_identity_fits_the_kind_of_its_workload() {
    let id = "    spiffe_id: spiffe://example.org/ns/shop/sa/a\n";
    assert_eq!(error(id, "").as_str(), "missing_spiffe_id");
    assert_eq!(error(id, "    spiffe_id: spiffe://other.org/ns/shop/sa/a\n").as_str(), "other_trust_domain");
    assert_eq!(error(id, "    spiffe_id: spiffe://example.org/kith/ca\n").as_str(), "reserved_spiffe_id");
    let plain =
        |id: &str| RIGHT.replace("kind: plain", &format!("spiffe_id: spiffe://example.org{id}\n    kind: foreign"));
    assert!(MeshFile::parse(&plain("/kith/ca")).is_ok());
    assert!(MeshFile::parse(&plain("/kith/discovery")).is_ok());
    assert_eq!(MeshFile::parse(&plain("/kith/other")).unwrap_err().as_str(), "reserved_spiffe_id");
    assert!(MeshFile::parse(&plain("/x").replace("kind: foreign", "kind: foreign\n    alpn: [h2]")).is_ok());
    assert_eq!(error("kind: plain", "kind: plain\n    alpn: [h2]").as_str(), "alpn_without_foreign");
}

#[test]
fn no_foreign_workload_is_offered_an_id_of_our_own() {
    for id in ["kith/1", "kith/2", "kith-tunnel/1", "''"] {
        let foreign = format!("kind: foreign\n    spiffe_id: spiffe://example.org/b\n    alpn: [{id}]");
        let error = error("kind: plain", &foreign);
        assert_eq!((error.as_str(), error.field.as_str()), ("syntax", "workloads[1].alpn[0]"), "{error}");
    }
}

#[test]
fn an_endpoint_is_a_listed_workload_or_an_address_that_is_not_unknown() {
    let message = "line 18, services[0].endpoints: there is no workload c: expected the name of a listed one";
    refused("- workload: a", "- workload: c", "unknown_workload", message);
    assert_eq!(error("- workload: a", "- address: 10.0.0.99").as_str(), "unlisted_endpoint");
    assert_eq!(error("- workload: a", "- address: 10.96.0.1").as_str(), "unlisted_endpoint");
    assert_eq!(error("- workload: a", "- workload: a\n      - address: 10.0.0.1").as_str(), "duplicate_endpoint");
    assert_eq!(error("{port: 80,", "{port: 80}, {port: 80,").as_str(), "duplicate_port");
    for address in ["192.0.2.1", "10.9.0.1", "10.0.0.2"] {
        assert!(MeshFile::parse(&RIGHT.replace("- workload: a", &format!("- address: {address}"))).is_ok());
    }
}

#[test]
fn a_policy_selects_somebody() {
    let message = "line 21, policies[0].layer: there is no workload c: expected the name of a listed one";
    refused("{workloads: [a]}", "{workloads: [a, c]}", "unknown_workload", message);
    assert_eq!(error("{workloads: [a]}", "{namespace: shopp}").as_str(), "unknown_namespace");
    assert_eq!(error("{workloads: [a]}", "everywhere").as_str(), "syntax");
    // A namespace of another trust domain is another namespace.
    let partner = "kind: foreign\n    spiffe_id: spiffe://partner.example/ns/lab/sa/b";
    let text = RIGHT.replace("kind: plain", partner).replace("{workloads: [a]}", "{namespace: lab}");
    assert_eq!(MeshFile::parse(&text).unwrap_err().as_str(), "unknown_namespace");
}

#[test]
fn permissive_is_understood_and_said_to_be_not_served_yet() {
    let file = |to: &str| MeshFile::parse(&RIGHT.replace("{mode: DISABLE}", to)).unwrap();
    let mesh = file("{mode: PERMISSIVE, foreign_mtls: true}");
    assert_eq!(mesh.workloads()[0].inbound.mode(9100), Mode::Permissive { foreign_mtls: true });
    let error = mesh.check_served().unwrap_err();
    let message = "line 24, policies[0].ports.9100.mode: PERMISSIVE is not served yet: expected STRICT or DISABLE";
    assert_eq!(error.to_string(), message);
    assert_eq!(error.as_str(), "permissive_not_served");

    let mesh = MeshFile::parse(&RIGHT.replace("mode: STRICT", "mode: PERMISSIVE")).unwrap();
    let error = mesh.check_served().unwrap_err();
    assert_eq!((error.line, error.field.as_str()), (22, "policies[0].mode"));
    assert_eq!(file("{mode: STRICT}").check_served(), Ok(()));
}

#[test]
fn foreign_mtls_is_for_permissive_ports() {
    for entry in ["{foreign_mtls: true}", "{mode: STRICT, foreign_mtls: true}", "{mode: DISABLE, foreign_mtls: true}"] {
        let error = error("{mode: DISABLE}", entry);
        assert_eq!(error.as_str(), "foreign_mtls_without_permissive");
        assert_eq!((error.line, error.field.as_str()), (24, "policies[0].ports.9100.foreign_mtls"));
    }
}

#[test]
fn what_is_no_yaml_mapping_is_refused() {
    for text in ["", "~", "[]", "a", "trust_domain: [", "trust_domain: a\n---\ntrust_domain: b", "\0", "a: &x *x"] {
        assert_eq!(MeshFile::parse(text).unwrap_err().as_str(), "syntax", "{text:?}");
    }
    let twice = error("trust_domain: example.org\n", "trust_domain: example.org\ntrust_domain: example.org\n");
    assert_eq!((twice.as_str(), twice.line), ("syntax", 2));
}

#[test]
fn an_alias_bomb_is_refused_before_it_grows() {
    let mut bomb = String::from("trust_domain: a\nmesh_networks: [10.0.0.0/8]\nworkloads:\n");
    bomb.push_str("  - &b0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let of = format!("*b{}", n - 1);
        bomb.push_str(&format!("  - &b{n} [{}]\n", [of.as_str(); 10].join(", ")));
    }
    assert_eq!(MeshFile::parse(&bomb).unwrap_err().as_str(), "syntax");
    // The same where the shape is right, so that only the budget can stop it.
    let port = "&p0 [1, 2, 3, 4, 5, 6, 7, 8]";
    let mut wide = format!("trust_domain: a\nmesh_networks: [10.0.0.0/8]\nworkloads:\n{}", workload(0, port));
    (1..20_000).for_each(|n| wide.push_str(&workload(n, "*p0")));
    let error = MeshFile::parse(&wide).unwrap_err();
    assert!(error.to_string().contains("alias"), "{error}");
}

fn workload(n: usize, ports: &str) -> String {
    let (high, low) = (n / 250, n % 250);
    format!("  - {{name: w{n}, addresses: [10.0.{high}.{low}], kind: plain, skip_ports: {ports}}}\n")
}

#[test]
fn a_mesh_of_ten_thousand_workloads_is_within_the_budget() {
    let mut text = String::from("trust_domain: a\nmesh_networks: [10.0.0.0/8]\nworkloads:\n");
    (0..10_000).for_each(|n| text.push_str(&workload(n, "[9100, 9101]")));
    assert_eq!(MeshFile::parse(&text).unwrap().workloads().len(), 10_000);
}

#[test]
fn a_text_beyond_the_limit_is_not_even_read() {
    assert_eq!(MeshFile::parse(&" ".repeat(MeshFile::MAX_LEN + 1)).unwrap_err().as_str(), "too_large");
}

/// The right file with one piece of it replaced: what people, and fuzzers, get wrong.
fn almost_right() -> impl Strategy<Value = String> {
    let piece = prop_oneof!["\\PC{0,12}", "[-\\[\\]{}:,&*!|>'\"%@~ \\t\\n0-9a-z./]{0,24}"];
    (0..RIGHT.len(), 0..40usize, piece).prop_map(|(at, length, piece)| {
        let end = RIGHT.len().min(at + length);
        format!("{}{piece}{}", &RIGHT[..at], &RIGHT[end..])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_text_makes_the_parser_panic(text in prop_oneof![
        any::<String>(),
        "[-\\[\\]{}:,&*!|>'\"%@~? \\t\\r\\n0-9a-z./<]{0,200}",
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        almost_right(),
    ]) {
        match MeshFile::parse(&text) {
            Ok(mesh) => prop_assert!(!mesh.networks().is_empty()),
            Err(error) => {
                let lines = text.split(['\n', '\r']).count() as u64;
                prop_assert!(error.line >= 1 && error.line <= lines, "{}", error);
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
