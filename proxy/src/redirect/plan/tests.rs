use super::*;

fn lines(settings: &Settings, chain: &str) -> Vec<String> {
    let plan = plan(settings);
    let chain = plan.chains.iter().find(|candidate| candidate.name == chain).unwrap();
    chain.rules.iter().map(ToString::to_string).collect()
}

#[test]
fn outbound_lets_the_sidecar_loopback_and_what_is_not_routed_through() {
    assert_eq!(
        lines(&Settings::default(), "outbound"),
        [
            "ip daddr 127.0.0.1 tcp dport 15009 redirect to :15001",
            "ip6 daddr ::1 tcp dport 15009 redirect to :15001",
            "meta skuid 5484 return",
            "oifname \"lo\" return",
            "ip daddr 169.254.0.0/16 return",
            "ip daddr 224.0.0.0/4 return",
            "ip6 daddr fe80::/10 return",
            "ip6 daddr ff00::/8 return",
            "fib daddr type broadcast return",
            "meta l4proto tcp redirect to :15001",
        ]
    );
}

#[test]
fn inbound_takes_tcp_to_this_pod_but_to_our_own_ports() {
    assert_eq!(
        lines(&Settings::default(), "inbound"),
        [
            "iifname \"lo\" return",
            "fib daddr type != local return",
            "tcp dport 15020 return",
            "tcp dport 15021 return",
            "tcp dport 15022 return",
            "meta l4proto tcp redirect to :15006",
        ]
    );
}

#[test]
fn nothing_invalid_slips_past() {
    assert_eq!(
        lines(&Settings::default(), "outbound_invalid"),
        ["oifname \"lo\" tcp sport != 15001 return", "meta l4proto tcp ct state invalid drop"]
    );
    assert_eq!(
        lines(&Settings::default(), "inbound_invalid"),
        ["iifname \"lo\" return", "meta l4proto tcp ct state invalid drop"]
    );
}

#[test]
fn every_setting_is_in_the_rules() {
    let settings = Settings {
        proxy_uid: 1000,
        outbound_port: 1,
        inbound_port: 2,
        admin_port: 3,
        probe_port: 4,
        status_port: 5,
        self_check_port: 6,
        skip_inbound_ports: vec![22, 9100, 3],
        skip_outbound_ports: vec![53],
        skip_outbound_networks: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::7/128".parse().unwrap()],
    };
    let outbound = lines(&settings, "outbound");
    assert_eq!(outbound[0], "ip daddr 127.0.0.1 tcp dport 6 redirect to :1");
    assert_eq!(outbound[2], "meta skuid 1000 return");
    let end = ["ip daddr 192.0.2.0/24 return", "ip6 daddr 2001:db8::7 return", "tcp dport 53 return"];
    assert_eq!(outbound[9..12], end);
    assert_eq!(outbound[12..], ["meta l4proto tcp redirect to :1"]);

    let inbound = lines(&settings, "inbound");
    let ports = ["tcp dport 3 return", "tcp dport 4 return", "tcp dport 5 return"];
    assert_eq!(inbound[2..5], ports);
    let end = ["tcp dport 22 return", "tcp dport 9100 return", "meta l4proto tcp redirect to :2"];
    assert_eq!(inbound[5..], end);
    assert_eq!(lines(&settings, "outbound_invalid")[0], "oifname \"lo\" tcp sport != 1 return");
}

#[test]
fn order_and_repetition_of_settings_do_not_matter() {
    let one = Settings { skip_outbound_ports: vec![80, 443, 80], ..Settings::default() };
    let other = Settings { skip_outbound_ports: vec![443, 80], ..Settings::default() };
    assert_eq!(plan(&one), plan(&other));
}

#[test]
fn the_text_is_a_whole_table() {
    let text = render(&plan(&Settings::default()));
    assert!(text.starts_with(
        "table inet kith {\n\tchain outbound {\n\t\ttype nat hook output priority -100; policy accept;\n"
    ));
    assert!(text.contains("\n\n\tchain inbound {\n\t\ttype nat hook prerouting priority -100; policy accept;\n"));
    assert!(text.contains("\n\n\tchain outbound_invalid {\n\t\ttype filter hook output priority 0; policy accept;\n"));
    assert!(text.contains("\n\n\tchain inbound_invalid {\n\t\ttype filter hook input priority 0; policy accept;\n"));
    assert!(text.ends_with("drop\n\t}\n}\n"));
}
