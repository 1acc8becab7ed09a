use proptest::{prelude::*, sample::subsequence};

use super::*;

const PORT: u16 = 80;

fn own() -> TrustDomain {
    "own".parse().unwrap()
}

fn identity(id: &str) -> Principal {
    Principal::Identity(id.parse().unwrap())
}

fn policy(name: &str, layer: Layer, rules: Vec<Rule>) -> Policy {
    Policy { name: name.into(), order: 0, layer, mode: None, ports: BTreeMap::new(), rules }
}

fn rule(name: &str, action: Action, from: Source) -> Rule {
    Rule { name: name.into(), action, ports: None, from: vec![from] }
}

fn inbound(unlisted: Mode, policies: impl IntoIterator<Item = Policy>) -> InboundPolicy {
    InboundPolicy::new(own(), unlisted, policies.into_iter().map(Arc::new).collect())
}

fn anyone() -> Source {
    Source::SpiffeId("spiffe://own/**".parse().unwrap())
}

fn shop() -> Source {
    Source::Namespace("shop".into())
}

fn verdict(policy: &InboundPolicy, peer: &Principal) -> (bool, String) {
    let decision = policy.decide(PORT, peer);
    (decision.allowed, decision.rule.as_str().to_owned())
}

const PERMISSIVE: Mode = Mode::Permissive { foreign_mtls: false };

#[test]
fn without_rules_the_own_trust_domain_comes_in_and_nobody_else() {
    let policy = inbound(Mode::Strict, []);
    assert_eq!(verdict(&policy, &identity("spiffe://own/x")), (true, "own-trust-domain".into()));
    assert_eq!(verdict(&policy, &identity("spiffe://other/x")), (false, "other-trust-domain".into()));
    assert_eq!(verdict(&policy, &Principal::Unauthenticated), (false, "strict".into()));
}

#[test]
fn the_most_specific_layer_with_an_allow_rule_decides_alone() {
    let shop_only = policy("db", Layer::Workload, vec![rule("db/shop", Action::Allow, shop())]);
    let everyone = policy("all", Layer::Mesh, vec![rule("all/any", Action::Allow, anyone())]);
    let policy = inbound(Mode::Strict, [everyone, shop_only]);
    assert_eq!(verdict(&policy, &identity("spiffe://own/ns/shop/sa/web")), (true, "db/shop".into()));
    assert_eq!(verdict(&policy, &identity("spiffe://own/ns/lab/sa/web")), (false, "no-allow".into()));
}

#[test]
fn an_allow_rule_for_another_port_does_not_make_its_layer_decide() {
    let mut elsewhere = rule("db/shop", Action::Allow, shop());
    elsewhere.ports = Some([PORT + 1].into());
    let everyone = policy("all", Layer::Mesh, vec![rule("all/any", Action::Allow, anyone())]);
    let policy = inbound(Mode::Strict, [policy("db", Layer::Workload, vec![elsewhere]), everyone]);
    assert_eq!(verdict(&policy, &identity("spiffe://own/ns/lab/sa/web")), (true, "all/any".into()));
}

#[test]
fn a_deny_in_the_least_specific_layer_refuses_what_the_most_specific_allows() {
    let allow = policy("db", Layer::Workload, vec![rule("db/any", Action::Allow, anyone())]);
    let deny = policy("all", Layer::Mesh, vec![rule("all/no-shop", Action::Deny, shop())]);
    let policy = inbound(Mode::Strict, [allow, deny]);
    assert_eq!(verdict(&policy, &identity("spiffe://own/ns/shop/sa/web")), (false, "all/no-shop".into()));
    assert_eq!(verdict(&policy, &identity("spiffe://own/ns/lab/sa/web")), (true, "db/any".into()));
}

