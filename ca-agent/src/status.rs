//! `kith.status.v1alpha1.MeshStatus`: who holds which SVID.

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kith_identity::{IdPattern, Serial, SpiffeId};
use kith_proto::{
    status::{
        GetIdentityRequest, GetIdentityResponse, Identity, ListIdentitiesRequest, ListIdentitiesResponse,
        get_identity_request::Key, mesh_status_server::MeshStatus,
    },
    timestamp,
};
use kith_runtime::clock::Clock;
use kith_tls::grpc::ConnectionInfo;
use tonic::{Code, Extensions, Request, Response, Status};

use crate::{
    attest::svid,
    authority::Authorities,
    reply::{invalid, refused, store_failed},
    store::{CertificateRecord, Query, Store},
};

const DEFAULT_PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1000;

/// Who may ask.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// Whoever can reach it: the socket's mode decides.
    Everybody,
    /// Proved identities that one of these patterns covers.
    Admins(Vec<IdPattern>),
}

/// The service of one listener.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) access: Access,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) authorities: Arc<Authorities>,
    pub(crate) clock: Clock,
}

#[tonic::async_trait]
impl MeshStatus for Service {
    async fn list_identities(
        &self,
        request: Request<ListIdentitiesRequest>,
    ) -> Result<Response<ListIdentitiesResponse>, Status> {
        self.admit(request.extensions())?;
        let (query, page) = query(request.into_inner(), self.clock.now())?;
        let mut found = self.store.certificates(&query).await.map_err(store_failed)?;
        // One more than a page was asked for, to know whether there is another.
        let more = found.len() > page;
        found.truncate(page);
        let next_page_token = found.last().filter(|_| more).map(page_token).unwrap_or_default();
        let identities = found.into_iter().map(identity).collect();
        Ok(Response::new(ListIdentitiesResponse { identities, next_page_token }))
    }

    async fn get_identity(
        &self,
        request: Request<GetIdentityRequest>,
    ) -> Result<Response<GetIdentityResponse>, Status> {
        self.admit(request.extensions())?;
        let found = match request.into_inner().key {
            None => return Err(invalid("key_missing", "expected a serial number or a SPIFFE ID")),
            Some(Key::Serial(serial)) => {
                let serial: Serial = serial.parse().map_err(|error| invalid("serial_invalid", error))?;
                self.store.certificate(&serial).await.map_err(store_failed)?.into_iter().collect()
            }
            Some(Key::SpiffeId(id)) => self.live_holders(&id).await?,
        };
        if found.is_empty() {
            return Err(refused(Code::NotFound, "identity_unknown", "there is no such identity"));
        }
        Ok(Response::new(GetIdentityResponse { identities: found.into_iter().map(identity).collect() }))
    }
}

impl Service {
    /// On the mTLS port a workload learns nothing of others.
    fn admit(&self, extensions: &Extensions) -> Result<(), Status> {
        let Access::Admins(patterns) = &self.access else { return Ok(()) };
        let snapshot = self.authorities.snapshot();
        let caller = svid::caller(extensions.get::<ConnectionInfo>(), snapshot.trust(), self.clock.now())
            .map_err(|error| refused(Code::PermissionDenied, error.as_str(), error))?;
        if patterns.iter().any(|pattern| pattern.matches(&caller.id)) {
            return Ok(());
        }
        Err(refused(Code::PermissionDenied, "not_admin", format!("{} is not one of the admin identities", caller.id)))
    }

    async fn live_holders(&self, id: &str) -> Result<Vec<CertificateRecord>, Status> {
        let id: SpiffeId = id.parse().map_err(|error| invalid("spiffe_id_invalid", error))?;
        let query = Query {
            now: self.clock.now(),
            spiffe_id: Some(id),
            prefix: None,
            include_expired: false,
            include_superseded: false,
            after: None,
            limit: LARGEST_PAGE,
        };
        self.store.certificates(&query).await.map_err(store_failed)
    }
}

fn query(request: ListIdentitiesRequest, now: SystemTime) -> Result<(Query, usize), Status> {
    let page = match request.page_size {
        0 => DEFAULT_PAGE,
        size => size.min(LARGEST_PAGE),
    };
    let spiffe_id = request.spiffe_id.map(|id| id.parse()).transpose();
    let query = Query {
        now,
        spiffe_id: spiffe_id.map_err(|error| invalid("spiffe_id_invalid", error))?,
        prefix: request.spiffe_id_prefix.map(prefix).transpose()?,
        include_expired: request.include_expired,
        include_superseded: request.include_superseded,
        after: after(&request.page_token)?,
        limit: page + 1,
    };
    Ok((query, usize::try_from(page).unwrap_or(usize::MAX)))
}

fn prefix(text: String) -> Result<String, Status> {
    if !text.starts_with("spiffe://") {
        return Err(invalid("prefix_invalid", "a prefix begins with spiffe:// and ends with a whole path segment"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn page_token(last: &CertificateRecord) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {}", last.spiffe_id, last.serial))
}

fn after(token: &str) -> Result<Option<(String, String)>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match bytes.as_deref().and_then(|text| text.split_once(' ')) {
        Some((id, serial)) => Ok(Some((id.to_owned(), serial.to_owned()))),
        None => Err(invalid("page_token_invalid", "expected the next_page_token of an earlier answer")),
    }
}

fn identity(record: CertificateRecord) -> Identity {
    let instance = record.instance;
    Identity {
        spiffe_id: record.spiffe_id.to_string(),
        holder: Some(kith_proto::status::Holder {
            host: instance.host,
            pod_name: instance.pod_name,
            pod_uid: instance.pod_uid,
            node_name: instance.node_name,
        }),
        version: instance.version,
        serial: record.serial.to_string(),
        issuer: record.issuer,
        not_before: Some(timestamp(record.not_before)),
        not_after: Some(timestamp(record.not_after)),
        // No other kind is ever certified.
        key_type: "ECDSA P-256".to_owned(),
        attestation: record.attestation.as_str().to_owned(),
        last_rotation: record.previous.map(|_| timestamp(record.issued_at)),
        next_rotation: None,
        rotations: None,
        last_error: None,
        failing_since: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_tokens_survive_their_journey_and_nothing_else_is_one() {
        let token = URL_SAFE_NO_PAD.encode("spiffe://td/a 0a1b");
        assert_eq!(after(&token).unwrap(), Some(("spiffe://td/a".into(), "0a1b".into())));
        assert_eq!(after("").unwrap(), None);
        for wrong in ["x", "%%%", &URL_SAFE_NO_PAD.encode("nothing")] {
            assert_eq!(after(wrong).unwrap_err().code(), Code::InvalidArgument, "{wrong}");
        }
    }

    #[test]
    fn pages_have_a_size() {
        let now = SystemTime::UNIX_EPOCH;
        for (asked, expected) in [(0, 100), (1, 1), (1000, 1000), (5000, 1000)] {
            let request = ListIdentitiesRequest { page_size: asked, ..Default::default() };
            let (query, page) = query(request, now).unwrap();
            assert_eq!((page, query.limit as usize), (expected, expected + 1));
        }
    }

    #[test]
    fn a_prefix_is_an_id_cut_off_at_a_segment() {
        assert_eq!(prefix("spiffe://td/ns/shop/".into()).unwrap(), "spiffe://td/ns/shop");
        assert_eq!(prefix("shop".into()).unwrap_err().code(), Code::InvalidArgument);
    }
}
