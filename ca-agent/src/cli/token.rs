use std::time::{Duration, SystemTime};

use kith_identity::SpiffeId;
use kith_proto::ca::{CreateJoinTokenRequest, DeleteJoinTokenRequest, JoinToken, ListJoinTokensRequest};
use kith_runtime::exit::Failure;
use serde::Serialize;

use super::{
    Common,
    client::refused,
    show::{self, Output},
};
use crate::config::duration;

/// Join tokens.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Creates a token and prints it: the only time that it is ever shown
    Create {
        /// The SPIFFE ID that the token proves
        #[arg(long, value_name = "ID")]
        spiffe_id: SpiffeId,
        /// How long the token may wait to be used
        #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
        ttl: Duration,
        #[command(flatten)]
        common: Common,
    },
    /// Lists tokens, spent and expired ones included
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Deletes a token
    Delete {
        /// The token's ID, as listed
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Serialize)]
struct Shown {
    id: String,
    spiffe_id: String,
    state: &'static str,
    created_at: Option<String>,
    expires_at: Option<String>,
    spent_at: Option<String>,
    serial: Option<String>,
}

#[derive(Serialize)]
struct Created {
    token: String,
    #[serde(flatten)]
    info: Shown,
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { spiffe_id, ttl, common } => create(&spiffe_id, ttl, &common).await,
        Command::List { common } => list(&common).await,
        Command::Delete { id, common } => delete(id, &common).await,
    }
}

async fn create(spiffe_id: &SpiffeId, ttl: Duration, common: &Common) -> Result<(), Failure> {
    let ttl = prost_types::Duration::try_from(ttl).map_err(Failure::settings)?;
    let request = CreateJoinTokenRequest { spiffe_id: spiffe_id.to_string(), ttl: Some(ttl) };
    let mut agent = common.target.administration().await?;
    let answer = agent.create_join_token(request).await.map_err(refused)?.into_inner();
    match common.output {
        // The token alone, so that a script can take it as it is.
        Output::Table => show::text(&format!("{}\n", answer.token)),
        Output::Json => {
            let info = shown(answer.info.unwrap_or_default(), SystemTime::now());
            show::json(&Created { token: answer.token, info })
        }
    }
}

async fn list(common: &Common) -> Result<(), Failure> {
    let mut agent = common.target.administration().await?;
    let tokens = agent.list_join_tokens(ListJoinTokensRequest {}).await.map_err(refused)?.into_inner().tokens;
    let now = SystemTime::now();
    match common.output {
        Output::Json => show::json(&tokens.into_iter().map(|token| shown(token, now)).collect::<Vec<_>>()),
        Output::Table => {
            let rows: Vec<_> = tokens
                .into_iter()
                .map(|token| {
                    let expires = show::from_now(token.expires_at.as_ref(), now);
                    let token = shown(token, now);
                    let serial = token.serial.unwrap_or_else(|| "-".to_owned());
                    [token.id, token.spiffe_id, token.state.to_owned(), expires, serial]
                })
                .collect();
            show::table(["ID", "SPIFFE ID", "STATE", "EXPIRES", "SERIAL"], &rows)
        }
    }
}

async fn delete(id: String, common: &Common) -> Result<(), Failure> {
    let mut agent = common.target.administration().await?;
    agent.delete_join_token(DeleteJoinTokenRequest { id: id.clone() }).await.map_err(refused)?;
    match common.output {
        Output::Table => show::text(&format!("deleted {id}\n")),
        Output::Json => show::json(&serde_json::json!({ "deleted": id })),
    }
}

fn shown(token: JoinToken, now: SystemTime) -> Shown {
    let expired = token.expires_at.as_ref().is_some_and(|at| kith_proto::system_time(at) <= now);
    let state = match (token.spent_at.is_some(), expired) {
        (true, _) => "spent",
        (false, true) => "expired",
        (false, false) => "waiting",
    };
    Shown {
        state,
        created_at: show::moment(token.created_at.as_ref()),
        expires_at: show::moment(token.expires_at.as_ref()),
        spent_at: show::moment(token.spent_at.as_ref()),
        id: token.id,
        spiffe_id: token.spiffe_id,
        serial: token.serial,
    }
}
