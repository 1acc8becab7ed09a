//! Whether this process may be sent work, and if not, why not. Each part that can hold it back owns one named gate.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::info;

/// Every gate of one process. Clones are the same readiness.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

/// One reason why a process may not be ready. Clones are the same gate.
/// A gate that is dropped stays as it was: what has gone away can't vouch for itself.
#[derive(Debug, Clone)]
pub struct Gate {
    readiness: Readiness,
    position: usize,
}

#[derive(Debug, Default)]
struct State {
    gates: Vec<GateState>,
    draining: bool,
}

#[derive(Debug)]
struct GateState {
    name: &'static str,
    /// None while ready.
    reason: Option<String>,
}

impl Readiness {
    /// Without gates, and so ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a gate that is not ready yet, for the reason given. Names should differ from one another.
    #[must_use]
    pub fn gate(&self, name: &'static str, reason: impl Into<String>) -> Gate {
        let mut state = self.lock();
        state.gates.push(GateState { name, reason: Some(reason.into()) });
        Gate { readiness: self.clone(), position: state.gates.len() - 1 }
    }

    /// Ready, or the name and the reason of every gate that is not, in the order in which they were made.
    ///
    /// # Errors
    /// When a gate is not ready or the process is draining; the latter comes first.
    pub fn report(&self) -> Result<(), Vec<(&'static str, String)>> {
        let state = self.lock();
        let draining = state.draining.then(|| ("shutdown", "draining".to_owned()));
        let waiting = state.gates.iter().filter_map(|gate| Some((gate.name, gate.reason.clone()?)));
        let unready: Vec<_> = draining.into_iter().chain(waiting).collect();
        if unready.is_empty() { Ok(()) } else { Err(unready) }
    }

    /// From now on not ready, whatever the gates say. There is no way back.
    pub fn shutting_down(&self) {
        self.lock().draining = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave half a change behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    /// Nothing holds this gate back any more.
    pub fn ready(&self) {
        self.set(None);
    }

    /// This gate holds the process back, and why: in words that an operator reads.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, reason: Option<String>) {
        let mut state = self.readiness.lock();
        let Some(gate) = state.gates.get_mut(self.position) else { return };
        let before = std::mem::replace(&mut gate.reason, reason);
        match (before, &gate.reason) {
            (Some(_), None) => info!(gate = gate.name, "A gate of readiness has opened"),
            (None, Some(reason)) => info!(gate = gate.name, %reason, "A gate of readiness has closed"),
            // Only another reason: `/readyz` shows it.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_begins_closed_and_says_why() {
        let readiness = Readiness::new();
        assert_eq!(readiness.report(), Ok(()));
        let svid = readiness.gate("svid", "no SVID yet");
        let mesh = readiness.gate("mesh_file", "not read yet");
        let both = vec![("svid", "no SVID yet".to_owned()), ("mesh_file", "not read yet".to_owned())];
        assert_eq!(readiness.report(), Err(both));

        svid.ready();
        assert_eq!(readiness.report(), Err(vec![("mesh_file", "not read yet".to_owned())]));
        mesh.clone().ready();
        assert_eq!(readiness.clone().report(), Ok(()));
    }

    #[test]
    fn a_gate_may_close_again_for_another_reason_and_outlives_its_owner() {
        let readiness = Readiness::new();
        let gate = readiness.gate("svid", "no SVID yet");
        gate.ready();
        gate.not_ready("expired");
        gate.not_ready("expired 5 minutes ago");
        drop(gate);
        assert_eq!(readiness.report(), Err(vec![("svid", "expired 5 minutes ago".to_owned())]));
    }

    #[test]
    fn shutting_down_is_not_ready_at_once_and_for_good() {
        let readiness = Readiness::new();
        let gate = readiness.gate("svid", "no SVID yet");
        readiness.shutting_down();
        let unready = readiness.report().unwrap_err();
        assert_eq!(unready.first(), Some(&("shutdown", "draining".to_owned())));
        gate.ready();
        assert_eq!(readiness.report(), Err(vec![("shutdown", "draining".to_owned())]));
    }
}