#[test]
fn a_namespace_or_service_account_of_another_trust_domain_does_not_match() {
    let account = Source::ServiceAccount { namespace: "shop".into(), name: "web".into() };
    for source in [shop(), account] {
        let policy = inbound(Mode::Strict, [policy("p", Layer::Mesh, vec![rule("p/r", Action::Allow, source)])]);
        assert_eq!(verdict(&policy, &identity("spiffe://own/ns/shop/sa/web")), (true, "p/r".into()));
        assert_eq!(verdict(&policy, &identity("spiffe://other/ns/shop/sa/web")), (false, "no-allow".into()));
        assert_eq!(verdict(&policy, &identity("spiffe://own/ns/shop/sa/web/x")), (false, "no-allow".into()));
    }
}

#[test]
fn a_pattern_may_name_another_trust_domain() {
    let partner = Source::SpiffeId("spiffe://other/reports/*".parse().unwrap());
    let policy = inbound(Mode::Strict, [policy("p", Layer::Mesh, vec![rule("p/r", Action::Allow, partner)])]);
    assert!(policy.decide(PORT, &identity("spiffe://other/reports/daily")).allowed);
    assert!(!policy.decide(PORT, &identity("spiffe://own/reports/daily")).allowed);
}

#[test]
fn a_plaintext_client_comes_in_on_a_permissive_port_without_rules_or_where_a_rule_names_it() {
    let named = |action| policy("p", Layer::Mesh, vec![rule("p/r", action, Source::Unauthenticated)]);
    let shops = |action| policy("p", Layer::Mesh, vec![rule("p/r", action, shop())]);
    let cases = [
        (inbound(PERMISSIVE, []), true, "permissive"),
        (inbound(PERMISSIVE, [named(Action::Allow)]), true, "p/r"),
        (inbound(PERMISSIVE, [named(Action::Deny)]), false, "p/r"),
        (inbound(PERMISSIVE, [named(Action::Audit)]), true, "permissive"),
        (inbound(PERMISSIVE, [shops(Action::Allow)]), false, "no-allow"),
        (inbound(PERMISSIVE, [shops(Action::Deny)]), false, "no-allow"),
        (inbound(PERMISSIVE, [shops(Action::Audit)]), true, "permissive"),
        (inbound(Mode::Disable, []), true, "disable"),
        (inbound(Mode::Strict, [named(Action::Allow)]), false, "strict"),
    ];
    for (policy, allowed, rule) in cases {
        assert_eq!(verdict(&policy, &Principal::Unauthenticated), (allowed, rule.into()), "{policy:?}");
    }
}

#[test]
fn order_then_policy_name_chooses_the_rule_to_name() {
    let with_order = |name: &str, order| {
        let full = format!("{name}/r");
        Policy { order, ..policy(name, Layer::Mesh, vec![rule(&full, Action::Deny, anyone())]) }
    };
    let peer = identity("spiffe://own/x");
    let by_name = inbound(Mode::Strict, [with_order("b", 0), with_order("a", 0)]);
    assert_eq!(verdict(&by_name, &peer), (false, "a/r".into()));
    let by_order = inbound(Mode::Strict, [with_order("b", -1), with_order("a", 0)]);
    assert_eq!(verdict(&by_order, &peer), (false, "b/r".into()));
}

#[test]
fn the_mode_comes_from_the_most_specific_layer_that_states_one() {
    let states = |layer, for_all, for_port| {
        let settings = PortSettings { mode: for_port, alpn: None };
        Policy { mode: for_all, ports: [(PORT, settings)].into(), ..policy("p", layer, vec![]) }
    };
    let cases: [(&[Policy], Mode); 6] = [
        (&[], PERMISSIVE),
        (&[states(Layer::Mesh, Some(Mode::Strict), None)], Mode::Strict),
        (&[states(Layer::Mesh, Some(Mode::Strict), Some(Mode::Disable))], Mode::Disable),
        (
            &[states(Layer::Mesh, None, Some(Mode::Disable)), states(Layer::Namespace, Some(Mode::Strict), None)],
            Mode::Strict,
        ),
        (&[states(Layer::Namespace, None, Some(Mode::Disable)), states(Layer::Workload, None, None)], Mode::Disable),
        // Two of one layer: the stricter.
        (
            &[states(Layer::Mesh, None, Some(Mode::Disable)), states(Layer::Mesh, None, Some(Mode::Strict))],
            Mode::Strict,
        ),
    ];
    for (policies, mode) in cases {
        for policies in [policies.to_vec(), policies.iter().rev().cloned().collect()] {
            assert_eq!(inbound(PERMISSIVE, policies.clone()).mode(PORT), mode, "{policies:?}");
        }
    }
}

