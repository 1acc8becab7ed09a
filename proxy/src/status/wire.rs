use kith_proto::{
    status::{Connection, Holder, Identity, connection},
    timestamp,
};

use crate::{
    identity::{IdentityState, Instance},
    outcome::{ConnectionView, Direction},
};

/// What is said of the identity; nothing before the first SVID.
pub(super) fn identity(state: &IdentityState) -> Option<Identity> {
    let svid = state.svid.as_ref()?;
    let failing = state.failing.as_ref();
    Some(Identity {
        spiffe_id: svid.id.to_string(),
        holder: Some(holder(&state.instance)),
        version: state.version.to_owned(),
        serial: svid.serial.to_string(),
        issuer: svid.issuer.clone(),
        not_before: Some(timestamp(svid.not_before)),
        not_after: Some(timestamp(svid.not_after)),
        key_type: svid.key_type.to_owned(),
        attestation: svid.attestation.as_str().to_owned(),
        last_rotation: state.last_rotation.map(timestamp),
        next_rotation: state.next_rotation.map(timestamp),
        rotations: Some(state.rotations),
        last_error: failing.map(|failing| failing.error.clone()),
        failing_since: failing.map(|failing| timestamp(failing.since)),
    })
}

fn holder(instance: &Instance) -> Holder {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    Holder {
        host: text(&instance.host),
        pod_name: text(&instance.pod_name),
        pod_uid: text(&instance.pod_uid),
        node_name: text(&instance.node_name),
    }
}

/// What is said of a connection.
pub(super) fn connection(view: &ConnectionView) -> Connection {
    let details = &view.details;
    let tls = details.tls.as_ref();
    let address = |address: Option<std::net::SocketAddr>| address.map(|a| a.to_string()).unwrap_or_default();
    // While it is open, a reason that was noted is not the last word.
    let reason = details.reason.as_ref().filter(|_| view.closed.is_some());
    Connection {
        direction: direction(view.direction).into(),
        local_spiffe_id: tls.map(|tls| tls.local_id.to_string()).unwrap_or_default(),
        peer_spiffe_id: tls.map(|tls| tls.peer_id.to_string()).unwrap_or_default(),
        original_destination: address(details.original_destination),
        client_address: view.client.to_string(),
        dialled_address: address(details.dialled),
        tls_version: tls.map(|tls| tls.parameters.version.to_owned()).unwrap_or_default(),
        cipher_suite: tls.map(|tls| tls.parameters.cipher_suite.to_owned()).unwrap_or_default(),
        key_exchange_group: tls.map(|tls| tls.parameters.key_exchange_group.clone()).unwrap_or_default(),
        resumed: tls.is_some_and(|tls| tls.parameters.resumed),
        rule: details.rule.as_deref().unwrap_or_default().to_owned(),
        plaintext_reason: details.plaintext_reason.unwrap_or_default().to_owned(),
        opened: Some(timestamp(view.opened)),
        closed: view.closed.map(timestamp),
        bytes_sent: view.sent,
        bytes_received: view.received,
        outcome: reason.map(|reason| reason.outcome.as_str().to_owned()).unwrap_or_default(),
        reason: reason.map(|reason| reason.label.to_owned()).unwrap_or_default(),
    }
}

fn direction(direction: Direction) -> connection::Direction {
    match direction {
        Direction::Inbound => connection::Direction::Inbound,
        Direction::Outbound => connection::Direction::Outbound,
    }
}
