//! `kith.ca.v1alpha1.CertificateAuthority`.
//!
//! Every error carries its stable reason twice: at the beginning of the message, before a colon, and in the metadata
//! under `kith-reason`. INVALID_ARGUMENT: the request is wrong and stays so. PERMISSION_DENIED: the attestation proves
//! nothing, or nothing any more. RESOURCE_EXHAUSTED and UNAVAILABLE: nothing was issued, try again.

use std::sync::Arc;

use kith_proto::ca::{
    Instance, IssueCertificateRequest, IssueCertificateResponse, WatchTrustBundleRequest, WatchTrustBundleResponse,
    certificate_authority_server::CertificateAuthority, issue_certificate_request,
};
use kith_runtime::{clock::Clock, drain::DrainWatch};
use kith_tls::grpc::ConnectionInfo;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use zeroize::Zeroizing;

use super::{
    bundle_stream::{self, Watcher},
    issuer::{Ask, Issuance, Proof},
};
use crate::{
    attest::{AttestError, svid},
    authority::Authorities,
    bundles::Bundles,
    metrics::Metrics,
    reply::refused,
    store::{Holder, Store},
};

/// Which port a request came through: each accepts attestations of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// Server-authenticated TLS: whoever proves themselves anew.
    Attest,
    /// Mutual TLS: whoever has an SVID.
    Mutual,
}

/// The service of one port.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) port: Port,
    pub(crate) issuance: Arc<Issuance>,
    pub(crate) authorities: Arc<Authorities>,
    pub(crate) bundles: Bundles,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) drain: DrainWatch,
}

#[tonic::async_trait]
impl CertificateAuthority for Service {
    async fn issue_certificate(
        &self,
        request: Request<IssueCertificateRequest>,
    ) -> Result<Response<IssueCertificateResponse>, Status> {
        let connection = request.extensions().get::<ConnectionInfo>().cloned();
        let message = request.into_inner();
        let ask = Ask {
            csr: message.csr,
            proof: self.proof(message.attestation, connection.as_ref()),
            holder: holder(message.instance.unwrap_or_default(), message.version),
            source: connection.and_then(|connection| connection.remote_address).map(|address| address.ip()),
        };
        let issuance = Arc::clone(&self.issuance);
        let guard = self.drain.guard();
        // A task of its own: a caller that hangs up in the middle must not leave half a story behind.
        let task = tokio::spawn(async move {
            let _guard = guard;
            issuance.issue(ask).await
        });
        let certificate_chain = task.await.map_err(|_| Status::internal("the request was not finished"))??;
        let trust_bundles = Some(kith_proto::bundles_to_wire(&self.bundles.current()));
        Ok(Response::new(IssueCertificateResponse { certificate_chain, trust_bundles }))
    }

    type WatchTrustBundleStream = ReceiverStream<Result<WatchTrustBundleResponse, Status>>;

    async fn watch_trust_bundle(
        &self,
        request: Request<Streaming<WatchTrustBundleRequest>>,
    ) -> Result<Response<Self::WatchTrustBundleStream>, Status> {
        let peer = match self.port {
            Port::Attest => None,
            Port::Mutual => {
                let caller = self.caller(request.extensions().get::<ConnectionInfo>());
                Some(caller.map_err(|error| refused(Code::PermissionDenied, error.as_str(), error))?)
            }
        };
        let watcher = Watcher {
            peer,
            bundles: self.bundles.clone(),
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            drain: self.drain.clone(),
        };
        let stream = bundle_stream::begin(watcher, request.into_inner(), &self.metrics)?;
        Ok(Response::new(stream))
    }
}

impl Service {
    fn proof(
        &self,
        attestation: Option<issue_certificate_request::Attestation>,
        connection: Option<&ConnectionInfo>,
    ) -> Result<Proof, AttestError> {
        use issue_certificate_request::Attestation;
        match (attestation.ok_or(AttestError::Missing)?, self.port) {
            (Attestation::JoinToken(proof), Port::Attest) => Ok(Proof::JoinToken(Zeroizing::new(proof.token))),
            (Attestation::CurrentSvid(_), Port::Mutual) => self.caller(connection).map(Proof::CurrentSvid),
            (Attestation::JoinToken(_), Port::Mutual) | (Attestation::CurrentSvid(_), Port::Attest) => {
                Err(AttestError::NotHere)
            }
        }
    }

    fn caller(&self, connection: Option<&ConnectionInfo>) -> Result<Arc<kith_identity::Leaf>, AttestError> {
        svid::caller(connection, self.authorities.snapshot().trust(), self.clock.now())
    }
}

fn holder(instance: Instance, version: String) -> Holder {
    let Instance { host, pod_name, pod_uid, node_name } = instance;
    Holder { host, pod_name, pod_uid, node_name, version }
}
