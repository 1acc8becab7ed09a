use kith_tests::{
    Pod, PodCommand, grpcurl, kith_proxy, spiffe_id,
    tcp::{self, Server},
};
use serde_json::{Value, json};

use crate::rig::{FRONT, Rig, Svid, WEB, ping};

const SIDECAR: &str = "kith.status.v1alpha1.IdentityStatus";
const AGENT: &str = "kith.status.v1alpha1.MeshStatus";
const CA: &str = "kith.ca.v1alpha1";
const HEALTH: &str = "grpc.health.v1.Health";
const AGENT_NAME: &str = "agent.example";

/// grpcurl that asks at one place, in one way.
struct Asker {
    name: &'static str,
    pod: Pod,
    options: Vec<String>,
    address: String,
}

impl Asker {
    fn new(name: &'static str, pod: &Pod, options: &[impl AsRef<str>], address: impl ToString) -> Self {
        let options = options.iter().map(|option| option.as_ref().to_owned()).collect();
        Self { name, pod: pod.clone(), options, address: address.to_string() }
    }

    /// The command for these words, with this data if it is not empty.
    fn command(&self, words: &[&str], data: &str) -> PodCommand {
        let command = self.pod.command(grpcurl()).args(["-max-time", "20"]).args(&self.options);
        let command = if data.is_empty() { command } else { command.args(["-d", data]) };
        command.arg(&self.address).args(words)
    }

    fn call(&self, method: &str, data: &str) -> Value {
        let answer = self.command(&[method], data).run();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{}: {error}: {answer}", self.name))
    }

    /// Asserts that it lists, describes and calls what it knows nothing of.
    fn assert_speaks(&self, services: &[&str]) {
        let listed = self.command(&["list"], "").run();
        for service in services {
            assert!(listed.lines().any(|line| line == *service), "{}: no {service} in {listed}", self.name);
            let described = self.command(&["describe", service], "").run();
            assert!(described.contains("rpc "), "{}: {described}", self.name);
        }
        let health = self.call(&format!("{HEALTH}/Check"), "");
        assert_eq!(health["status"], "SERVING", "{}", self.name);
    }
}

#[test]
fn on_the_sidecar_and_status_prints_the_same_as_table_and_json() {
    let rig = Rig::new();
    let (sidecar, _peer) = (rig.web().ready(), rig.front().ready());
    let _echo = Server::echo(&rig.client, rig.client.at(7002));
    let open = tcp::connect(&rig.server, rig.client.at(7002)).unwrap();
    ping(&open, b"is open").unwrap();

    let asker = Asker::new("the sidecar", &rig.server, &["-plaintext"], "127.0.0.1:15022");
    asker.assert_speaks(&[SIDECAR, HEALTH]);
    let identity = asker.call(&format!("{SIDECAR}/GetIdentity"), "");
    assert_eq!(identity["spiffeId"], *spiffe_id(WEB), "{identity}");
    assert_eq!(identity["attestation"], "join_token", "{identity}");
    let connections = asker.call(&format!("{SIDECAR}/ListConnections"), "");
    let connection = &connections["connections"][0];
    assert_eq!(connection["peerSpiffeId"], *spiffe_id(FRONT), "{connections}");
    assert_eq!(connection["tlsVersion"], "TLSv1.3", "{connections}");
    assert_eq!(connection["originalDestination"], rig.client.at(7002).to_string(), "{connections}");

    let status = sidecar.status(&[]);
    assert_eq!(status["identity"]["serial"], identity["serial"], "{status}");
    assert_eq!(status["identity"]["spiffe_id"], *spiffe_id(WEB), "{status}");
    let listed = status["connections"].as_array().unwrap();
    assert_eq!(listed.len(), 1, "{status}");
    assert_eq!(listed[0]["bytes_sent"], "is open".len(), "{status}");
    assert_eq!(listed[0]["key_exchange_group"], "X25519MLKEM768", "{status}");
    let table = rig.server.command(kith_proxy()).arg("status").run();
    let (web, front, serial) = (spiffe_id(WEB), spiffe_id(FRONT), identity["serial"].as_str().unwrap());
    for fact in [&web, &front, serial, "DIRECTION", "outbound", "TLSv1.3 X25519MLKEM768", "open "] {
        assert!(table.contains(fact), "no {fact} in the table:\n{table}");
    }

    drop(open);
    sidecar.wait_for_record(&json!({"direction": "outbound", "outcome": "closed"}));
    let closed = sidecar.status(&["connections", "--all"]);
    assert_eq!(closed[0]["outcome"], "closed", "{closed}");
    let none = rig.server.command(kith_proxy()).args(["status", "connections"]).run();
    assert_eq!(none, "no connections\n");
    let nobody = rig.net.pod("nobody").command(kith_proxy()).arg("status").output();
    assert_eq!(nobody.code(), Some(1));
    assert!(nobody.stderr.contains("no sidecar answers at 127.0.0.1:15022"), "{}", nobody.stderr);
}

