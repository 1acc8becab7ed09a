use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{MAX_CONNECTIONS, MAX_CONNECTIONS_OF_ONE};

/// The places for connections, of which no single address may take all.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    source: IpAddr,
}

impl Slots {
    /// A place for a connection from there, if one is left for that address.
    pub(super) fn take(&self, source: IpAddr) -> Option<Slot> {
        let mut taken = self.taken();
        let of_this_one = taken.get(&source).copied().unwrap_or_default();
        if of_this_one >= MAX_CONNECTIONS_OF_ONE || taken.values().sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        taken.insert(source, of_this_one + 1);
        drop(taken);
        Some(Slot { slots: self.clone(), source })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        match taken.get_mut(&self.source) {
            Some(open) if *open > 1 => *open -= 1,
            _ => _ = taken.remove(&self.source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_places_for_others_and_all_together_have_a_bound() {
        let slots = Slots::default();
        let address = |last: usize| IpAddr::from([10, 0, 0, u8::try_from(last).unwrap()]);
        let mut held: Vec<_> = (0..MAX_CONNECTIONS_OF_ONE).map(|_| slots.take(address(0)).unwrap()).collect();
        assert!(slots.take(address(0)).is_none());
        held.extend((MAX_CONNECTIONS_OF_ONE..MAX_CONNECTIONS).map(|n| slots.take(address(n)).unwrap()));
        assert!(slots.take(address(255)).is_none(), "there is a bound for all");
        held.clear();
        assert!(slots.taken().is_empty(), "what is left is forgotten");
        assert!(slots.take(address(0)).is_some());
    }
}
