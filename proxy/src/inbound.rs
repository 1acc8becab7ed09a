//! The byte's way in: original destination, mode, TLS, policy, dial, answer, copy, one record.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use kith_mesh::{InboundPolicy, Mode};
use kith_tls::{
    Failed, Server, TlsStream, alpn,
    answer::{Answer, Refusal},
    linger,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    outcome::{Direction, Outcome, Reason, Record, Tls},
    policy::PortPolicy,
    sidecar::Sidecar,
    transport::{
        addrs::OrigDst,
        connect::dial_own,
        copy::relay,
        detect::{Spoken, detect},
        orig_dst::original_destination,
        socket::Socket,
        stream::Stream,
    },
};

/// How long a peer that is refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// Takes one connection that capture led to the inbound port, to its end.
pub async fn handle(sidecar: Arc<Sidecar>, tcp: TcpStream, client: SocketAddr) {
    let record = sidecar.connections.open(Direction::Inbound, client);
    let wire = Socket::new(tcp);
    let resetter = wire.resetter();
    let reason = tokio::select! {
        biased;
        reason = serve(&sidecar, wire, &record) => reason,
        () = sidecar.abort.cancelled() => {
            resetter.arm();
            Reason::ABORTED
        }
    };
    record.end(reason);
}

async fn serve(sidecar: &Sidecar, mut socket: Socket, record: &Record) -> Reason {
    let deadline = sidecar.patience_from_now();
    let original = original_destination(socket.tcp());
    let Some(destination) = original.filter(|to| !sidecar.is_own_listener(*to)) else {
        return Reason::LOOP;
    };
    record.note(|details| details.original_destination = Some(destination.address()));
    sidecar.metrics.inbound_seen(sidecar.unix_now());
    if sidecar.transport.apply_to_wire(socket.tcp()).is_err() {
        return Reason::HELLO_CLOSED;
    }
    if !(sidecar.own.contains(destination.ip()) || sidecar.own.refresh() && sidecar.own.contains(destination.ip())) {
        return reset(&socket, Reason::NOT_OUR_ADDRESS);
    }
    let Some(view) = sidecar.discovery.view_by(deadline).await else {
        return reset(&socket, Reason::NO_DISCOVERY);
    };
    let port = destination.port();
    match view.me.inbound.mode(port) {
        _ if view.me.skipped_ports.contains(&port) => plain(sidecar, socket, destination, record, "skipped_port").await,
        Mode::Disable => plain(sidecar, socket, destination, record, "mode_disable").await,
        // PERMISSIVE is refused when the mesh file is read; were it here, it would be STRICT.
        Mode::Permissive { .. } | Mode::Strict => match detect(&mut socket, sidecar.settings.hello_timeout).await {
            Ok(Spoken::Tls) => {
                let policy = Arc::clone(&view.me.inbound);
                strict(sidecar, socket, destination, policy, deadline, record).await
            }
            // Closed without a byte: nothing is told to who does not speak TLS.
            Ok(Spoken::Plaintext) => Reason::PLAINTEXT_ON_STRICT,
            Ok(Spoken::Nothing) => Reason::HELLO_CLOSED,
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Reason::HELLO_TIMEOUT,
            Err(_) => Reason::HELLO_CLOSED,
        },
    }
}

/// A port that is not ours: the application's bytes as they are.
async fn plain(sidecar: &Sidecar, wire: Socket, to: OrigDst, record: &Record, why: &'static str) -> Reason {
    record.note(|details| details.plaintext_reason = Some(why));
    match dial(sidecar, to, record).await {
        Ok(application) => copy(sidecar, application, Stream::Plain(wire), record).await,
        Err(reason) => reset(&wire, reason),
    }
}

async fn strict(
    sidecar: &Sidecar,
    socket: Socket,
    to: OrigDst,
    policy: Arc<InboundPolicy>,
    deadline: Instant,
    record: &Record,
) -> Reason {
    let Some(material) = sidecar.material_by(deadline).await else {
        return reset(&socket, Reason::NO_SVID);
    };
    let port_policy = Arc::new(PortPolicy::new(Arc::clone(&policy), to.port()));
    let mut ids = vec![alpn::KITH.to_vec()];
    ids.extend_from_slice(policy.alpn(to.port()));
    let server = Server {
        material: Arc::clone(&material),
        policy: Some(Arc::clone(&port_policy) as _),
        alpn: ids,
        deadline: sidecar.settings.hello_timeout,
    };
    let accepted = kith_tls::accept(socket, server, sidecar.clock.now()).await;
    note_decision(sidecar, &port_policy, record);
    match accepted {
        Ok(tls) => {
            sidecar.metrics.handshake(Direction::Inbound, Ok(()));
            record.note(|details| details.tls = Tls::of(&material, &tls));
            deliver(sidecar, tls, to, record).await
        }
        Err(failed) => refuse(sidecar, failed).await,
    }
}

fn note_decision(sidecar: &Sidecar, policy: &PortPolicy, record: &Record) {
    if let Some(decision) = policy.decision() {
        sidecar.metrics.decision(decision.rule.as_str(), decision.allowed);
        record.note(|details| {
            details.rule = Some(decision.rule.as_str().into());
            details.audits.clone_from(&decision.audits);
        });
    }
}

async fn refuse(sidecar: &Sidecar, failed: Failed<Socket>) -> Reason {
    let label = failed.error.as_str();
    sidecar.metrics.handshake(Direction::Inbound, Err(label));
    if let Some(io) = failed.io {
        linger(io).await;
    }
    Reason::new(Outcome::Refused, label, failed.error.to_string())
}

/// The client is who it should be: reach the application, say so, and move bytes.
async fn deliver(sidecar: &Sidecar, mut tls: TlsStream<Socket>, to: OrigDst, record: &Record) -> Reason {
    let is_kith = tls.parameters().alpn.as_deref() == Some(alpn::KITH);
    match dial(sidecar, to, record).await {
        Ok(application) => {
            if is_kith && tls.write_all(&[Answer::Accepted.code()]).await.is_err() {
                return Reason::new(Outcome::Reset, "wire_reset", "the peer went away before it was answered");
            }
            copy(sidecar, application, Stream::Tls(Box::new(tls)), record).await
        }
        Err(reason) if is_kith => {
            let answer = Answer::Refused(Refusal::ApplicationUnreachable).code();
            let farewell = async {
                tls.write_all(&[answer]).await?;
                tls.flush().await
            };
            // The peer learns the reason, or finds out by itself when the connection ends.
            let _ = timeout(FAREWELL, farewell).await;
            linger(tls).await;
            reason
        }
        Err(reason) => {
            tls.io().resetter().arm();
            reason
        }
    }
}

async fn dial(sidecar: &Sidecar, to: OrigDst, record: &Record) -> Result<Socket, Reason> {
    record.note(|details| details.dialled = Some(to.address()));
    let application = dial_own(to.address(), sidecar.settings.connect_timeout, &sidecar.transport).await?;
    // Until its bytes flow, nothing that happens to us is an end for the application.
    application.resetter().arm();
    Ok(application)
}

async fn copy(sidecar: &Sidecar, application: Socket, wire: Stream, record: &Record) -> Reason {
    let counters = sidecar.metrics.bytes(Direction::Inbound);
    relay(Stream::Plain(application), wire, BytesMut::new(), record.bytes(), &counters, &sidecar.abort).await
}

fn reset(socket: &Socket, reason: Reason) -> Reason {
    socket.resetter().arm();
    reason
}
