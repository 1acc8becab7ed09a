//! The test runs itself again in a network namespace whose loopback has no IPv6 address.

use std::process::Command;

use kith_runtime::listen::{Reach, bind_all};

const SETUP: &str = r#"ip link set lo up && ip -6 address flush dev lo && exec "$0" "$@""#;

#[test]
fn a_machine_without_ipv6_listens_on_ipv4() {
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", SETUP])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "within_the_namespace", "--ignored"])
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "needs a namespace without IPv6, which the other test makes"]
async fn within_the_namespace() {
    let bound = bind_all(0, Reach::LoopbackOnly).unwrap();
    assert_eq!(bound.listeners.len(), 1);
    assert!(bound.addresses.iter().all(std::net::SocketAddr::is_ipv4), "{:?}", bound.addresses);
}
