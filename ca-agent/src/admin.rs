//! `kith.ca.v1alpha1.Administration`, for whoever may open the agent's own socket.

pub(crate) mod socket;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use kith_identity::{SpiffeId, TrustDomain};
use kith_proto::{
    ca::{
        Authority, CreateJoinTokenRequest, CreateJoinTokenResponse, DeleteJoinTokenRequest, DeleteJoinTokenResponse,
        GetTrustBundleRequest, GetTrustBundleResponse, JoinToken, ListAuthoritiesRequest, ListAuthoritiesResponse,
        ListJoinTokensRequest, ListJoinTokensResponse,
        administration_server::Administration,
        authority::{Role, State},
    },
    timestamp,
};
use kith_runtime::clock::Clock;
use tonic::{Code, Request, Response, Status};
use tracing::info;

use crate::{
    attest::{check_token_subject, join_token},
    authority::{Authorities, CaFacts},
    bundles::Bundles,
    reply::{invalid, refused, store_failed},
    store::{NewToken, Store, TokenRecord},
    time,
};

/// How long a token waits when nobody says.
const DEFAULT_TTL: Duration = Duration::from_secs(600);
/// A token is for the next start of a workload, not for next year.
const LONGEST_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// The service.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) trust_domain: TrustDomain,
    /// Whether join tokens may name `/ns/*/sa/*`.
    pub(crate) token_workloads: bool,
    pub(crate) authorities: Arc<Authorities>,
    pub(crate) bundles: Bundles,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
}

#[tonic::async_trait]
impl Administration for Service {
    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        let request = request.into_inner();
        let id: SpiffeId = request.spiffe_id.parse().map_err(|error| invalid("spiffe_id_invalid", error))?;
        check_token_subject(&id, &self.trust_domain, self.token_workloads)
            .map_err(|error| refused(Code::FailedPrecondition, error.as_str(), error))?;
        let ttl = ttl(request.ttl.as_ref())?;
        let made = join_token::generate(&self.authorities.snapshot().anchor.spki_sha256)
            .ok_or_else(|| Status::internal("the system gives no random numbers"))?;
        let now = self.clock.now();
        let token = NewToken { id: made.id, hash: made.hash, spiffe_id: id, created_at: now, expires_at: now + ttl };
        self.store.add_token(&token).await.map_err(store_failed)?;
        info!(id = token.id, spiffe_id = %token.spiffe_id, expires_at = %time::text(token.expires_at), "Created a join token");
        let NewToken { id, spiffe_id, created_at, expires_at, .. } = token;
        let info = shown(TokenRecord { id, spiffe_id, created_at, expires_at, spent: None });
        Ok(Response::new(CreateJoinTokenResponse { token: made.text.to_string(), info: Some(info) }))
    }

    async fn list_join_tokens(
        &self,
        _: Request<ListJoinTokensRequest>,
    ) -> Result<Response<ListJoinTokensResponse>, Status> {
        let tokens = self.store.tokens().await.map_err(store_failed)?;
        Ok(Response::new(ListJoinTokensResponse { tokens: tokens.into_iter().map(shown).collect() }))
    }

    async fn delete_join_token(
        &self,
        request: Request<DeleteJoinTokenRequest>,
    ) -> Result<Response<DeleteJoinTokenResponse>, Status> {
        let id = request.into_inner().id;
        if !self.store.delete_token(&id).await.map_err(store_failed)? {
            return Err(refused(Code::NotFound, "token_unknown", "there is no join token of this ID"));
        }
        info!(id, "Deleted a join token");
        Ok(Response::new(DeleteJoinTokenResponse {}))
    }

    async fn list_authorities(
        &self,
        _: Request<ListAuthoritiesRequest>,
    ) -> Result<Response<ListAuthoritiesResponse>, Status> {
        let now = self.clock.now();
        let snapshot = self.authorities.snapshot();
        let roots = snapshot.roots.iter().map(|root| authority(root, Role::Root, State::Active));
        let active = authority(&snapshot.active.facts, Role::Issuing, State::Active);
        let old = snapshot.old.iter().filter(|ca| !ca.has_expired(now));
        let old = old.map(|ca| authority(ca, Role::Issuing, State::Old));
        Ok(Response::new(ListAuthoritiesResponse { authorities: roots.chain([active]).chain(old).collect() }))
    }

    async fn get_trust_bundle(
        &self,
        _: Request<GetTrustBundleRequest>,
    ) -> Result<Response<GetTrustBundleResponse>, Status> {
        let trust_bundles = Some(kith_proto::bundles_to_wire(&self.bundles.current()));
        Ok(Response::new(GetTrustBundleResponse { trust_bundles }))
    }
}

fn ttl(asked: Option<&prost_types::Duration>) -> Result<Duration, Status> {
    let Some(asked) = asked else { return Ok(DEFAULT_TTL) };
    let ttl = Duration::try_from(*asked).ok().filter(|ttl| (Duration::from_millis(1)..=LONGEST_TTL).contains(ttl));
    ttl.ok_or_else(|| invalid("ttl_invalid", "a join token lives from 1 ms to 30 days"))
}

fn shown(token: TokenRecord) -> JoinToken {
    JoinToken {
        id: token.id,
        spiffe_id: token.spiffe_id.to_string(),
        created_at: Some(timestamp(token.created_at)),
        expires_at: Some(timestamp(token.expires_at)),
        spent_at: token.spent.as_ref().map(|spent| timestamp(spent.at)),
        serial: token.spent.map(|spent| spent.serial.to_string()),
    }
}

fn authority(ca: &CaFacts, role: Role, state: State) -> Authority {
    let moment = |time: SystemTime| Some(timestamp(time));
    Authority {
        role: role.into(),
        state: state.into(),
        serial: ca.serial.to_string(),
        subject: ca.subject.clone(),
        not_before: moment(ca.not_before),
        not_after: moment(ca.not_after),
        certificate: ca.der.clone(),
        spki_sha256: ca.spki_sha256.clone(),
    }
}
