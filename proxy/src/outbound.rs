//! The byte's way out: original destination, discovery, endpoint, dial, TLS, answer, copy, one record.

mod early;
mod endpoint;

use std::{net::SocketAddr, sync::Arc};

use bytes::BytesMut;
use kith_mesh::{Destination, Endpoint, Reach};
use tokio::{net::TcpStream, time::Instant};

use self::{early::Early, endpoint::Attempt};
use crate::{
    discovery::Found,
    outcome::{Direction, Reason, Record},
    sidecar::Sidecar,
    transport::{
        addrs::OrigDst,
        connect::{dial_own, dial_wire},
        copy::relay,
        orig_dst::original_destination,
        socket::Socket,
        stream::Stream,
    },
};

/// How many endpoints of a service are tried for one connection.
const MOST_ATTEMPTS: u32 = 3;

/// Takes one connection that capture led to the outbound port, to its end.
pub async fn handle(sidecar: Arc<Sidecar>, tcp: TcpStream, client: SocketAddr) {
    let destination = original_destination(&tcp);
    if destination.is_some_and(|to| sidecar.self_check.is_probe(to, client)) {
        return;
    }
    let record = sidecar.connections.open(Direction::Outbound, client);
    let Some(destination) = destination.filter(|to| !sidecar.is_own_listener(*to)) else {
        return record.end(Reason::LOOP);
    };
    record.note(|details| details.original_destination = Some(destination.address()));
    let application = Socket::new(tcp);
    // Whoever was accepted by us and reaches nobody is told by a reset: the nearest to a refused connection.
    application.resetter().arm();
    let ended = tokio::select! {
        biased;
        ended = serve(&sidecar, application, destination, &record) => ended,
        () = sidecar.abort.cancelled() => Err(Reason::ABORTED),
    };
    let (Ok(reason) | Err(reason)) = ended;
    record.end(reason);
}

/// An error means that nobody took the connection.
async fn serve(
    sidecar: &Sidecar,
    application: Socket,
    destination: OrigDst,
    record: &Record,
) -> Result<Reason, Reason> {
    let deadline = sidecar.patience_from_now();
    if sidecar.transport.apply_to_application(application.tcp()).is_err() {
        return Err(Reason::ABORTED);
    }
    match sidecar.discovery.find(destination, deadline).await {
        Found::Known(found) => reach(sidecar, application, &found, deadline, record).await,
        Found::Unknown => Err(Reason::UNKNOWN_DESTINATION),
        Found::Silent => Err(Reason::NO_DISCOVERY),
    }
}

/// Tries endpoints until one takes the connection, and moves its bytes. An error means that nobody took it.
async fn reach(
    sidecar: &Sidecar,
    mut application: Socket,
    destination: &Destination,
    deadline: Instant,
    record: &Record,
) -> Result<Reason, Reason> {
    let mut early = Early::default();
    let mut ruled_out: Vec<SocketAddr> = Vec::new();
    let mut last = Reason::NO_ENDPOINT;
    for retries in 0..MOST_ATTEMPTS {
        let Some(endpoint) = sidecar.load.choose(destination, record.client().ip(), &ruled_out) else { break };
        let _open = sidecar.load.count(endpoint.address);
        record.note(|details| {
            details.dialled = Some(endpoint.address);
            details.retries = retries;
        });
        early.begin_anew();
        match attempt(sidecar, &mut application, endpoint, &mut early, deadline, record).await {
            Attempt::Taken(wire) => {
                let counters = sidecar.metrics.bytes(Direction::Outbound);
                let unsent = early.into_unsent(record.bytes(), &counters);
                return Ok(
                    relay(Stream::Plain(application), wire, unsent, record.bytes(), &counters, &sidecar.abort).await
                );
            }
            Attempt::Elsewhere(reason) => last = reason,
            Attempt::Unproved(reason) => {
                // Whoever is on the path can break a handshake, and must not turn a connection plain by that.
                ruled_out.extend(plain_endpoints(destination, sidecar));
                last = reason;
            }
            Attempt::Over(reason) => return Err(reason),
        }
        ruled_out.push(endpoint.address);
    }
    Err(last)
}

/// The endpoints that are reached in plaintext over the wire.
fn plain_endpoints(destination: &Destination, sidecar: &Sidecar) -> impl Iterator<Item = SocketAddr> {
    let plain = |endpoint: &&Endpoint| {
        matches!(endpoint.reach, Reach::Plain(_)) && !sidecar.own.contains(endpoint.address.ip())
    };
    destination.endpoints.iter().filter(plain).map(|endpoint| endpoint.address)
}

async fn attempt(
    sidecar: &Sidecar,
    application: &mut Socket,
    endpoint: &Endpoint,
    early: &mut Early,
    deadline: Instant,
    record: &Record,
) -> Attempt {
    // A pod that calls itself stays within itself: its own sidecar would only talk to itself.
    if sidecar.own.contains(endpoint.address.ip()) {
        let dialled = dial_own(endpoint.address, sidecar.settings.connect_timeout, &sidecar.transport).await;
        return plain(dialled, "local", record);
    }
    match &endpoint.reach {
        Reach::Plain(why) => {
            let dialled = dial_wire(endpoint.address, sidecar.settings.connect_timeout, &sidecar.transport).await;
            plain(dialled, why.as_str(), record)
        }
        Reach::Meshed(meshed) => {
            let Some(material) = sidecar.material_by(deadline).await else {
                return Attempt::Over(Reason::NO_SVID);
            };
            endpoint::meshed(sidecar, application, endpoint.address, meshed, material, early, record).await
        }
    }
}

fn plain(dialled: Result<Socket, Reason>, why: &'static str, record: &Record) -> Attempt {
    match dialled {
        Ok(wire) => {
            record.note(|details| details.plaintext_reason = Some(why));
            Attempt::Taken(Stream::Plain(wire))
        }
        Err(reason) => Attempt::Elsewhere(reason),
    }
}

impl Early {
    /// What the endpoint that took the connection has not got yet; all of what was read early is counted as sent.
    fn into_unsent(self, bytes: &crate::outcome::Bytes, [sent, _]: &[kith_runtime::metrics::Counter; 2]) -> BytesMut {
        let read = u64::try_from(self.len()).unwrap_or(u64::MAX);
        bytes.sent.fetch_add(read, std::sync::atomic::Ordering::Relaxed);
        sent.inc_by(read);
        self.unsent()
    }
}