/// Options for a client that knows the agent by its DNS name, and has this SVID.
fn as_holder(svid: &Svid) -> [String; 8] {
    let [cert, key, ca] = [svid.chain(), svid.key(), svid.bundle()].map(|path| path.display().to_string());
    ["-servername", AGENT_NAME, "-cacert", &ca, "-cert", &cert, "-key", &key].map(str::to_owned)
}

#[test]
fn on_the_agent_by_its_socket_and_as_an_admin_and_not_as_a_workload() {
    let rig = Rig::with_agent(&["--dns-name", AGENT_NAME, "--admin-id", &spiffe_id("/ns/ops/sa/*")]);
    let ops = rig.net.pod("ops");
    let sidecar = rig.web().ready();
    let serial = sidecar.status(&["identity"])["serial"].as_str().unwrap().to_owned();
    let (admin, workload) = (rig.svid(&ops, "/ns/ops/sa/alice"), rig.svid(&ops, "/ns/shop/sa/other"));
    let (admin, workload) = (as_holder(&admin), as_holder(&workload));
    let (attest, mtls) = (rig.agent.pod().at(15011), rig.agent.pod().at(15012));
    let socket = rig.agent.state_dir().join("admin.sock");

    let by_socket = Asker::new("admin.sock", rig.agent.pod(), &["-plaintext"], format!("unix://{}", socket.display()));
    let by_admin = Asker::new("15012 as an admin", &ops, &admin, mtls);
    for asker in [&by_socket, &by_admin] {
        let name = asker.name;
        asker.assert_speaks(&[AGENT, HEALTH]);
        let (list, get) = (format!("{AGENT}/ListIdentities"), format!("{AGENT}/GetIdentity"));
        let everybody = asker.call(&list, "");
        let ids: Vec<_> = everybody["identities"].as_array().unwrap().iter().map(|id| &id["spiffeId"]).collect();
        for path in [WEB, "/ns/ops/sa/alice", "/ns/shop/sa/other"] {
            assert!(ids.iter().any(|id| **id == *spiffe_id(path)), "{name}: {everybody}");
        }
        let first = asker.call(&list, r#"{"pageSize": 1}"#);
        assert_eq!(first["identities"].as_array().unwrap().len(), 1, "{name}: {first}");
        assert!(first["nextPageToken"].is_string(), "{name}: {first}");
        for key in [json!({"serial": serial}), json!({"spiffeId": spiffe_id(WEB)})] {
            let one = asker.call(&get, &key.to_string());
            assert_eq!(one["identities"][0]["serial"], *serial, "{name} {key}: {one}");
        }
        let unknown = asker.command(&[&get], r#"{"serial": "0badcafe"}"#).output();
        assert!(unknown.stderr.contains("NotFound"), "{name}: {}", unknown.stderr);
    }

    let by_workload = Asker::new("15012 as a workload", &ops, &workload, mtls);
    for (method, data) in [("ListIdentities", "{}".to_owned()), ("GetIdentity", json!({"serial": serial}).to_string())]
    {
        let refused = by_workload.command(&[&format!("{AGENT}/{method}")], &data).output();
        assert!(refused.stderr.contains("PermissionDenied"), "{method}: {}{}", refused.text(), refused.stderr);
        assert!(refused.text().is_empty(), "{method}: {}", refused.text());
    }
    let without_certificate = Asker::new("15012 as nobody", &ops, &admin[..4], mtls);
    let refused = without_certificate.command(&["list"], "").output();
    assert!(!refused.status.success(), "without a certificate: {}", refused.text());

    let by_anybody = Asker::new("15011", &ops, &admin[..4], attest);
    by_anybody.assert_speaks(&[HEALTH]);
    let listed = by_anybody.command(&["list"], "").run();
    assert!(listed.contains(CA) && !listed.contains(AGENT), "15011 attests and issues, and tells nothing: {listed}");
}
