use std::{sync::Arc, time::Duration};

use kith_identity::{Serial, TrustDomain};
use kith_proto::{bundles_from_wire, ca};
use kith_runtime::{
    backoff::{Backoff, random},
    clock::Clock,
};
use kith_tls::CredentialsReader;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{debug, info, warn};

use super::{
    ca_client::{CaClient, CaConnection, CallError},
    publisher::Publisher,
};

const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The headers of the stream's answer; what comes on it takes as long as it takes.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// Keeps the trust bundles as new as the CA's, over a stream that is mended whenever it breaks.
#[derive(Debug)]
pub(super) struct BundleWatch {
    pub(super) ca: CaClient,
    pub(super) publisher: Arc<Publisher>,
    pub(super) clock: Clock,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the CA ended the stream")]
    Ended,
    #[error("the stream went back from sequence {from} to {to}")]
    Backwards { from: u64, to: u64 },
    #[error("a message without trust bundles")]
    Empty,
    #[error("trust bundles that are not usable: {0}")]
    Bundles(String),
    #[error("trust bundles without that of our own trust domain {0}")]
    NotOurs(TrustDomain),
}

/// One line in the log each time that the stream is lost, however long it is away, and one when it is there again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    New,
    Up,
    Lost,
}

impl Link {
    fn follows(&mut self, sequence: u64) {
        if std::mem::replace(self, Self::Up) != Self::Up {
            info!(sequence, "Following the CA's trust bundles");
        }
    }

    fn lost(&mut self, error: &StreamError) {
        match std::mem::replace(self, Self::Lost) {
            Self::Lost => debug!(%error, "Still without the stream of trust bundles"),
            _ => warn!(%error, "The stream of trust bundles is lost; those there are stay in force"),
        }
    }
}

impl BundleWatch {
    /// Ends when no SVID can come any more.
    pub(super) async fn run(self) {
        let mut credentials = self.publisher.reader();
        let (initial, cap) = RETRY;
        let mut backoff = Backoff::new(initial, cap);
        let mut link = Link::New;
        while let Some(material) = credentials.first().await {
            let serial = material.svid().serial().clone();
            match self.follow(&serial, &mut credentials, &mut backoff, &mut link).await {
                Ok(()) => continue,
                Err(error) => link.lost(&error),
            }
            self.publisher.metrics().stream_connected.set(0);
            tokio::select! {
                () = tokio::time::sleep(backoff.next(random())) => {}
                () = rotated(&mut credentials, &serial) => {}
            }
        }
    }

    /// Follows one stream until it breaks, or until another SVID is in force: an acknowledgement counts for the SVID
    /// that sent it, so each SVID has a stream of its own.
    async fn follow(
        &self,
        serial: &Serial,
        credentials: &mut CredentialsReader,
        backoff: &mut Backoff,
        link: &mut Link,
    ) -> Result<(), StreamError> {
        let mut connection = self.ca.connect_mtls().await?;
        let (acks, outgoing) = mpsc::channel(1);
        let first = ca::WatchTrustBundleRequest { applied_sequence: self.publisher.sequence() };
        // The channel is new and holds one.
        let _ = acks.try_send(first);
        let mut incoming = open(&mut connection, outgoing).await?;
        let mut last = None;
        loop {
            let message = tokio::select! {
                message = incoming.message() => message.map_err(|status| connection.explain(&status))?,
                () = rotated(credentials, serial) => return Ok(()),
            };
            let sequence = self.apply(message.ok_or(StreamError::Ended)?, last).await?;
            link.follows(sequence);
            last = Some(sequence);
            backoff.reset();
            self.publisher.metrics().stream_connected.set(1);
            if acks.send(ca::WatchTrustBundleRequest { applied_sequence: sequence }).await.is_err() {
                return Err(StreamError::Ended);
            }
        }
    }

    /// Within one stream the sequence never goes back. A new stream may begin anywhere: who speaks on it has proved
    /// to be our CA, and a CA whose root was replaced counts from the beginning.
    async fn apply(&self, message: ca::WatchTrustBundleResponse, last: Option<u64>) -> Result<u64, StreamError> {
        let bundles = bundles_from_wire(message.trust_bundles.ok_or(StreamError::Empty)?)
            .map_err(|error| StreamError::Bundles(error.to_string()))?;
        let sequence = bundles.sequence;
        if let Some(from) = last.filter(|last| sequence < *last) {
            return Err(StreamError::Backwards { from, to: sequence });
        }
        let own = self.ca.trust_domain();
        if bundles.get(own).is_none() {
            return Err(StreamError::NotOurs(own.clone()));
        }
        let in_force = self.publisher.material().is_some_and(|material| *material.trust().bundles() == bundles);
        if !in_force {
            let published = self.publisher.publish_bundles(bundles, self.clock.now());
            published.map_err(|error| StreamError::Bundles(error.to_string()))?;
            info!(sequence, "Applied new trust bundles");
            self.publisher.keep().await;
        }
        Ok(sequence)
    }
}

async fn open(
    connection: &mut CaConnection,
    outgoing: mpsc::Receiver<ca::WatchTrustBundleRequest>,
) -> Result<Streaming<ca::WatchTrustBundleResponse>, CallError> {
    let call = connection.client.watch_trust_bundle(ReceiverStream::new(outgoing));
    let answer = tokio::time::timeout(OPEN_DEADLINE, call).await.map_err(|_| CallError::Timeout)?;
    answer.map(tonic::Response::into_inner).map_err(|status| connection.explain(&status))
}

/// Resolves when an SVID of another serial number is in force, and never when none can come any more.
async fn rotated(credentials: &mut CredentialsReader, serial: &Serial) {
    loop {
        if credentials.current().is_some_and(|material| material.svid().serial() != serial) {
            return;
        }
        if !credentials.changed().await {
            std::future::pending::<()>().await;
        }
    }
}
