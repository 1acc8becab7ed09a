//! One meshed endpoint: dial it, prove it, and on `kith/1` hear whether it takes the connection.

use std::{io, net::SocketAddr, sync::Arc};

use kith_mesh::{Meshed, Protocol};
use kith_tls::{
    Client, ExpectedIds, Failed, HandshakeError, Material, Roots, TlsStream, alpn,
    answer::{Answer, Refusal},
    linger,
};

use super::early::{Early, Heard};
use crate::{
    outcome::{Direction, Outcome, Reason, Record, Tls},
    sidecar::Sidecar,
    transport::{connect::dial_wire, socket::Socket, stream::Stream},
};

/// How one attempt went.
pub(super) enum Attempt {
    /// The endpoint takes the connection.
    Taken(Stream),
    /// It does not, and has delivered nothing: another may be tried.
    Elsewhere(Reason),
    /// It does not, or somebody on the path made it look so: another may be tried that proves itself.
    Unproved(Reason),
    /// Nobody may be tried any more: the endpoint may have delivered something, or the application has gone.
    Over(Reason),
}

pub(super) async fn meshed(
    sidecar: &Sidecar,
    application: &mut Socket,
    address: SocketAddr,
    expected: &Meshed,
    material: Arc<Material>,
    early: &mut Early,
    record: &Record,
) -> Attempt {
    record.note(|details| details.expected = expected.ids.to_vec());
    let wire = match dial_wire(address, sidecar.settings.connect_timeout, &sidecar.transport).await {
        Ok(wire) => wire,
        Err(reason) => return Attempt::Unproved(reason),
    };
    let (is_kith, alpn) = match &expected.protocol {
        Protocol::Kith => (true, vec![alpn::KITH.to_vec()]),
        Protocol::Foreign { alpn } => (false, alpn.to_vec()),
    };
    let client = Client {
        material: Some(Arc::clone(&material)),
        roots: Roots::Trust(Arc::clone(material.trust())),
        policy: Arc::new(ExpectedIds(expected.ids.to_vec())),
        alpn,
        deadline: sidecar.settings.hello_timeout,
    };
    let tls = match kith_tls::connect(wire, address.ip(), client, sidecar.clock.now()).await {
        Ok(tls) => tls,
        Err(failed) => return refused(sidecar, failed).await,
    };
    record.note(|details| {
        details.tls = Tls::of(&material, &tls);
        details.expected.clear();
    });
    if is_kith {
        answered(sidecar, application, tls, early).await
    } else {
        // A foreign server says no more in TLS 1.3; whether it takes us shows when it speaks.
        sidecar.metrics.handshake(Direction::Outbound, Ok(()));
        Attempt::Taken(Stream::Tls(Box::new(tls)))
    }
}

async fn refused(sidecar: &Sidecar, failed: Failed<Socket>) -> Attempt {
    let label = failed.error.as_str();
    sidecar.metrics.handshake(Direction::Outbound, Err(label));
    let reason = Reason::new(Outcome::Refused, label, failed.error.to_string());
    // The alert needs a moment to arrive; the application need not wait for that.
    if let Some(io) = failed.io {
        tokio::spawn(linger(io));
    }
    match failed.error {
        HandshakeError::OwnSvidExpired => Attempt::Over(reason),
        _ => Attempt::Unproved(reason),
    }
}

/// Waits for the answer byte, while what the application says at once is already on its way.
async fn answered(
    sidecar: &Sidecar,
    application: &mut Socket,
    mut tls: TlsStream<Socket>,
    early: &mut Early,
) -> Attempt {
    if tls.parameters().alpn.as_deref() != Some(alpn::KITH) {
        sidecar.metrics.handshake(Direction::Outbound, Err("no_kith_alpn"));
        let detail = "the peer is said to be a sidecar but does not speak kith/1";
        return Attempt::Elsewhere(Reason::new(Outcome::Refused, "no_kith_alpn", detail));
    }
    let heard = early.exchange(application, &mut tls, sidecar.settings.answer_timeout).await;
    // In TLS 1.3 the client is done first: only now is it known whether the peer took our certificate.
    let alert = match &heard {
        Heard::WireFailed(error) => TlsStream::<Socket>::alert(error),
        _ => None,
    };
    sidecar.metrics.handshake(Direction::Outbound, alert.map_or(Ok(()), Err));
    match heard {
        Heard::Answer(Answer::Accepted) => Attempt::Taken(Stream::Tls(Box::new(tls))),
        Heard::Answer(Answer::Refused(refusal)) => Attempt::Elsewhere(by_peer(refusal)),
        Heard::WireFailed(error) => match alert {
            Some(label) => Attempt::Elsewhere(Reason::new(Outcome::Refused, label, error.to_string())),
            None => Attempt::Over(Reason::new(Outcome::Reset, unanswered(&error), error.to_string())),
        },
        Heard::ApplicationFailed(error) => {
            tls.io().resetter().arm();
            Attempt::Over(Reason::new(Outcome::Reset, "application_reset", error.to_string()))
        }
        Heard::Silence => Attempt::Over(Reason::ANSWER_TIMEOUT),
    }
}

/// A cut and a broken protocol are different faults; after either the bytes may have been delivered.
fn unanswered(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::InvalidData => "wire_protocol",
        _ => "unanswered",
    }
}

fn by_peer(refusal: Refusal) -> Reason {
    let label = match refusal {
        Refusal::NotAllowed => "peer_not_allowed",
        Refusal::ApplicationUnreachable => "peer_application_unreachable",
        Refusal::Draining => "peer_draining",
        _ => "peer_refused",
    };
    Reason::new(Outcome::Refused, label, "")
}
