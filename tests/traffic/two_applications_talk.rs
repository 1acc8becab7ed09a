use kith_tests::{
    Agent, MeshFile, Net, Sidecar,
    peers::{Nginx, curl},
    spiffe_id, tcp,
};
use serde_json::json;

#[test]
fn curl_reaches_nginx_with_the_right_identities_and_both_records_say_so() {
    let net = Net::new();
    let (control, client, server) = (net.pod("control"), net.pod("client"), net.pod("server"));
    let agent = Agent::start(&control, &[]);
    let mesh = MeshFile::new(&net).meshed(&client, "/ns/shop/sa/front").meshed(&server, "/ns/shop/sa/web");
    let nginx = Nginx::start(&server, &[server.at(80)]);
    nginx.put("hello", tcp::marker(1).as_bytes());
    let inbound = Sidecar::of(&server, &agent, mesh.path(), "/ns/shop/sa/web").ready();
    let outbound = Sidecar::of(&client, &agent, mesh.path(), "/ns/shop/sa/front").ready();

    let capture = net.capture();
    let body = curl(&client, &format!("http://{}/hello", server.at(80))).run();
    assert_eq!(body, tcp::marker(1));

    let (front, web) = (spiffe_id("/ns/shop/sa/front"), spiffe_id("/ns/shop/sa/web"));
    outbound.wait_for_record(&json!({
        "direction": "outbound", "outcome": "closed", "local_id": front, "peer_id": web,
        "tls_version": "TLSv1.3", "key_exchange_group": "X25519MLKEM768", "alpn": "kith/1",
    }));
    inbound.wait_for_record(&json!({
        "direction": "inbound", "outcome": "closed", "local_id": web, "peer_id": front, "rule": "own-trust-domain",
    }));
    let captured = capture.stop();
    assert!(captured.assert_only_tls13() > 0);
    assert!(!captured.contains(tcp::marker(1).as_bytes()));
}
