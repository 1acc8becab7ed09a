//! `kith-proxy init` as an operator meets it.

use kith_tests::{Net, PodCommand, kith_proxy};

fn init(net: &Net, name: &str) -> PodCommand {
    net.pod(name).command(kith_proxy()).arg("init")
}

#[test]
fn it_sets_up_prints_and_undoes_capture() {
    let net = Net::new();
    let pod = net.pod("pod");
    let ruleset = || pod.command("nft").args(["list", "ruleset"]).run();
    let init =
        || pod.command(kith_proxy()).arg("init").env("KITH_SKIP_OUTBOUND_NETWORKS", "192.0.2.0/24,2001:db8::/32");

    let printed = init().arg("--dry-run").run();
    assert!(printed.contains("ip6 daddr 2001:db8::/32 return"), "{printed}");
    assert_eq!(ruleset(), "");
    init().run();
    let once = ruleset();
    assert!(once.contains("ip daddr 192.0.2.0/24 return"), "{once}");
    init().run();
    assert_eq!(ruleset(), once);
    init().arg("--undo").run();
    init().arg("--undo").run();
    assert_eq!(ruleset(), "");
}

#[test]
fn a_wrong_setting_is_exit_2_with_its_name_its_value_and_what_was_expected() {
    let net = Net::new();
    let by_variable = init(&net, "a").env("KITH_SKIP_OUTBOUND_NETWORKS", "10.0.0.0/8,10.0.0.0/40").output();
    let by_flag = init(&net, "b").args(["--inbound-port", "65536"]).output();
    let together = init(&net, "c").args(["--inbound-port", "15001"]).output();
    for (finished, parts) in [
        (by_variable, ["--skip-outbound-networks", "10.0.0.0/40", "192.0.2.0/24"]),
        (by_flag, ["--inbound-port", "65536", "1..=65535"]),
        (together, ["--inbound-port", "15001", "--outbound-port"]),
    ] {
        assert_eq!(finished.code(), Some(2), "{}", finished.stderr);
        for part in parts {
            assert!(finished.stderr.contains(part), "no {part} in {}", finished.stderr);
        }
    }
}

#[test]
fn without_rights_or_nft_it_fails_and_says_what_is_missing() {
    let net = Net::new();
    let without_rights = init(&net, "a").uid(65534).output();
    let empty = net.dir_of("empty", 0);
    let without_nft =
        net.pod("b").command("env").arg(format!("PATH={}", empty.display())).arg(kith_proxy()).arg("init").output();
    for (finished, part) in [(without_rights, "CAP_NET_ADMIN"), (without_nft, "install nftables")] {
        assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
        assert!(finished.stderr.contains(part), "no {part} in {}", finished.stderr);
    }
}
