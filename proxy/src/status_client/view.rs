use std::time::SystemTime;

use kith_proto::{
    status::{Connection, Holder, Identity, connection::Direction},
    system_time,
};
use serde::{Serialize, Serializer};

use crate::identity::rfc3339;

/// An identity as it is printed: field names are the contract's, times RFC 3339.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct IdentityView {
    pub(super) spiffe_id: String,
    pub(super) holder: HolderView,
    pub(super) version: String,
    pub(super) serial: String,
    pub(super) issuer: String,
    pub(super) not_before: Option<Moment>,
    pub(super) not_after: Option<Moment>,
    pub(super) key_type: String,
    pub(super) attestation: String,
    pub(super) last_rotation: Option<Moment>,
    pub(super) next_rotation: Option<Moment>,
    pub(super) rotations: Option<u64>,
    pub(super) last_error: Option<String>,
    pub(super) failing_since: Option<Moment>,
}

/// Where it is held.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct HolderView {
    pub(super) host: String,
    pub(super) pod_name: String,
    pub(super) pod_uid: String,
    pub(super) node_name: String,
}

/// A connection as it is printed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ConnectionView {
    pub(super) direction: &'static str,
    pub(super) local_spiffe_id: String,
    pub(super) peer_spiffe_id: String,
    pub(super) original_destination: String,
    pub(super) client_address: String,
    pub(super) dialled_address: String,
    pub(super) tls_version: String,
    pub(super) cipher_suite: String,
    pub(super) key_exchange_group: String,
    pub(super) resumed: bool,
    pub(super) rule: String,
    pub(super) plaintext_reason: String,
    pub(super) opened: Option<Moment>,
    pub(super) closed: Option<Moment>,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) outcome: String,
    pub(super) reason: String,
}

/// A time that is printed as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moment(pub(super) SystemTime);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0))
    }
}

/// Reads one of the contract's times.
macro_rules! moment {
    ($time:expr) => {
        $time.as_ref().map(|time| Moment(system_time(time)))
    };
}

impl From<Identity> for IdentityView {
    fn from(identity: Identity) -> Self {
        Self {
            holder: identity.holder.map(HolderView::from).unwrap_or_default(),
            not_before: moment!(identity.not_before),
            not_after: moment!(identity.not_after),
            last_rotation: moment!(identity.last_rotation),
            next_rotation: moment!(identity.next_rotation),
            failing_since: moment!(identity.failing_since),
            spiffe_id: identity.spiffe_id,
            version: identity.version,
            serial: identity.serial,
            issuer: identity.issuer,
            key_type: identity.key_type,
            attestation: identity.attestation,
            rotations: identity.rotations,
            last_error: identity.last_error,
        }
    }
}

impl From<Holder> for HolderView {
    fn from(holder: Holder) -> Self {
        let Holder { host, pod_name, pod_uid, node_name } = holder;
        Self { host, pod_name, pod_uid, node_name }
    }
}

impl From<Connection> for ConnectionView {
    fn from(connection: Connection) -> Self {
        Self {
            direction: match connection.direction() {
                Direction::Inbound => "inbound",
                Direction::Outbound => "outbound",
                Direction::Unspecified => "unspecified",
            },
            opened: moment!(connection.opened),
            closed: moment!(connection.closed),
            local_spiffe_id: connection.local_spiffe_id,
            peer_spiffe_id: connection.peer_spiffe_id,
            original_destination: connection.original_destination,
            client_address: connection.client_address,
            dialled_address: connection.dialled_address,
            tls_version: connection.tls_version,
            cipher_suite: connection.cipher_suite,
            key_exchange_group: connection.key_exchange_group,
            resumed: connection.resumed,
            rule: connection.rule,
            plaintext_reason: connection.plaintext_reason,
            bytes_sent: connection.bytes_sent,
            bytes_received: connection.bytes_received,
            outcome: connection.outcome,
            reason: connection.reason,
        }
    }
}
