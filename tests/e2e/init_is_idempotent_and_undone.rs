//! `init` twice is `init` once; undoing it leaves no rule; what the kernel has is what was planned.

use kith_proxy::redirect::{ApplyError, Plan, Settings, apply, plan, render, undo, verify};
use kith_tests::{Net, Pod};

/// Every kind of rule, in both families.
fn rich() -> Settings {
    let networks = ["192.0.2.0/24", "192.0.2.77/32", "203.0.113.5/32", "2001:db8:1::/48", "2001:db8::7/128"];
    Settings {
        skip_inbound_ports: vec![22, 9100],
        skip_outbound_ports: vec![25, 53, 443],
        skip_outbound_networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        ..Settings::default()
    }
}

fn ruleset(pod: &Pod) -> String {
    pod.command("nft").args(["list", "ruleset"]).run()
}

fn applied(pod: &Pod, plan: &Plan) -> Result<(), ApplyError> {
    pod.run_in_netns(|| apply(plan))
}

#[test]
fn init_twice_is_init_once() {
    let net = Net::new();
    let pod = net.pod("pod");
    let plan = plan(&rich());
    applied(&pod, &plan).unwrap();
    let once = ruleset(&pod);
    applied(&pod, &plan).unwrap();
    assert_eq!(ruleset(&pod), once);
    assert_eq!(once.matches("redirect to :15001").count(), 3, "{once}");
}

#[test]
fn other_settings_replace_the_earlier_ones() {
    let net = Net::new();
    let pod = net.pod("pod");
    applied(&pod, &plan(&rich())).unwrap();
    applied(&pod, &plan(&Settings::default())).unwrap();
    assert!(!ruleset(&pod).contains("9100"));
}

#[test]
fn undo_leaves_no_rule() {
    let net = Net::new();
    let pod = net.pod("pod");
    pod.run_in_netns(undo).expect("nothing to undo is no error");
    pod.nft("add table inet others");
    applied(&pod, &plan(&rich())).unwrap();
    pod.run_in_netns(undo).unwrap();
    pod.run_in_netns(undo).unwrap();
    assert_eq!(ruleset(&pod), "table inet others {\n}\n");
}

/// The text for people and the commands for the kernel are two writings of one plan.
#[test]
fn what_a_dry_run_prints_is_what_is_loaded() {
    let net = Net::new();
    let (printed, loaded) = (net.pod("printed"), net.pod("loaded"));
    let plan = plan(&rich());
    printed.nft(&render(&plan));
    printed.run_in_netns(|| verify(&plan)).unwrap();
    applied(&loaded, &plan).unwrap();
    assert_eq!(ruleset(&printed), ruleset(&loaded));
}

#[test]
fn rules_that_were_not_planned_are_found_in_both_families() {
    let net = Net::new();
    let pod = net.pod("pod");
    let plan = plan(&Settings::default());
    for tampering in [
        "insert rule inet kith outbound ip daddr 10.88.0.0/16 return",
        "insert rule inet kith outbound ip6 daddr fd88::/64 return",
        "add rule inet kith inbound_invalid accept",
        "flush chain inet kith inbound",
        "delete chain inet kith inbound_invalid",
        "add chain inet kith more { type filter hook input priority 5; policy drop; }",
        "add set inet kith some { type inet_service; }",
        // The same rules in another order.
        "flush chain inet kith outbound_invalid\n\
         add rule inet kith outbound_invalid meta l4proto tcp ct state invalid drop\n\
         add rule inet kith outbound_invalid oifname lo tcp sport != 15001 return",
        "delete table inet kith\nadd table inet kith",
    ] {
        applied(&pod, &plan).unwrap();
        pod.nft(tampering);
        let error = pod.run_in_netns(|| verify(&plan)).expect_err(tampering);
        assert!(matches!(error, ApplyError::Mismatch(_)), "{tampering}: {error}");
    }
    pod.run_in_netns(undo).unwrap();
    pod.run_in_netns(|| verify(&plan)).expect_err("there is no table");
}

#[test]
fn it_works_where_ipv6_is_switched_off() {
    let net = Net::new();
    let pod = net.pod_without_ipv6("pod");
    applied(&pod, &plan(&rich())).unwrap();
    pod.run_in_netns(undo).unwrap();
}
