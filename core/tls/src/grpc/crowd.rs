use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

/// A room of limited size for clients that have proved nothing. When it is full, a newcomer takes the place of the one
/// who came first from the most crowded source: whoever opens connections and does nothing with them pushes out
/// himself, and not those that mean it.
#[derive(Debug)]
pub(crate) struct Crowd {
    most: usize,
    /// Who came first is first.
    guests: VecDeque<(IpAddr, oneshot::Sender<()>)>,
}

/// A place in the room, until it is dropped; a future that ends when the place is lost to another. When the room itself
/// is gone, nobody can come for the place any more.
#[derive(Debug)]
pub(crate) struct Place(Option<oneshot::Receiver<()>>);

impl Crowd {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, guests: VecDeque::new() }
    }

    /// Lets somebody in, whoever has to go for it.
    pub(crate) fn enter(&mut self, from: IpAddr) -> Place {
        let (hold, place) = oneshot::channel();
        self.guests.push_back((source(from), hold));
        if self.guests.len() > self.most {
            self.guests.retain(|(_, place)| !place.is_closed());
        }
        if self.guests.len() > self.most {
            self.push_out();
        }
        Place(Some(place))
    }

    fn push_out(&mut self) {
        let mut guests_by_source = HashMap::new();
        for (source, _) in &self.guests {
            *guests_by_source.entry(*source).or_insert(0_usize) += 1;
        }
        let largest = guests_by_source.values().copied().max();
        let first = self.guests.iter().position(|(source, _)| guests_by_source.get(source).copied() == largest);
        if let Some((_, place)) = first.and_then(|first| self.guests.remove(first)) {
            // Whoever left at this very moment needs no telling.
            let _ = place.send(());
        }
    }
}

impl Future for Place {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(place) = &mut self.0 else { return Poll::Pending };
        match Pin::new(place).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(_)) => {
                self.0 = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
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
    use futures_util::FutureExt as _;

    use super::*;

    fn enter(crowd: &mut Crowd, from: &str) -> Place {
        crowd.enter(from.parse().unwrap())
    }

    /// Which of them have lost their places.
    fn lost<'a>(places: impl IntoIterator<Item = &'a mut Place>) -> Vec<usize> {
        let lost = places.into_iter().enumerate().filter_map(|(n, place)| place.now_or_never().map(|()| n));
        lost.collect()
    }

    #[test]
    fn nobody_goes_while_there_is_room() {
        let mut crowd = Crowd::new(2);
        let mut places = [enter(&mut crowd, "10.0.0.1"), enter(&mut crowd, "10.0.0.1")];
        assert_eq!(lost(&mut places), [0_usize; 0]);
        let [mut first, second] = places;
        drop(second);
        let mut third = enter(&mut crowd, "10.0.0.1");
        assert_eq!(lost([&mut first, &mut third]), [0_usize; 0], "a place that was left is free");
        let mut fourth = enter(&mut crowd, "10.0.0.1");
        assert_eq!(lost([&mut first, &mut third, &mut fourth]), [0]);
    }

    #[test]
    fn a_crowd_pushes_out_itself_and_not_the_single_guest_before_it() {
        let mut crowd = Crowd::new(4);
        let mut single = enter(&mut crowd, "10.0.0.1");
        let mut many: Vec<_> = (0..100).map(|_| enter(&mut crowd, "10.0.0.2")).collect();
        let mut other = enter(&mut crowd, "10.0.0.3");
        assert_eq!(lost([&mut single, &mut other]), [0_usize; 0]);
        assert_eq!(lost(&mut many), (0..98).collect::<Vec<_>>());
    }

    #[test]
    fn a_guest_stays_when_the_room_is_closed_to_newcomers() {
        let mut crowd = Crowd::new(1);
        let mut place = enter(&mut crowd, "10.0.0.1");
        drop(crowd);
        assert_eq!(lost([&mut place]), [0_usize; 0]);
        assert_eq!(lost([&mut place]), [0_usize; 0]);
    }

    #[test]
    fn among_equals_who_came_first_goes() {
        let mut crowd = Crowd::new(2);
        let mut places = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|from| enter(&mut crowd, from));
        assert_eq!(lost(&mut places), [0]);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_and_both_forms_of_an_ipv4_address_are_one_source() {
        for addresses in [["fd00::9:0:0:0:1", "fd00::1", "fd00::2"], ["10.0.0.9", "10.0.0.1", "::ffff:10.0.0.1"]] {
            let mut crowd = Crowd::new(2);
            let mut places = addresses.map(|from| enter(&mut crowd, from));
            assert_eq!(lost(&mut places), [1], "{addresses:?}");
        }
    }
}
