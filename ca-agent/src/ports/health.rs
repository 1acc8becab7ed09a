use std::time::Duration;

use kith_runtime::readiness::Readiness;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthService, HealthServer},
    server::{HealthReporter, health_reporter},
};

/// How soon health follows readiness.
const TICK: Duration = Duration::from_millis(500);

/// gRPC health of every port, which says what `/readyz` says.
#[derive(Default)]
pub(crate) struct Health {
    ports: Vec<(HealthReporter, Vec<&'static str>)>,
}

impl Health {
    /// The health service of a port with these services.
    pub(super) fn service(&mut self, names: &[&'static str]) -> HealthServer<impl HealthService + use<>> {
        let (reporter, service) = health_reporter();
        // The empty name is the server as a whole.
        self.ports.push((reporter, names.iter().copied().chain([""]).collect()));
        service
    }

    /// Follows readiness until it is dropped.
    pub(crate) async fn follow(self, readiness: Readiness) {
        let mut before = None;
        loop {
            let ready = readiness.report().is_ok();
            if before != Some(ready) {
                self.say(if ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
                before = Some(ready);
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn say(&self, status: ServingStatus) {
        for (reporter, names) in &self.ports {
            for name in names {
                reporter.set_service_status(name, status).await;
            }
        }
    }
}
