use super::*;
use crate::MeshFile;

const FILE: &str = include_str!("../../examples/mesh.yaml");

fn mesh() -> Mesh {
    MeshFile::parse(FILE).unwrap()
}

fn endpoints(mesh: &Mesh, address: &str) -> Vec<(String, String)> {
    match mesh.destination(address.parse().unwrap()) {
        Answer::Known(d) => d.endpoints.iter().map(|e| (e.address.to_string(), describe(&e.reach))).collect(),
        Answer::Unknown => vec![("unknown".into(), String::new())],
    }
}

fn describe(reach: &Reach) -> String {
    match reach {
        Reach::Plain(reason) => reason.as_str().into(),
        Reach::Meshed(Meshed { ids, protocol }) => {
            let ids: Vec<_> = ids.iter().map(SpiffeId::to_string).collect();
            match protocol {
                Protocol::Kith => format!("kith {}", ids.join(" ")),
                Protocol::Foreign { alpn } => {
                    let alpn: Vec<_> = alpn.iter().map(|id| String::from_utf8_lossy(id)).collect();
                    format!("foreign {} {}", alpn.join(","), ids.join(" "))
                }
            }
        }
    }
}

#[track_caller]
fn reaches(mesh: &Mesh, address: &str, expected: &[(&str, &str)]) {
    let found = endpoints(mesh, address);
    let found: Vec<_> = found.iter().map(|(address, how)| (address.as_str(), how.as_str())).collect();
    assert_eq!(found, expected, "{address}");
}

#[test]
fn a_workload_is_meshed_on_each_port_that_it_does_not_skip() {
    let mesh = mesh();
    reaches(&mesh, "10.0.0.5:1", &[("10.0.0.5:1", "kith spiffe://example.org/ns/shop/sa/web")]);
    reaches(&mesh, "[fd00::5]:1", &[("[fd00::5]:1", "kith spiffe://example.org/ns/shop/sa/web")]);
    reaches(&mesh, "10.0.0.8:1", &[("10.0.0.8:1", "foreign h2 spiffe://partner.example/payments")]);
    reaches(&mesh, "10.0.0.6:9100", &[("10.0.0.6:9100", "skipped_port")]);
    reaches(&mesh, "10.0.0.7:9100", &[("10.0.0.7:9100", "mode_disable")]);
    reaches(&mesh, "10.0.0.9:1", &[("10.0.0.9:1", "plain_workload")]);
}

#[test]
fn the_sidecars_own_ports_are_reached_as_they_are() {
    let mesh = mesh();
    for port in 15020..=15022 {
        let address = format!("10.0.0.5:{port}");
        reaches(&mesh, &address, &[(&address, "sidecar_port")]);
    }
    reaches(&mesh, "10.0.0.5:15023", &[("10.0.0.5:15023", "kith spiffe://example.org/ns/shop/sa/web")]);
    reaches(&mesh, "10.0.0.8:15020", &[("10.0.0.8:15020", "foreign h2 spiffe://partner.example/payments")]);
}

#[test]
fn modes_do_not_turn_a_foreign_workload_plain() {
    reaches(&mesh(), "10.0.0.8:9100", &[("10.0.0.8:9100", "foreign h2 spiffe://partner.example/payments")]);
}

#[test]
fn a_service_leads_to_its_endpoints_own_addresses_target_ports_and_identities() {
    let mesh = mesh();
    let db = "kith spiffe://example.org/ns/shop/sa/db";
    reaches(&mesh, "10.96.0.10:5432", &[("10.0.0.6:5432", db), ("10.0.0.7:5432", db)]);
    reaches(&mesh, "10.96.0.11:443", &[("203.0.113.7:443", "outside")]);
    let Answer::Known(destination) = mesh.destination("10.96.0.10:5432".parse().unwrap()) else { panic!() };
    assert!(destination.client_ip_affinity);
}

#[test]
fn inside_the_mesh_networks_what_is_not_listed_is_unknown() {
    let mesh = mesh();
    for address in ["10.0.0.99:80", "[fd00::99]:80", "10.96.0.10:80"] {
        assert_eq!(mesh.destination(address.parse().unwrap()), Answer::Unknown, "{address}");
    }
}