#[test]
fn alpn_comes_from_the_most_specific_layer_that_states_some_even_none() {
    let states = |name: &str, layer, ids: &[&str]| {
        let alpn = Some(ids.iter().map(|id| id.as_bytes().to_vec()).collect());
        Policy { ports: [(PORT, PortSettings { mode: None, alpn })].into(), ..policy(name, layer, vec![]) }
    };
    assert!(inbound(Mode::Strict, []).alpn(PORT).is_empty());
    let mesh = [states("b", Layer::Mesh, &["x"]), states("a", Layer::Mesh, &["h2", "x"])];
    assert_eq!(inbound(Mode::Strict, mesh.clone()).alpn(PORT), [b"h2".to_vec(), b"x".to_vec()]);
    assert!(inbound(Mode::Strict, mesh.clone()).alpn(PORT + 1).is_empty());
    let none = states("c", Layer::Workload, &[]);
    assert!(inbound(Mode::Strict, mesh.into_iter().chain([none])).alpn(PORT).is_empty());
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Disable),
        any::<bool>().prop_map(|foreign_mtls| Mode::Permissive { foreign_mtls }),
        Just(Mode::Strict)
    ]
}

fn sources() -> impl Strategy<Value = Source> {
    prop_oneof![
        Just(Source::Unauthenticated),
        "[ab]".prop_map(Source::Namespace),
        ("[ab]", "[ab]").prop_map(|(namespace, name)| Source::ServiceAccount { namespace, name }),
        "spiffe://(own|other)/(\\*\\*|ns/(a|\\*)/\\*\\*|ns/\\*/sa/b)"
            .prop_map(|p| Source::SpiffeId(p.parse().unwrap())),
    ]
}

fn rules() -> impl Strategy<Value = Rule> {
    let action = prop_oneof![Just(Action::Allow), Just(Action::Deny), Just(Action::Audit)];
    let ports = proptest::option::of(subsequence(vec![PORT, PORT + 1], 1..=2));
    ("[a-z]{4}", action, ports, proptest::collection::vec(sources(), 1..3)).prop_map(|(name, action, ports, from)| {
        Rule { name: format!("p/{name}").into(), action, ports: ports.map(BTreeSet::from_iter), from }
    })
}

fn policies() -> impl Strategy<Value = Vec<Policy>> {
    let layer = prop_oneof![Just(Layer::Mesh), Just(Layer::Namespace), Just(Layer::Workload)];
    let rules = proptest::collection::vec(rules(), 0..4);
    let policy = ("[a-z]{4}", -1..=1, layer, proptest::option::of(modes()), rules).prop_map(
        |(name, order, layer, mode, rules)| Policy { name, order, layer, mode, ports: BTreeMap::new(), rules },
    );
    proptest::collection::vec(policy, 0..5)
}

fn peers() -> impl Strategy<Value = Principal> {
    prop_oneof![
        1 => Just(Principal::Unauthenticated),
        4 => "spiffe://(own|other)/ns/[ab]/sa/[ab]".prop_map(|id| identity(&id)),
    ]
}

