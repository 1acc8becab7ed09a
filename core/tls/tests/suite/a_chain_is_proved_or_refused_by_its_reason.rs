use std::{collections::BTreeSet, time::Duration};

use kith_identity::Leaf;
use kith_tls::{AnyIdentity, Rejection, Revocations, Trust, authorize};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose as Eku, GeneralSubtree, IsCa, NameConstraints};

use crate::common::{
    cases,
    pki::{Authority, DOMAIN, Pki, at, bundles, id, now, trust, uri, verify_chain},
};

/// Every label of a refusal that a certificate can meet. `no_certificate` is a handshake's.
const LABELS: [&str; 20] = [
    "bad_intermediate",
    "ca_as_leaf",
    "chain_too_long",
    "crl_sign",
    "expired",
    "expired_root",
    "ext_key_usage",
    "invalid_spiffe_id",
    "key_cert_sign",
    "key_usage",
    "malformed",
    "name_constraints",
    "no_uri_san",
    "not_allowed",
    "not_expected",
    "not_yet_valid",
    "revoked",
    "several_uri_sans",
    "unknown_ca",
    "unknown_trust_domain",
];

#[test]
fn every_wrong_chain_is_refused_for_its_own_reason() {
    for case in cases::all() {
        let verdict = verify_chain(&case.chain, now(), &case.trust)
            .and_then(|leaf| authorize(&leaf, now(), &case.trust, &*case.policy));
        assert_eq!(verdict.unwrap_err().as_str(), case.label, "{}", case.what);
    }
}

/// What is wrong with the leaf itself is seen without any trust: the CA agent checks its own certificates so.
#[test]
fn a_wrong_leaf_is_refused_by_its_form_alone() {
    const FORM: [&str; 9] = [
        "malformed",
        "ca_as_leaf",
        "key_usage",
        "key_cert_sign",
        "crl_sign",
        "ext_key_usage",
        "no_uri_san",
        "several_uri_sans",
        "invalid_spiffe_id",
    ];
    for case in cases::all() {
        let form = Leaf::parse(&case.chain[0]).err().map(|error| error.as_str());
        assert_eq!(form, FORM.contains(&case.label).then_some(case.label), "{}", case.what);
    }
}

#[test]
fn there_is_a_wrong_chain_for_every_reason() {
    let tried: BTreeSet<_> = cases::all().into_iter().map(|case| case.label).collect();
    assert_eq!(tried, BTreeSet::from(LABELS));
}

#[test]
fn a_good_chain_says_whose_it_is() {
    let pki = Pki::new();
    let svid = pki.svid("/ns/shop/sa/web");
    let leaf = verify_chain(svid.chain(), now(), &pki.trust()).unwrap();
    assert_eq!(leaf.id, id("/ns/shop/sa/web"));
    assert_eq!(&leaf, svid.leaf());
    assert_eq!(authorize(&leaf, now(), &pki.trust(), &AnyIdentity), Ok(()));
}

#[test]
fn what_the_standard_allows_is_accepted() {
    let pki = Pki::new();
    let accepted = |what, chain: &[Vec<u8>]| {
        assert_eq!(verify_chain(chain, now(), &pki.trust()).map(|_| ()), Ok(()), "{what}");
    };
    accepted("no extKeyUsage", pki.svid_with(|params| params.extended_key_usages.clear()).chain());
    let more = [Eku::ClientAuth, Eku::CodeSigning, Eku::ServerAuth];
    accepted("more purposes", pki.svid_with(|params| params.extended_key_usages = more.to_vec()).chain());
    accepted("no basicConstraints", pki.svid_with(|params| params.is_ca = IsCa::NoCa).chain());
    accepted(
        "a DNS name beside the ID",
        pki.svid_with(|params| {
            params.subject_alt_names.push(rcgen::SanType::DnsName("ca.example.org".try_into().unwrap()));
        })
        .chain(),
    );
    accepted("a leaf of the root", &[pki.root.leaf(|_| {}).der]);
    let dns_only = pki.root.issuing("dns", |params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("example.org".into())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
    });
    accepted("a CA that is constrained in DNS names only", &[dns_only.leaf(|_| {}).der, dns_only.der()]);
    let both = pki.root.issuing("both", |params| {
        params.extended_key_usages = vec![Eku::ServerAuth, Eku::ClientAuth];
    });
    accepted("a CA for both purposes", &[both.leaf(|_| {}).der, both.der()]);
    accepted("the root sent along", &[pki.svid("/x").chain(), &[pki.root.der()]].concat());
}

#[test]
fn five_intermediates_are_not_too_many() {
    let pki = Pki::new();
    let ladder = cases::ladder(&pki, 5);
    let leaf = ladder[4].leaf(|_| {}).der;
    let chain: Vec<_> = std::iter::once(leaf).chain(ladder.iter().rev().map(Authority::der)).collect();
    assert!(verify_chain(&chain, now(), &pki.trust()).is_ok());
}

