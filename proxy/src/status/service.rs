use std::{future, pin::Pin};

use futures_util::{Stream, StreamExt as _};
use kith_proto::status::{
    GetOwnIdentityRequest, Identity, ListConnectionsRequest, ListConnectionsResponse, WatchIdentityRequest,
    identity_status_server::IdentityStatus,
};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{Sources, wire};

/// The sidecar's answers about itself.
#[derive(Debug)]
pub(super) struct Service {
    sources: Sources,
    shutdown: CancellationToken,
}

impl Service {
    pub(super) fn new(sources: Sources, shutdown: CancellationToken) -> Self {
        Self { sources, shutdown }
    }
}

#[tonic::async_trait]
impl IdentityStatus for Service {
    type WatchIdentityStream = Pin<Box<dyn Stream<Item = Result<Identity, Status>> + Send>>;

    async fn get_identity(&self, _: Request<GetOwnIdentityRequest>) -> Result<Response<Identity>, Status> {
        let state = self.sources.identity.borrow();
        match wire::identity(&state) {
            Some(identity) => Ok(Response::new(identity)),
            None => Err(Status::unavailable(state.unready(self.sources.clock.now()).unwrap_or_default())),
        }
    }

    async fn watch_identity(
        &self,
        _: Request<WatchIdentityRequest>,
    ) -> Result<Response<Self::WatchIdentityStream>, Status> {
        let states = WatchStream::new(self.sources.identity.clone());
        let identities = states.filter_map(|state| future::ready(wire::identity(&state).map(Ok)));
        Ok(Response::new(Box::pin(identities.take_until(self.shutdown.clone().cancelled_owned()))))
    }

    async fn list_connections(
        &self,
        request: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        let mut views = self.sources.connections.snapshot(request.into_inner().include_closed);
        // A connection that has just closed may be older than others that did before it.
        views.sort_by_key(|view| view.number);
        let connections = views.iter().map(wire::connection).collect();
        Ok(Response::new(ListConnectionsResponse { connections }))
    }
}
