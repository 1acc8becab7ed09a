//! The plan in the words of `nft -j`, both ways.

use std::{borrow::Cow, collections::HashSet};

use ipnet::IpNet;
use nftables::{
    batch::Batch,
    expr::{CT, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix},
    schema::{self, NfListObject, NfObject, Nftables},
    stmt::{self, NAT, Operator, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};

use super::{Chain, Hook, Kind, Match, Plan, Rule, TABLE, Verdict};

/// Commands that replace our table, whatever it was, in one transaction.
pub(super) fn replacing(plan: &Plan) -> Nftables<'static> {
    let mut batch = removing_batch();
    batch.add(NfListObject::Table(table()));
    for chain in &plan.chains {
        batch.add(NfListObject::Chain(chain_object(chain)));
        for rule in &chain.rules {
            batch.add(NfListObject::Rule(rule_object(chain, rule)));
        }
    }
    batch.to_nftables()
}

/// Commands that remove our table, whether or not it is there.
pub(super) fn removing() -> Nftables<'static> {
    removing_batch().to_nftables()
}

/// Added first, so that it can be deleted.
fn removing_batch() -> Batch<'static> {
    let mut batch = Batch::new();
    batch.add(NfListObject::Table(table()));
    batch.delete(NfListObject::Table(table()));
    batch
}

/// The first thing in which what the kernel lists is not the plan.
pub(super) fn difference(plan: &Plan, listed: &Nftables<'static>) -> Option<String> {
    let listed: Vec<_> = listed.objects.iter().filter_map(comparable).collect();
    let planned: Vec<_> = plan
        .chains
        .iter()
        .map(|chain| NfListObject::Chain(chain_object(chain)))
        .chain(
            plan.chains
                .iter()
                .flat_map(|chain| chain.rules.iter().map(|rule| NfListObject::Rule(rule_object(chain, rule)))),
        )
        .collect();
    let missing = planned.iter().find(|object| !listed.contains(object));
    let foreign = listed.iter().find(|object| !planned.contains(object));
    match (missing, foreign) {
        (None, None) if in_order(&planned) == in_order(&listed) => None,
        (None, None) => Some("the rules are in another order".to_owned()),
        (missing, foreign) => {
            let [missing, foreign] = [missing, foreign].map(|object| object.map_or("nothing".to_owned(), describe));
            Some(format!("planned {missing}, found {foreign}"))
        }
    }
}

/// `nft` lists rules chain by chain, in an order of chains that is its own.
fn in_order<'a>(objects: &'a [NfListObject<'static>]) -> Vec<&'a NfListObject<'static>> {
    let mut objects: Vec<_> = objects.iter().collect();
    objects.sort_by_key(|object| match object {
        NfListObject::Chain(chain) => (0, chain.name.clone()),
        NfListObject::Rule(rule) => (1, rule.chain.clone()),
        _ => (2, Cow::Borrowed("")),
    });
    objects
}

/// What says something, without the numbers that the kernel gives; everything in our table that we have not put there
/// says something too.
fn comparable(object: &NfObject<'static>) -> Option<NfListObject<'static>> {
    match object {
        NfObject::ListObject(NfListObject::MetainfoObject(_) | NfListObject::Table(_)) | NfObject::CmdObject(_) => None,
        NfObject::ListObject(NfListObject::Chain(chain)) => {
            Some(NfListObject::Chain(schema::Chain { handle: None, ..chain.clone() }))
        }
        NfObject::ListObject(NfListObject::Rule(rule)) => {
            Some(NfListObject::Rule(schema::Rule { handle: None, index: None, ..rule.clone() }))
        }
        NfObject::ListObject(other) => Some(other.clone()),
    }
}

fn describe(object: &NfListObject<'_>) -> String {
    serde_json::to_string(object).unwrap_or_else(|_| format!("{object:?}"))
}

fn table() -> schema::Table<'static> {
    schema::Table { family: NfFamily::INet, name: TABLE.into(), handle: None }
}

fn chain_object(chain: &Chain) -> schema::Chain<'static> {
    schema::Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: chain.name.into(),
        _type: Some(match chain.kind {
            Kind::Nat => NfChainType::NAT,
            Kind::Filter => NfChainType::Filter,
        }),
        hook: Some(match chain.hook {
            Hook::Prerouting => NfHook::Prerouting,
            Hook::Input => NfHook::Input,
            Hook::Output => NfHook::Output,
        }),
        prio: Some(chain.priority),
        policy: Some(NfChainPolicy::Accept),
        ..schema::Chain::default()
    }
}

fn rule_object(chain: &Chain, rule: &Rule) -> schema::Rule<'static> {
    let mut statements: Vec<_> = rule.matches.iter().map(statement).collect();
    statements.push(match rule.verdict {
        Verdict::Return => Statement::Return(None),
        Verdict::Drop => Statement::Drop(None),
        Verdict::Redirect(port) => Statement::Redirect(Some(NAT {
            addr: None,
            family: None,
            port: Some(Expression::Number(port.into())),
            flags: None,
        })),
    });
    schema::Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.name.into(),
        expr: statements.into(),
        ..schema::Rule::default()
    }
}

fn statement(condition: &Match) -> Statement<'static> {
    let (left, op, right) = match *condition {
        Match::Tcp => (meta(MetaKey::L4proto), Operator::EQ, text("tcp")),
        Match::To(network) => {
            let protocol = if network.addr().is_ipv4() { "ip" } else { "ip6" };
            (field(protocol, "daddr"), Operator::EQ, destination(network))
        }
        Match::ToBroadcast => (destination_type(), Operator::EQ, text("broadcast")),
        Match::ToElsewhere => (destination_type(), Operator::NEQ, text("local")),
        Match::ToPort(port) => (field("tcp", "dport"), Operator::EQ, Expression::Number(port.into())),
        Match::NotFromPort(port) => (field("tcp", "sport"), Operator::NEQ, Expression::Number(port.into())),
        Match::FromUid(uid) => (meta(MetaKey::Skuid), Operator::EQ, Expression::Number(uid)),
        Match::OutLoopback => (meta(MetaKey::Oifname), Operator::EQ, text("lo")),
        Match::InLoopback => (meta(MetaKey::Iifname), Operator::EQ, text("lo")),
        Match::Invalid => {
            let state = NamedExpression::CT(CT { key: "state".into(), family: None, dir: None });
            (Expression::Named(state), Operator::IN, text("invalid"))
        }
    };
    Statement::Match(stmt::Match { left, right, op })
}

fn text(value: &'static str) -> Expression<'static> {
    Expression::String(value.into())
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn destination_type() -> Expression<'static> {
    let flags = HashSet::from([FibFlag::Daddr]);
    Expression::Named(NamedExpression::Fib(Fib { result: FibResult::Type, flags }))
}

/// The kernel lists a network of one address as that address.
fn destination(network: IpNet) -> Expression<'static> {
    let address = Expression::String(network.addr().to_string().into());
    if network.prefix_len() == network.max_prefix_len() {
        return address;
    }
    Expression::Named(NamedExpression::Prefix(Prefix { addr: Box::new(address), len: network.prefix_len().into() }))
}
