//! One stream of trust bundles: the whole set at once, then whenever it changes; the caller answers with what it has
//! applied.

use std::sync::Arc;

use kith_identity::Leaf;
use kith_proto::ca::{WatchTrustBundleRequest, WatchTrustBundleResponse};
use kith_runtime::{clock::Clock, drain::DrainWatch, metrics::Gauge};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tracing::{debug, warn};

use crate::{bundles::Bundles, metrics::Metrics, reply::refused, store::Store};

/// Streams at once, on both ports together. A stream is cheap, but strangers may open them.
const MOST_STREAMS: i64 = 50_000;
/// Strangers get no more once so many are open: they must not keep those out who have proved who they are.
const MOST_FOR_STRANGERS: i64 = MOST_STREAMS / 2;

/// One stream's end of everything.
pub(super) struct Watcher {
    /// Who watches; `None` where nobody is asked.
    pub(super) peer: Option<Arc<Leaf>>,
    pub(super) bundles: Bundles,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    pub(super) drain: DrainWatch,
}

type Answers = ReceiverStream<Result<WatchTrustBundleResponse, Status>>;

/// Begins a stream.
pub(super) fn begin(
    watcher: Watcher,
    requests: Streaming<WatchTrustBundleRequest>,
    metrics: &Metrics,
) -> Result<Answers, Status> {
    let most = if watcher.peer.is_some() { MOST_STREAMS } else { MOST_FOR_STRANGERS };
    let open = OpenStream::new(metrics.bundle_streams.clone(), most)
        .ok_or_else(|| refused(Code::ResourceExhausted, "too_many_streams", "too many streams are open"))?;
    // Room for one set: a slow reader gets the newest when it is ready, not every one in between.
    let (answers, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        let _open = open;
        if let Some(status) = watcher.run(requests, &answers).await {
            let _ = answers.send(Err(status)).await;
        }
    });
    Ok(ReceiverStream::new(stream))
}

impl Watcher {
    /// Runs until either end is done; the status is for the caller, if there is anything to say.
    async fn run(
        mut self,
        mut requests: Streaming<WatchTrustBundleRequest>,
        answers: &mpsc::Sender<Result<WatchTrustBundleResponse, Status>>,
    ) -> Option<Status> {
        let draining = self.drain.draining();
        let end = end_of(self.peer.clone(), self.clock.clone());
        tokio::pin!(draining, end);
        let mut listening = true;
        let mut applied = 0;
        let mut due = true;
        loop {
            tokio::select! {
                biased;
                () = &mut draining => return Some(Status::unavailable("the agent is stopping; connect again")),
                () = answers.closed() => return None,
                () = &mut end => {
                    let reason = "the SVID of this connection has expired; connect with the current one";
                    return Some(refused(Code::PermissionDenied, "svid_expired", reason));
                }
                permit = answers.reserve(), if due => {
                    let set = kith_proto::bundles_to_wire(&self.bundles.next());
                    permit.ok()?.send(Ok(WatchTrustBundleResponse { trust_bundles: Some(set) }));
                    due = false;
                }
                alive = self.bundles.changed(), if !due => {
                    if !alive {
                        return Some(Status::unavailable("the agent is stopping; connect again"));
                    }
                    due = true;
                }
                request = requests.message(), if listening => match request {
                    Ok(Some(request)) => self.note(request.applied_sequence, &mut applied).await,
                    // Who has nothing more to say may still listen.
                    Ok(None) => listening = false,
                    Err(_) => return None,
                },
            }
        }
    }

    async fn note(&self, sequence: u64, applied: &mut u64) {
        let Some(peer) = &self.peer else { return };
        let current = self.bundles.current().sequence;
        if sequence > current {
            // It may come from an agent whose state was lost. It will apply what it was just sent.
            debug!(id = %peer.id, sequence, current, "A caller has applied trust bundles that are not ours");
        } else if sequence > *applied {
            *applied = sequence;
            if let Err(reason) = self.store.acknowledge(&peer.serial, sequence).await {
                warn!(%reason, id = %peer.id, "An acknowledgement could not be stored");
            }
        }
    }
}

async fn end_of(peer: Option<Arc<Leaf>>, clock: Clock) {
    match peer {
        Some(leaf) => clock.sleep_until_wall(leaf.not_after).await,
        None => std::future::pending().await,
    }
}

/// Counted while it is open.
struct OpenStream(Gauge);

impl OpenStream {
    /// One more, unless there are so many already.
    fn new(gauge: Gauge, most: i64) -> Option<Self> {
        let before = gauge.inc();
        let open = Self(gauge);
        (before < most).then_some(open)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_leave_room_for_those_who_are_proved() {
        let gauge = Gauge::default();
        let strangers: Vec<_> = std::iter::repeat_with(|| OpenStream::new(gauge.clone(), MOST_FOR_STRANGERS))
            .map_while(std::convert::identity)
            .collect();
        assert_eq!(strangers.len(), usize::try_from(MOST_FOR_STRANGERS).unwrap());
        // Whoever was refused is not counted.
        assert_eq!(gauge.get(), MOST_FOR_STRANGERS);
        assert!(OpenStream::new(gauge.clone(), MOST_STREAMS).is_some());
        drop(strangers);
        assert_eq!(gauge.get(), 0);
    }
}
