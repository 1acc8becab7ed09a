//! Who is behind an address: asked for every outbound connection, and answered from the mesh file.

mod static_file;

use std::{sync::Arc, time::Duration};

use kith_mesh::{Answer, Destination, Mesh, Workload};
use kith_runtime::settings::duration;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::transport::addrs::OrigDst;

pub use static_file::{FileState, StaticFile};

/// The mesh as this sidecar sees it now.
#[derive(Debug)]
pub struct View {
    /// The whole mesh.
    pub mesh: Mesh,
    /// This sidecar's own workload.
    pub me: Arc<Workload>,
}

/// Answers from the newest view. Clones are the same.
#[derive(Debug, Clone)]
pub struct Discovery(watch::Receiver<Option<Arc<View>>>);

/// What discovery says, once it was asked for long enough.
#[derive(Debug, Clone)]
pub enum Found {
    /// Where to dial, and how.
    Known(Arc<Destination>),
    /// Inside the mesh networks, and nobody knows it.
    Unknown,
    /// Discovery has never had an answer to anything.
    Silent,
}

impl Discovery {
    /// Whether there has been a view.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// The newest view.
    #[must_use]
    pub fn view(&self) -> Option<Arc<View>> {
        self.0.borrow().clone()
    }

    /// The first view, waited for until then.
    pub async fn view_by(&self, deadline: Instant) -> Option<Arc<View>> {
        let mut views = self.0.clone();
        let first = timeout_at(deadline, views.wait_for(Option::is_some)).await;
        first.ok()?.ok()?.clone()
    }

    /// Who is behind this destination; an unknown one is asked for again with every change until then.
    pub async fn find(&self, destination: OrigDst, deadline: Instant) -> Found {
        let mut views = self.0.clone();
        loop {
            let last = match views.borrow_and_update().as_ref().map(|v| v.mesh.destination(destination.address())) {
                Some(Answer::Known(found)) => return Found::Known(found),
                Some(Answer::Unknown) => Found::Unknown,
                None => Found::Silent,
            };
            if !matches!(timeout_at(deadline, views.changed()).await, Ok(Ok(()))) {
                return last;
            }
        }
    }
}

/// How long a connection waits for what is not known.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Discovery")]
pub struct Patience {
    /// How long an outbound connection waits for discovery and an SVID before the first of either is there.
    #[arg(
        long,
        env = "KITH_FIRST_ANSWER_TIMEOUT",
        default_value = "10s",
        value_name = "DURATION",
        value_parser = duration
    )]
    pub first_answer_timeout: Duration,
    /// How long one to an unknown address inside the mesh networks waits afterwards.
    #[arg(long, env = "KITH_UNKNOWN_TIMEOUT", default_value = "2s", value_name = "DURATION", value_parser = duration)]
    pub unknown_timeout: Duration,
}
