use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn destination(endpoints: u8, client_ip_affinity: bool) -> Destination {
    let endpoint = |n| Endpoint { address: at(n), reach: Reach::Plain(PlainReason::Outside) };
    Destination { endpoints: (0..endpoints).map(endpoint).collect(), client_ip_affinity }
}

fn at(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 80))
}

fn client(n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    IpAddr::from([10, 1, high, low])
}

/// The sequence of draws that a test wants; beyond it, zeros.
fn draws(values: &[usize]) -> impl FnMut(usize) -> usize {
    let mut values = values.iter().copied();
    move |below| {
        assert!(below > 0, "there is no number below 0");
        values.next().unwrap_or_default()
    }
}

#[test]
fn of_two_endpoints_drawn_the_one_with_fewer_open_connections_is_taken() {
    let destination = destination(4, false);
    let open = |address: SocketAddr| if address == at(1) { 5 } else { 6 };
    // Draws 1, then of the others the one after the next: 3.
    assert_eq!(destination.choose(client(0), &[], open, draws(&[1, 1])).unwrap().address, at(1));
    assert_eq!(destination.choose(client(0), &[], open, draws(&[3, 1])).unwrap().address, at(1));
    assert_eq!(destination.choose(client(0), &[], open, draws(&[3, 0])).unwrap().address, at(3), "1 was not drawn");
}

#[test]
fn nothing_is_chosen_once_everything_was_tried_or_nothing_is_ready() {
    for affinity in [false, true] {
        assert_eq!(destination(0, affinity).choose(client(0), &[], |_| 0, draws(&[])), None);
        assert_eq!(destination(2, affinity).choose(client(0), &[at(0), at(1)], |_| 0, draws(&[])), None);
    }
}

#[test]
fn affinity_spreads_clients_over_all_endpoints() {
    let destination = destination(4, true);
    let mut chosen: HashMap<SocketAddr, usize> = HashMap::new();
    for n in 0..1000 {
        *chosen.entry(destination.choose(client(n), &[], |_| 0, draws(&[])).unwrap().address).or_default() += 1;
    }
    assert!(chosen.len() == 4 && chosen.values().all(|count| (150..350).contains(count)), "{chosen:?}");
}

#[test]
fn affinity_meets_the_same_pod_on_every_port() {
    let (http, mut admin) = (destination(7, true), destination(7, true));
    admin.endpoints.iter_mut().for_each(|e| e.address.set_port(9000));
    for n in 0..100 {
        let choose = |d: &Destination| d.choose(client(n), &[], |_| 0, draws(&[])).unwrap().address.ip();
        assert_eq!(choose(&http), choose(&admin));
    }
}

proptest! {
    #[test]
    fn the_choice_is_an_endpoint_that_was_not_tried(
        endpoints in 0..6u8, affinity: bool, tried in proptest::collection::vec(0..6u8, 0..6), a: usize, b: usize,
    ) {
        let tried: Vec<_> = tried.into_iter().map(at).collect();
        let destination = destination(endpoints, affinity);
        let left = destination.endpoints.iter().filter(|e| !tried.contains(&e.address)).count();
        match destination.choose(client(0), &tried, |_| 0, draws(&[a, b])) {
            Some(chosen) => prop_assert!(destination.endpoints.contains(chosen) && !tried.contains(&chosen.address)),
            None => prop_assert_eq!(left, 0),
        }
    }

    #[test]
    fn two_different_endpoints_are_compared(endpoints in 2..8u8, a: usize, b: usize) {
        let asked = std::cell::RefCell::new(Vec::new());
        let open = |address| { asked.borrow_mut().push(address); 0 };
        prop_assert!(destination(endpoints, false).choose(client(0), &[], open, draws(&[a, b])).is_some());
        let asked = asked.into_inner();
        prop_assert!(asked.len() == 2 && asked[0] != asked[1], "{:?}", asked);
    }

    #[test]
    fn with_affinity_only_the_clients_of_an_endpoint_that_went_move(n: u16, gone in 0..6u8, a: usize, load: usize) {
        let mut destination = destination(6, true);
        let choose = |d: &Destination, draw: usize, load: usize| {
            d.choose(client(n), &[], |address| if address == at(0) { load } else { 1 }, draws(&[draw])).unwrap().address
        };
        let before = choose(&destination, 0, 0);
        prop_assert_eq!(choose(&destination, a, load), before, "neither chance nor load matters");
        destination.endpoints.reverse();
        prop_assert_eq!(choose(&destination, 0, 0), before, "nor does the sequence");
        destination.endpoints.retain(|e| e.address != at(gone));
        let after = choose(&destination, 0, 0);
        prop_assert!(after == before || before == at(gone));
    }
}
