use clap::Parser as _;

use super::*;

#[derive(Debug, clap::Parser)]
struct Flags {
    #[command(flatten)]
    serve: Serve,
}

fn parse(flags: &[&str]) -> Result<Config, String> {
    let arguments = ["serve", "--trust-domain", "example.org"].iter().chain(flags);
    let flags = Flags::try_parse_from(arguments).map_err(|error| error.to_string())?;
    flags.serve.into_config().map_err(|error| error.to_string())
}

#[test]
fn the_defaults_are_the_designs() {
    let config = parse(&[]).unwrap();
    assert_eq!(config.listeners.attest, Listen::Port(15011));
    assert_eq!(config.listeners.mutual, Listen::Port(15012));
    assert_eq!(config.listeners.admin, Listen::Port(15020));
    assert_eq!(config.issuance.svid_lifetime, Duration::from_secs(4 * 3600));
    assert_eq!(config.authority.issuing_lifetime, Duration::from_secs(90 * 24 * 3600));
    assert_eq!(config.authority.root_lifetime, Duration::from_secs(3650 * 24 * 3600));
    assert!(config.listeners.socket.ends_with("admin.sock"));
    assert!(!config.issuance.token_workloads);
    assert_eq!(config.issuance.longest_since_attestation, None);
    assert!(config.authority.operator.is_none());
}

#[test]
fn a_wrong_value_is_named_with_what_was_expected() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--svid-lifetime", "soon"], &["'soon'", "--svid-lifetime", "such as 30s"]),
        (&["--svid-lifetime", "1s"], &["'1s'", "--svid-lifetime", "at least 5s"]),
        (&["--svid-lifetime", "100d"], &["--svid-lifetime", "at most --issuing-lifetime"]),
        (&["--issuing-lifetime", "20000d"], &["--issuing-lifetime", "at most --root-lifetime"]),
        (&["--root-lifetime", "0s"], &["'0s'", "--root-lifetime", "above zero"]),
        (&["--listen-attest", "70000"], &["'70000'", "--listen-attest", "a port such as 15011"]),
        (&["--dns-name", "a..b"], &["'a..b'", "--dns-name", "a DNS name"]),
        (&["--admin-id", "ops"], &["'ops'", "--admin-id", "spiffe://"]),
        (&["--admin-id", "spiffe://other/ops"], &["--admin-id", "trust domain example.org"]),
        (&["--issuing-cert", "a.pem"], &["--issuing-key", "--root-bundle"]),
        (&["--issuing-key", "a.pem"], &["--issuing-cert"]),
        (&["--requests-per-minute=-1"], &["'-1'", "--requests-per-minute"]),
    ];
    for (flags, expected) in cases {
        let error = parse(flags).unwrap_err();
        for part in *expected {
            assert!(error.contains(part), "{flags:?}: {error}");
        }
    }
}

#[test]
fn a_wrong_trust_domain_is_named() {
    let error = Flags::try_parse_from(["serve", "--trust-domain", "A"]).unwrap_err().to_string();
    assert!(error.contains("'A'") && error.contains("only a-z"), "{error}");
}

#[test]
fn the_operators_files_come_together() {
    let config = parse(&["--issuing-cert", "c", "--issuing-key", "k", "--root-bundle", "b"]).unwrap();
    assert_eq!(config.authority.operator.unwrap().key, PathBuf::from("k"));
}
