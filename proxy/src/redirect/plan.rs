use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Settings, TABLE};

/// A ruleset: one table of family `inet`, which covers IPv4 and IPv6, and leaves out what a kernel has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its chains, all of them base chains that accept what no rule decides.
    pub chains: Vec<Chain>,
}

/// A base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name in our table.
    pub name: &'static str,
    /// What it may do.
    pub kind: Kind,
    /// Which packets it sees.
    pub hook: Hook,
    /// Its place among the chains of a hook.
    pub priority: i32,
    /// Its rules; the first that matches decides.
    pub rules: Vec<Rule>,
}

/// A chain's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sees the first packet of a connection and decides for all.
    Nat,
    /// Sees every packet.
    Filter,
}

/// A chain's hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// What came in, before it is known whom it is for.
    Prerouting,
    /// What came in for this host.
    Input,
    /// What this host sends.
    Output,
}

/// What happens to a packet that all of these match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must match.
    pub matches: Vec<Match>,
    /// What happens then.
    pub verdict: Verdict,
}

/// What a packet is looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// It is TCP.
    Tcp,
    /// It goes to this network.
    To(IpNet),
    /// It goes to a broadcast address.
    ToBroadcast,
    /// It goes to no address of this host.
    ToElsewhere,
    /// It goes to this TCP port.
    ToPort(u16),
    /// It comes from another TCP port.
    NotFromPort(u16),
    /// A socket of this user sent it.
    FromUid(u32),
    /// It leaves by the loopback interface.
    OutLoopback,
    /// It came in by the loopback interface.
    InLoopback,
    /// Connection tracking can make nothing of it, and so translates nothing in it.
    Invalid,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is left alone.
    Return,
    /// It is gone.
    Drop,
    /// Its connection leads to this port of the host.
    Redirect(u16),
}

/// The rules for these settings.
#[must_use]
pub fn plan(settings: &Settings) -> Plan {
    // By number: nft 1.0.6 knows the name `dstnat` only for prerouting.
    let dstnat = -100;
    Plan {
        chains: vec![
            Chain {
                name: "outbound",
                kind: Kind::Nat,
                hook: Hook::Output,
                priority: dstnat,
                rules: outbound(settings),
            },
            Chain {
                name: "inbound",
                kind: Kind::Nat,
                hook: Hook::Prerouting,
                priority: dstnat,
                rules: inbound(settings),
            },
            Chain {
                name: "outbound_invalid",
                kind: Kind::Filter,
                hook: Hook::Output,
                priority: 0,
                rules: outbound_invalid(settings),
            },
            Chain {
                name: "inbound_invalid",
                kind: Kind::Filter,
                hook: Hook::Input,
                priority: 0,
                rules: inbound_invalid(),
            },
        ],
    }
}

/// The text that `nft -f` takes, for people to read.
#[must_use]
pub fn render(plan: &Plan) -> String {
    plan.to_string()
}

fn outbound(settings: &Settings) -> Vec<Rule> {
    let check = |address: IpAddr| {
        let matches = vec![Match::To(address.into()), Match::ToPort(settings.self_check_port)];
        Rule { matches, verdict: Verdict::Redirect(settings.outbound_port) }
    };
    // Before the sidecar is let through: it is the sidecar that checks.
    let mut rules = vec![check(Ipv4Addr::LOCALHOST.into()), check(Ipv6Addr::LOCALHOST.into())];
    let left_alone = [Match::FromUid(settings.proxy_uid), Match::OutLoopback]
        .into_iter()
        .chain(not_routed().map(Match::To))
        .chain([Match::ToBroadcast])
        .chain(in_order(&settings.skip_outbound_networks).map(Match::To))
        .chain(in_order(&settings.skip_outbound_ports).map(Match::ToPort));
    rules.extend(left_alone.map(returning));
    rules.push(Rule { matches: vec![Match::Tcp], verdict: Verdict::Redirect(settings.outbound_port) });
    rules
}

