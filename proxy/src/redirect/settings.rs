use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// What capture depends on. The defaults are the design's; `init` and `run` must be given the same.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Capture")]
#[group(id = "capture")]
pub struct Settings {
    /// The user that the sidecar runs as, whose own connections are not captured; not root, whose others then were not.
    #[arg(long, env = "KITH_PROXY_UID", default_value_t = 5484, value_parser = clap::value_parser!(u32).range(1..))]
    pub proxy_uid: u32,
    /// Where the sidecar takes what the application sends.
    #[arg(long, env = "KITH_OUTBOUND_PORT", default_value_t = 15001, value_parser = port())]
    pub outbound_port: u16,
    /// Where the sidecar takes what is sent to the application.
    #[arg(long, env = "KITH_INBOUND_PORT", default_value_t = 15006, value_parser = port())]
    pub inbound_port: u16,
    /// The admin HTTP's port, never captured.
    #[arg(long, env = "KITH_ADMIN_PORT", default_value_t = 15020, value_parser = port())]
    pub admin_port: u16,
    /// The port of the application's rewritten probes, never captured.
    #[arg(long, env = "KITH_PROBE_PORT", default_value_t = 15021, value_parser = port())]
    pub probe_port: u16,
    /// The status gRPC's port, never captured.
    #[arg(long, env = "KITH_STATUS_PORT", default_value_t = 15022, value_parser = port())]
    pub status_port: u16,
    /// A port of loopback on which nothing listens, led to the outbound port: there the sidecar proves its capture.
    #[arg(long, env = "KITH_SELF_CHECK_PORT", default_value_t = 15009, value_parser = port())]
    pub self_check_port: u16,
    /// Ports of this pod that are not captured; they stay as they would be without a sidecar.
    #[arg(long, env = "KITH_SKIP_INBOUND_PORTS", value_delimiter = ',', value_name = "PORT,…", value_parser = port())]
    pub skip_inbound_ports: Vec<u16>,
    /// Ports elsewhere to which connections are not captured.
    #[arg(long, env = "KITH_SKIP_OUTBOUND_PORTS", value_delimiter = ',', value_name = "PORT,…", value_parser = port())]
    pub skip_outbound_ports: Vec<u16>,
    /// Networks to which connections are not captured, such as 192.0.2.0/24 or 2001:db8::/32.
    #[arg(
        long,
        env = "KITH_SKIP_OUTBOUND_NETWORKS",
        value_delimiter = ',',
        value_name = "NETWORK,…",
        value_parser = parse_network
    )]
    pub skip_outbound_networks: Vec<IpNet>,
}

/// Settings that are right one by one and wrong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flag} is {port}, which {other} is already; each port needs a number of its own")]
pub struct SettingsError {
    /// The flag that repeats it.
    pub flag: &'static str,
    /// The port.
    pub port: u16,
    /// The flag that had it first.
    pub other: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxy_uid: 5484,
            outbound_port: 15001,
            inbound_port: 15006,
            admin_port: 15020,
            probe_port: 15021,
            status_port: 15022,
            self_check_port: 15009,
            skip_inbound_ports: Vec::new(),
            skip_outbound_ports: Vec::new(),
            skip_outbound_networks: Vec::new(),
        }
    }
}

impl Settings {
    /// Checks what no single setting shows.
    ///
    /// # Errors
    /// When two of our ports are the same.
    pub fn check(&self) -> Result<(), SettingsError> {
        let ports = [
            ("--outbound-port", self.outbound_port),
            ("--inbound-port", self.inbound_port),
            ("--admin-port", self.admin_port),
            ("--probe-port", self.probe_port),
            ("--status-port", self.status_port),
            ("--self-check-port", self.self_check_port),
        ];
        for (at, (flag, port)) in ports.iter().enumerate() {
            if let Some((other, _)) = ports.iter().take(at).find(|(_, earlier)| earlier == port) {
                return Err(SettingsError { flag, port: *port, other });
            }
        }
        Ok(())
    }
}

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

/// The network of an address with its prefix length; an address alone is a network of one.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let expected = "expected a network such as 192.0.2.0/24 or 2001:db8::/32";
    let network = IpNet::from_str(text)
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| expected.to_owned())?
        .trunc();
    if network.prefix_len() == 0 {
        return Err(format!("{expected}, not everything: a pod without capture needs no sidecar"));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        settings: Settings,
    }

    fn parse(words: &[&str]) -> Result<Settings, String> {
        let words = ["kith-proxy"].iter().chain(words);
        Command::try_parse_from(words).map(|command| command.settings).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_the_same_in_both_places() {
        assert_eq!(parse(&[]).unwrap(), Settings::default());
    }

    #[test]
    fn networks_lose_their_host_part() {
        let settings = parse(&["--skip-outbound-networks", "10.1.2.3/8,2001:db8::1"]).unwrap();
        let networks: Vec<_> = settings.skip_outbound_networks.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "2001:db8::1/128"]);
    }

    #[test]
    fn an_error_names_flag_value_and_what_was_expected() {
        for (words, expected) in [
            (["--outbound-port", "0"], ["--outbound-port", "'0'", "1..=65535"]),
            (["--proxy-uid", "0"], ["--proxy-uid", "'0'", "1..=4294967295"]),
            (["--skip-inbound-ports", "80,x"], ["--skip-inbound-ports", "'x'", "invalid digit"]),
            (
                ["--skip-outbound-networks", "10.0.0.0/33"],
                ["--skip-outbound-networks", "'10.0.0.0/33'", "192.0.2.0/24"],
            ),
            (["--skip-outbound-networks", "::/0"], ["--skip-outbound-networks", "'::/0'", "not everything"]),
        ] {
            let message = parse(&words).unwrap_err();
            for part in expected {
                assert!(message.contains(part), "{part} is not in {message}");
            }
        }
    }

    #[test]
    fn a_port_is_given_once() {
        let settings = Settings { self_check_port: 15001, ..Settings::default() };
        let error = settings.check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "--self-check-port is 15001, which --outbound-port is already; each port needs a number of its own"
        );
        assert_eq!(Settings::default().check(), Ok(()));
    }
}
