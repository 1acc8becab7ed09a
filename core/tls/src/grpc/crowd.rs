use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
};

/// Who is inside a room of limited size. When it is full, the newcomer takes the place of the longest guest of the most
/// crowded source: connections that are opened and left silent push out each other, not those that mean it.
#[derive(Debug)]
pub(crate) struct Crowd<G> {
    most: usize,
    /// The longest guest first.
    guests: VecDeque<(IpAddr, G)>,
}

impl<G> Crowd<G> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, guests: VecDeque::new() }
    }

    /// Lets a guest in, and returns whoever had to go for it.
    pub(crate) fn enter(&mut self, from: IpAddr, guest: G) -> Option<G> {
        self.guests.push_back((source(from), guest));
        if self.guests.len() <= self.most {
            return None;
        }
        let mut guests_by_source = HashMap::new();
        for (source, _) in &self.guests {
            *guests_by_source.entry(*source).or_insert(0_usize) += 1;
        }
        let largest = guests_by_source.values().max()?;
        let place = self.guests.iter().position(|(source, _)| guests_by_source.get(source) == Some(largest))?;
        self.guests.remove(place).map(|(_, guest)| guest)
    }

    /// Forgets a guest who has left.
    pub(crate) fn leave(&mut self, is_guest: impl Fn(&G) -> bool) {
        if let Some(place) = self.guests.iter().position(|(_, guest)| is_guest(guest)) {
            self.guests.remove(place);
        }
    }
}

/// One IPv6 host may own every address of its /64.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(crowd: &mut Crowd<u32>, from: &str, guest: u32) -> Option<u32> {
        crowd.enter(from.parse().unwrap(), guest)
    }

    #[test]
    fn nobody_goes_while_there_is_room() {
        let mut crowd = Crowd::new(2);
        assert_eq!(enter(&mut crowd, "10.0.0.1", 1), None);
        assert_eq!(enter(&mut crowd, "10.0.0.1", 2), None);
        crowd.leave(|guest| *guest == 1);
        assert_eq!(enter(&mut crowd, "10.0.0.1", 3), None);
        crowd.leave(|guest| *guest == 99);
        assert_eq!(enter(&mut crowd, "10.0.0.1", 4), Some(2));
    }

    #[test]
    fn a_crowd_pushes_out_itself_and_not_the_single_guest_before_it() {
        let mut crowd = Crowd::new(4);
        assert_eq!(enter(&mut crowd, "10.0.0.1", 0), None);
        let pushed: Vec<u32> = (1..100).filter_map(|guest| enter(&mut crowd, "10.0.0.2", guest)).collect();
        assert_eq!(pushed, (1..=96).collect::<Vec<_>>());
        assert_eq!(enter(&mut crowd, "10.0.0.3", 100), Some(97));
    }

    #[test]
    fn among_equals_the_longest_guest_goes() {
        let mut crowd = Crowd::new(2);
        assert_eq!(enter(&mut crowd, "10.0.0.1", 1), None);
        assert_eq!(enter(&mut crowd, "10.0.0.2", 2), None);
        assert_eq!(enter(&mut crowd, "10.0.0.3", 3), Some(1));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_and_both_forms_of_an_ipv4_address_are_one_source() {
        let mut crowd = Crowd::new(2);
        assert_eq!(enter(&mut crowd, "fd00::9:0:0:0:1", 0), None);
        assert_eq!(enter(&mut crowd, "fd00::1", 1), None);
        assert_eq!(enter(&mut crowd, "fd00::2", 2), Some(1));
        let mut crowd = Crowd::new(2);
        assert_eq!(enter(&mut crowd, "10.0.0.9", 0), None);
        assert_eq!(enter(&mut crowd, "10.0.0.1", 1), None);
        assert_eq!(enter(&mut crowd, "::ffff:10.0.0.1", 2), Some(1));
    }
}