fn inbound(settings: &Settings) -> Vec<Rule> {
    let ours = [settings.admin_port, settings.probe_port, settings.status_port];
    let left_alone = [Match::InLoopback, Match::ToElsewhere]
        .into_iter()
        .chain(ours.map(Match::ToPort))
        .chain(in_order(&settings.skip_inbound_ports).filter(|port| !ours.contains(port)).map(Match::ToPort));
    let mut rules: Vec<_> = left_alone.map(returning).collect();
    rules.push(Rule { matches: vec![Match::Tcp], verdict: Verdict::Redirect(settings.inbound_port) });
    rules
}

/// An invalid packet would leave as it is: to the peer, in plaintext, or from our port instead of the application's.
///
/// Loopback that never touches us works as if we were not there. What we send to the application does pass it, and must
/// not reach it from an address that it has not called.
fn outbound_invalid(settings: &Settings) -> Vec<Rule> {
    vec![returning_if(vec![Match::OutLoopback, Match::NotFromPort(settings.outbound_port)]), drop_invalid()]
}

/// An invalid packet would reach the application itself.
fn inbound_invalid() -> Vec<Rule> {
    vec![returning(Match::InLoopback), drop_invalid()]
}

fn drop_invalid() -> Rule {
    Rule { matches: vec![Match::Tcp, Match::Invalid], verdict: Verdict::Drop }
}

fn returning(only: Match) -> Rule {
    returning_if(vec![only])
}

fn returning_if(matches: Vec<Match>) -> Rule {
    Rule { matches, verdict: Verdict::Return }
}

/// Link-local and multicast, which no sidecar elsewhere answers for.
fn not_routed() -> impl Iterator<Item = IpNet> {
    let v4 = [([169, 254, 0, 0], 16), ([224, 0, 0, 0], 4)];
    let v6 = [(0xfe80, 10), (0xff00, 8)];
    let v4 = v4.into_iter().map(|(address, len)| Ipv4Net::new_assert(address.into(), len).into());
    let v6 = v6.into_iter().map(|(first, len)| {
        let address = Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0);
        Ipv6Net::new_assert(address, len).into()
    });
    v4.chain(v6)
}

/// The same settings in another order, or said twice, are the same rules.
fn in_order<T: Copy + Ord>(items: &[T]) -> impl Iterator<Item = T> {
    let mut items = items.to_vec();
    items.sort_unstable();
    items.dedup();
    items.into_iter()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        for (at, chain) in self.chains.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Nat => "nat",
            Kind::Filter => "filter",
        };
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Output => "output",
        };
        writeln!(f, "\tchain {} {{", self.name)?;
        writeln!(f, "\t\ttype {kind} hook {hook} priority {}; policy accept;", self.priority)?;
        self.rules.iter().try_for_each(|rule| writeln!(f, "\t\t{rule}"))?;
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.matches.iter().try_for_each(|condition| write!(f, "{condition} "))?;
        match self.verdict {
            Verdict::Return => f.write_str("return"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Redirect(port) => write!(f, "redirect to :{port}"),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("meta l4proto tcp"),
            Self::To(network) => {
                f.write_str(if network.addr().is_ipv4() { "ip daddr " } else { "ip6 daddr " })?;
                write!(f, "{}", network.addr())?;
                if network.prefix_len() < network.max_prefix_len() {
                    write!(f, "/{}", network.prefix_len())?;
                }
                Ok(())
            }
            Self::ToBroadcast => f.write_str("fib daddr type broadcast"),
            Self::ToElsewhere => f.write_str("fib daddr type != local"),
            Self::ToPort(port) => write!(f, "tcp dport {port}"),
            Self::NotFromPort(port) => write!(f, "tcp sport != {port}"),
            Self::FromUid(uid) => write!(f, "meta skuid {uid}"),
            Self::OutLoopback => f.write_str("oifname \"lo\""),
            Self::InLoopback => f.write_str("iifname \"lo\""),
            Self::Invalid => f.write_str("ct state invalid"),
        }
    }
}

#[cfg(test)]
mod tests;
