use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    config: Config,
}

const PIN: &str = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";

fn parse(words: &[&str]) -> Result<Config, String> {
    let always = ["kith-proxy", "--trust-domain", "example.org", "--ca-address", "ca.example.org:15011"];
    let config = Command::try_parse_from(always.iter().chain(words)).map_err(|error| error.to_string())?.config;
    config.check().map_err(|error| error.to_string())?;
    Ok(config)
}

#[test]
fn the_ca_is_found_where_the_design_says() {
    let config = parse(&["--join-token-file", "/token"]).unwrap();
    assert_eq!(config.ca_mtls_address().to_string(), "ca.example.org:15012");
    assert_eq!(config.ca_id().to_string(), "spiffe://example.org/kith/ca");

    let ipv6 = parse(&["--join-token-file", "/token", "--ca-address", "[2001:db8::1]:1"]);
    assert!(ipv6.is_err(), "an address is given once");
    let address: HostPort = "[2001:db8::1]:15011".parse().unwrap();
    let config = Config { ca_address: address, ..config };
    assert_eq!(config.ca_mtls_address().to_string(), "[2001:db8::1]:15012");
}

#[test]
fn an_error_names_flag_value_and_what_was_expected() {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--pod-name", ""], &["--pod-name", "1 to 253"]),
        (&["--ca-mtls-address", "ca"], &["--ca-mtls-address", "'ca'", "expected a host and a port"]),
        (&["--ca-id", "ca"], &["--ca-id", "'ca'", "begins with spiffe://"]),
        (&[], &["--join-token-file", "KITH_JOIN_TOKEN_FILE", "expected a join token"]),
        (&["--join-token", "secret"], &["--ca-bundle", "no root pin", "expected a PEM file"]),
        (
            &["--join-token-file", "/token", "--ca-id", "spiffe://other.org/kith/ca"],
            &["--ca-id", "'spiffe://other.org/kith/ca'", "example.org"],
        ),
    ];
    for (words, expected) in cases {
        let message = parse(words).unwrap_err();
        for part in expected {
            assert!(message.contains(part), "{part} is not in {message}");
        }
    }
}

#[test]
fn a_token_is_given_one_way_and_never_shown() {
    let token = format!("hush.{PIN}");
    let config = parse(&["--join-token", &token]).unwrap();
    assert!(!format!("{config:?}").contains("hush"), "{config:?}");

    let both = parse(&["--join-token", &token, "--join-token-file", "/token"]).unwrap_err();
    assert!(both.contains("--join-token-file") && !both.contains("hush"), "{both}");
    let empty = parse(&["--join-token", " ", "--ca-bundle", "/bundle"]).unwrap_err();
    assert!(empty.contains("--join-token (KITH_JOIN_TOKEN) is empty"), "{empty}");
}

#[test]
fn a_host_and_a_port_are_both_there() {
    for good in ["ca:1", "10.0.0.1:15011", "[::1]:15011", "kith-ca.kith.svc.cluster.local:15011"] {
        assert_eq!(good.parse::<HostPort>().unwrap().to_string(), good);
    }
    for bad in ["", "ca", "ca:", ":1", "ca:0", "ca:65536", "::1:15011", "[ca]:1", "[::1]", "http://ca:1", "a b:1"] {
        assert_eq!(bad.parse::<HostPort>(), Err(HostPortError), "{bad}");
    }
}

#[test]
fn a_pod_does_not_name_its_host_unasked() {
    assert!(Instance::default().or_this_host().host.is_some_and(|host| !host.is_empty()));
    let pod = Instance { pod_name: Some("web-0".to_owned()), ..Instance::default() };
    assert_eq!(pod.clone().or_this_host(), pod);
    let wire = Instance { pod_uid: Some("u".to_owned()), node_name: Some("n".to_owned()), ..pod }.to_wire();
    assert_eq!((wire.host.as_str(), wire.pod_name.as_str()), ("", "web-0"));
    assert_eq!((wire.pod_uid.as_str(), wire.node_name.as_str()), ("u", "n"));
}
