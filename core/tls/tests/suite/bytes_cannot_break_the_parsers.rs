use std::{slice::from_ref, sync::LazyLock};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kith_identity::{Leaf, Serial, TrustBundle};
use kith_tls::{Trust, verify};
use proptest::prelude::*;
use rustls::pki_types::CertificateDer;

use crate::common::pki::{DOMAIN, Pki, domain, now, verify_chain};

/// One good chain for all runs: leaf, intermediate, root.
static CHAIN: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let pki = Pki::new();
    [pki.svid("/ns/shop/sa/web").chain(), &[pki.root.der()]].concat()
});

static TRUST: LazyLock<std::sync::Arc<Trust>> =
    LazyLock::new(|| crate::common::pki::trust([(DOMAIN, vec![CHAIN[2].clone()])]));

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64_STANDARD.encode(der))
}

/// A change of a few bytes that really changes something.
fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..8)
}

fn changed(original: &[u8], changes: &[(prop::sample::Index, u8)]) -> Option<Vec<u8>> {
    let mut bytes = original.to_vec();
    for (place, flip) in changes {
        bytes[place.index(original.len())] ^= flip;
    }
    (bytes != original).then_some(bytes)
}

#[test]
fn the_chain_that_is_mutated_is_good() {
    assert!(verify_chain(&CHAIN[..2], now(), &TRUST).is_ok());
}

#[test]
fn no_single_flipped_bit_of_a_leaf_is_believed() {
    for place in 0..CHAIN[0].len() {
        for bit in 0..8 {
            let mut leaf = CHAIN[0].clone();
            leaf[place] ^= 1 << bit;
            let verdict = verify_chain(&[leaf, CHAIN[1].clone()], now(), &TRUST);
            assert!(verdict.is_err(), "byte {place}, bit {bit}");
        }
    }
}

#[test]
fn no_single_flipped_bit_of_an_intermediate_is_believed() {
    for place in 0..CHAIN[1].len() {
        let mut intermediate = CHAIN[1].clone();
        intermediate[place] ^= 1 << (place % 8);
        assert!(verify_chain(&[CHAIN[0].clone(), intermediate], now(), &TRUST).is_err(), "byte {place}");
    }
}

#[test]
fn a_certificate_that_is_cut_short_or_goes_on_is_no_certificate() {
    for length in 0..CHAIN[0].len() {
        assert!(Leaf::parse(&CHAIN[0][..length]).is_err(), "{length} bytes");
        let bundle = TrustBundle::new(domain(DOMAIN), vec![CHAIN[2][..length.min(CHAIN[2].len() - 1)].to_vec()]);
        assert!(bundle.is_err(), "{length} bytes");
    }
    let twice = [CHAIN[2].clone(), CHAIN[2].clone()].concat();
    assert!(TrustBundle::new(domain(DOMAIN), vec![twice]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Leaf::parse(&bytes);
        let _ = TrustBundle::new(domain(DOMAIN), vec![bytes.clone()]);
        let _ = TrustBundle::from_pem(domain(DOMAIN), &bytes);
        let _ = TrustBundle::from_pem(domain(DOMAIN), pem(&bytes).as_bytes());
        let _ = kith_tls::RootPin::of_certificate(&bytes);
        let bytes = CertificateDer::from(bytes);
        prop_assert!(verify(&bytes, from_ref(&bytes), now(), &TRUST).is_err());
    }

    #[test]
    fn a_changed_leaf_is_never_believed(changes in changes()) {
        if let Some(leaf) = changed(&CHAIN[0], &changes) {
            prop_assert!(verify_chain(&[leaf, CHAIN[1].clone()], now(), &TRUST).is_err());
        }
    }

    #[test]
    fn a_changed_intermediate_carries_nobody(changes in changes()) {
        if let Some(intermediate) = changed(&CHAIN[1], &changes) {
            prop_assert!(verify_chain(&[CHAIN[0].clone(), intermediate], now(), &TRUST).is_err());
        }
    }

    #[test]
    fn what_parses_keeps_the_rules(changes in changes()) {
        if let Some(Ok(leaf)) = changed(&CHAIN[0], &changes).map(|der| Leaf::parse(&der)) {
            prop_assert_eq!(leaf.id.to_string().parse(), Ok(leaf.id.clone()));
            prop_assert!(!leaf.serial.as_bytes().is_empty() && leaf.serial.as_bytes().len() <= 20);
        }
    }

    #[test]
    fn a_changed_root_is_a_bundle_or_an_error(changes in changes()) {
        if let Some(root) = changed(&CHAIN[2], &changes)
            && let Ok(bundle) = TrustBundle::new(domain(DOMAIN), vec![root])
        {
            let _ = Trust::new(kith_identity::TrustBundles::new(0, [bundle]), kith_tls::Revocations::default());
        }
    }

    #[test]
    fn any_text_around_pem_is_read_or_refused(text in "(-----BEGIN CERTIFICATE-----|-----END CERTIFICATE-----|[\\PC\n]{0,40}|MIIB\n){0,8}") {
        prop_assert!(TrustBundle::from_pem(domain(DOMAIN), text.as_bytes()).is_err());
    }

    #[test]
    fn a_serial_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        if let Ok(serial) = Serial::from_bytes(&bytes) {
            prop_assert_eq!(serial.to_string().parse(), Ok(serial.clone()));
            prop_assert_eq!(Serial::from_bytes(serial.as_bytes()), Ok(serial));
        }
    }
}