fn each_rule(policies: &[Policy], action: Action) -> Vec<(Layer, &Rule)> {
    let rules = policies.iter().flat_map(|p| p.rules.iter().map(|rule| (p.layer, rule)));
    rules.filter(|(_, rule)| rule.action == action && rule.is_for(PORT)).collect()
}

fn shuffled(policies: Vec<Policy>) -> impl Strategy<Value = Vec<Policy>> {
    Just(policies).prop_shuffle().prop_flat_map(|policies| {
        let each = policies.into_iter().map(|policy| {
            let shuffled = Just(policy.rules.clone()).prop_shuffle();
            shuffled.prop_map(move |rules| Policy { rules, ..policy.clone() })
        });
        each.collect::<Vec<_>>()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_matching_deny_refuses_whatever_else_there_is(policies in policies(), unlisted in modes(), peer in peers()) {
        let denied = each_rule(&policies, Action::Deny).iter().any(|(_, rule)| rule.matches(&peer, &own()));
        let decision = inbound(unlisted, policies.clone()).decide(PORT, &peer);
        if denied {
            let names: Vec<_> = each_rule(&policies, Action::Deny).iter().map(|(_, r)| r.name.to_string()).collect();
            prop_assert!(!decision.allowed);
            prop_assert!(names.iter().any(|name| name == decision.rule.as_str()));
        }
    }

    #[test]
    fn without_a_deny_an_identity_depends_on_the_most_specific_allowing_layer_alone(
        policies in policies(), unlisted in modes(), peer in peers(),
    ) {
        let denied = each_rule(&policies, Action::Deny).iter().any(|(_, rule)| rule.matches(&peer, &own()));
        let Principal::Identity(id) = &peer else { return Ok(()) };
        prop_assume!(!denied);
        let allow = each_rule(&policies, Action::Allow);
        let expected = match allow.iter().map(|(layer, _)| *layer).max() {
            Some(deciding) => allow.iter().any(|(layer, rule)| *layer == deciding && rule.matches(&peer, &own())),
            None => *id.trust_domain() == own(),
        };
        prop_assert_eq!(inbound(unlisted, policies).decide(PORT, &peer).allowed, expected);
    }

    #[test]
    fn audit_rules_never_change_the_decision(policies in policies(), unlisted in modes(), peer in peers()) {
        let mut without = policies.clone();
        without.iter_mut().for_each(|policy| policy.rules.retain(|rule| rule.action != Action::Audit));
        let with = inbound(unlisted, policies.clone()).decide(PORT, &peer);
        let without = inbound(unlisted, without).decide(PORT, &peer);
        prop_assert_eq!((with.allowed, with.rule), (without.allowed, without.rule));
        let matching = each_rule(&policies, Action::Audit).iter().filter(|(_, r)| r.matches(&peer, &own())).count();
        prop_assert_eq!(with.audits.len(), matching);
        prop_assert!(without.audits.is_empty());
    }

    #[test]
    fn the_sequence_of_policies_and_rules_never_changes_the_verdict(
        (policies, other) in policies().prop_flat_map(|p| (Just(p.clone()), shuffled(p))),
        unlisted in modes(),
        peer in peers(),
    ) {
        let (one, two) = (inbound(unlisted, policies), inbound(unlisted, other));
        prop_assert_eq!(one.mode(PORT), two.mode(PORT));
        let (one, two) = (one.decide(PORT, &peer), two.decide(PORT, &peer));
        prop_assert_eq!(one.allowed, two.allowed);
        let sorted = |mut audits: Vec<Arc<str>>| { audits.sort(); audits };
        prop_assert_eq!(sorted(one.audits), sorted(two.audits));
    }

    #[test]
    fn a_plaintext_client_never_comes_in_on_a_strict_port(policies in policies(), unlisted in modes()) {
        let policy = inbound(unlisted, policies);
        prop_assert!(policy.mode(PORT) != Mode::Strict || !policy.decide(PORT, &Principal::Unauthenticated).allowed);
    }
}
