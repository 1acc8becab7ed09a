use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use kith_runtime::readiness::Readiness;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server};

use super::{HEALTH_SERVICE, STATUS_SERVICE};

/// How often a watched health is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// gRPC's health service: as ready as the process, asked at the moment of the answer.
#[derive(Debug, Clone)]
pub(super) struct Health {
    readiness: Readiness,
    shutdown: CancellationToken,
}

impl Health {
    pub(super) fn new(readiness: Readiness, shutdown: CancellationToken) -> Self {
        Self { readiness, shutdown }
    }

    fn status(&self, service: &str) -> ServingStatus {
        match service {
            "" | STATUS_SERVICE | HEALTH_SERVICE if self.readiness.report().is_ok() => ServingStatus::Serving,
            "" | STATUS_SERVICE | HEALTH_SERVICE => ServingStatus::NotServing,
            _ => ServingStatus::ServiceUnknown,
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match self.status(&service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found(format!("no service '{service}' here"))),
            status => Ok(Response::new(response(status))),
        }
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (health, service) = (self.clone(), request.into_inner().service);
        let changes = stream::unfold(None, move |before| {
            let (health, service) = (health.clone(), service.clone());
            async move {
                let mut status = health.status(&service);
                while before == Some(status) {
                    tokio::time::sleep(LOOK).await;
                    status = health.status(&service);
                }
                Some((Ok(response(status)), Some(status)))
            }
        });
        Ok(Response::new(Box::pin(changes.take_until(self.shutdown.clone().cancelled_owned()))))
    }
}