#[test]
fn outside_the_mesh_networks_and_in_excepted_ones_traffic_passes_with_its_reason() {
    let mesh = mesh();
    reaches(&mesh, "192.0.2.1:80", &[("192.0.2.1:80", "outside")]);
    reaches(&mesh, "[2001:db8::1]:80", &[("[2001:db8::1]:80", "outside")]);
    reaches(&mesh, "10.9.1.2:80", &[("10.9.1.2:80", "except_network")]);
}

#[test]
fn an_ipv4_address_in_ipv6_form_gets_the_same_answer() {
    let mesh = mesh();
    reaches(&mesh, "[::ffff:10.0.0.5]:1", &[("10.0.0.5:1", "kith spiffe://example.org/ns/shop/sa/web")]);
    assert_eq!(mesh.destination("[::ffff:10.0.0.99]:80".parse().unwrap()), Answer::Unknown);
    assert_eq!(mesh.workload_at(&["::ffff:10.0.0.5".parse().unwrap()]).unwrap().name, "web-1");
}

#[test]
fn a_sidecar_finds_itself_by_its_own_addresses() {
    let mesh = mesh();
    let at = |addresses: &[&str]| {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        mesh.workload_at(&addresses).map(|w| w.name.clone())
    };
    assert_eq!(at(&["127.0.0.1", "10.0.0.5", "fe80::1", "fd00::5"]), Ok("web-1".into()));
    assert_eq!(at(&["10.0.0.5", "10.0.0.6"]), Err(SelfError::Several("web-1".into(), "db-1".into())));
    assert_eq!(at(&["192.0.2.1"]), Err(SelfError::NotListed(vec!["192.0.2.1".parse().unwrap()])));
    assert_eq!(at(&[]).unwrap_err().as_str(), "not_listed");
}

#[test]
fn a_service_reaches_a_workload_by_the_family_that_was_dialled_where_it_has_it() {
    let text = "
trust_domain: example.org
mesh_networks: [10.0.0.0/8, 'fd00::/48']
workloads:
  - {name: both, addresses: [10.0.0.1, 'fd00::1'], spiffe_id: spiffe://example.org/a, kind: meshed}
  - {name: four, addresses: [10.0.0.2], kind: plain}
services:
  - name: s
    addresses: [10.1.0.1, 'fd00::a']
    ports: [{port: 80, target_port: 8080}]
    endpoints: [{workload: both}, {workload: four}]
";
    let mesh = MeshFile::parse(text).unwrap();
    let kith = "kith spiffe://example.org/a";
    reaches(&mesh, "10.1.0.1:80", &[("10.0.0.1:8080", kith), ("10.0.0.2:8080", "plain_workload")]);
    reaches(&mesh, "[fd00::a]:80", &[("[fd00::1]:8080", kith), ("10.0.0.2:8080", "plain_workload")]);
}

#[test]
fn a_service_without_a_ready_endpoint_is_known_and_leads_nowhere() {
    let services = "services: [{name: s, addresses: [10.1.0.1], ports: [{port: 80}]}]";
    let mesh = MeshFile::parse(&format!("trust_domain: a\nmesh_networks: [10.0.0.0/8]\n{services}\n")).unwrap();
    reaches(&mesh, "10.1.0.1:80", &[]);
}

#[test]
fn an_endpoint_given_as_a_meshed_workloads_address_stays_meshed() {
    let text = "
trust_domain: example.org
mesh_networks: [10.0.0.0/8]
workloads:
  - {name: a, addresses: [10.0.0.1], spiffe_id: spiffe://example.org/a, kind: meshed}
services:
  - {name: s, addresses: [10.1.0.1], ports: [{port: 80}], endpoints: [{address: 10.0.0.1}]}
";
    reaches(&MeshFile::parse(text).unwrap(), "10.1.0.1:80", &[("10.0.0.1:80", "kith spiffe://example.org/a")]);
}