#[test]
fn validity_includes_its_first_and_its_last_second() {
    let pki = Pki::new();
    let svid = pki.svid_with(|params| (params.not_before, params.not_after) = (at(0), at(10)));
    let verdict = |at| verify_chain(svid.chain(), at, &pki.trust()).map(|_| ());
    assert_eq!(verdict(now() - Duration::from_nanos(1)), Err(Rejection::NotYetValid));
    assert_eq!(verdict(now()), Ok(()));
    assert_eq!(verdict(now() + Duration::from_millis(10_999)), Ok(()));
    assert_eq!(verdict(now() + Duration::from_secs(11)), Err(Rejection::Expired));
}

#[test]
fn a_bad_path_does_not_hide_a_good_one() {
    let pki = Pki::new();
    let good = pki.root.issuing("two faces", |_| {});
    let bad = pki.root.issuing_with_key("two faces", good.key(), |params| params.key_usages.clear());
    let leaf = good.leaf(|_| {}).der;
    let verdict = |chain: &[Vec<u8>]| verify_chain(chain, now(), &pki.trust()).map(|_| ());
    assert_eq!(verdict(&[leaf.clone(), bad.der()]), Err(Rejection::BadIntermediate));
    assert_eq!(verdict(&[leaf, bad.der(), good.der()]), Ok(()));
}

#[test]
fn a_root_that_was_renewed_with_its_key_carries_what_the_old_one_signed() {
    let old = Authority::root("root", |params| params.not_after = at(-1));
    let renewed = Authority::root_with_key("root", old.key(), |_| {});
    let chain = [old.leaf(|_| {}).der];
    let verdict = |roots| verify_chain(&chain, now(), &trust([(DOMAIN, roots)])).map(|_| ());
    assert_eq!(verdict(vec![old.der()]), Err(Rejection::ExpiredRoot));
    assert_eq!(verdict(vec![old.der(), renewed.der()]), Ok(()));
}

#[test]
fn the_longer_limit_of_two_certificates_of_one_root_counts() {
    let wide = Authority::root("root", |_| {});
    let narrow = Authority::root_with_key("root", wide.key(), |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let issuing = wide.issuing("issuing", |_| {});
    let chain = [issuing.leaf(|_| {}).der, issuing.der()];
    let verdict = |roots| verify_chain(&chain, now(), &trust([(DOMAIN, roots)])).map(|_| ());
    assert_eq!(verdict(vec![narrow.der()]), Err(Rejection::ChainTooLong));
    assert_eq!(verdict(vec![narrow.der(), wide.der()]), Ok(()));
}

#[test]
fn each_trust_domain_is_proved_by_its_own_roots() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let trust = trust([(DOMAIN, vec![ours.root.der()]), ("elsewhere.org", vec![theirs.root.der()])]);
    let foreign = |pki: &Pki| pki.svid_with(|params| params.subject_alt_names = vec![uri("spiffe://elsewhere.org/x")]);
    assert!(verify_chain(foreign(&theirs).chain(), now(), &trust).is_ok());
    assert_eq!(verify_chain(foreign(&ours).chain(), now(), &trust), Err(Rejection::UnknownCa));
    assert_eq!(verify_chain(theirs.svid("/x").chain(), now(), &trust), Err(Rejection::UnknownCa));
}

#[test]
fn a_peer_that_was_proved_is_judged_anew_by_what_holds_later() {
    let pki = Pki::new();
    let leaf = verify_chain(pki.svid("/x").chain(), now(), &pki.trust()).unwrap();
    let judged = |at, trust: &Trust| authorize(&leaf, at, trust, &AnyIdentity);
    let revoked = Revocations { ids: [id("/x")].into(), ..Revocations::default() };
    assert_eq!(judged(now(), &pki.trust()), Ok(()));
    assert_eq!(judged(now() + Duration::from_secs(601), &pki.trust()), Err(Rejection::Expired));
    assert_eq!(judged(now() - Duration::from_secs(61), &pki.trust()), Err(Rejection::NotYetValid));
    assert_eq!(judged(now(), &Trust::new(pki.bundles(), revoked).unwrap()), Err(Rejection::Revoked));
    let federated = Trust::new(bundles([("elsewhere.org", vec![pki.root.der()])]), Revocations::default()).unwrap();
    assert_eq!(judged(now(), &federated), Err(Rejection::UnknownTrustDomain));
}

#[test]
fn a_leaf_reads_the_same_alone() {
    let svid = Pki::new().svid("/ns/shop/sa/web");
    let leaf = Leaf::parse(&svid.chain()[0]).unwrap();
    assert_eq!(&leaf, svid.leaf());
    assert_eq!((leaf.not_before, leaf.not_after), (now() - Duration::from_secs(60), now() + Duration::from_secs(600)));
}
