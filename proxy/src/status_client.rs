//! `kith-proxy status`: asks a running sidecar who it is and whom it talks to, for people or as JSON.

mod table;
mod view;

use std::{
    io::{self, Write as _},
    time::{Duration, SystemTime},
};

use kith_proto::status::{GetOwnIdentityRequest, ListConnectionsRequest, identity_status_client::IdentityStatusClient};
use kith_runtime::exit::Failure;
use serde::Serialize;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use self::view::{ConnectionView, IdentityView};
use crate::identity::HostPort;

/// A sidecar on this host answers at once or not at all.
const DEADLINE: Duration = Duration::from_secs(5);

/// Asks a running sidecar over gRPC: its identity and its connections.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the sidecar's status service answers in plaintext: an address of its own loopback.
    #[arg(
        long,
        env = "KITH_STATUS_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:15022",
        global = true
    )]
    pub address: HostPort,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value_t, global = true)]
    pub output: Output,
    /// What to ask; everything if nothing is given.
    #[command(subcommand)]
    pub question: Option<Question>,
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// What to ask.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Question {
    /// Who the sidecar is, and until when. Fails while it has no identity.
    Identity,
    /// Whom it talks to.
    Connections {
        /// The last closed ones too.
        #[arg(long)]
        all: bool,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("no sidecar answers at {address}; is kith-proxy running in this network namespace?")]
    Unreachable {
        address: HostPort,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("the sidecar at {address} does not answer: {}", status.message())]
    Refused { address: HostPort, status: Status },
    #[error("the sidecar has no identity: {0}")]
    NoIdentity(String),
}

#[derive(Debug, Serialize)]
struct Everything {
    identity: Option<IdentityView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_identity_because: Option<String>,
    connections: Vec<ConnectionView>,
}

/// Asks and prints.
///
/// # Errors
/// When no sidecar answers, or it has not what was asked for.
pub async fn run(args: Args) -> Result<(), Failure> {
    let text = ask(&args).await.map_err(Failure::runtime)?;
    io::stdout().write_all(text.as_bytes()).map_err(Failure::runtime)
}

async fn ask(args: &Args) -> Result<String, AskError> {
    let mut sidecar = Sidecar::connect(&args.address).await?;
    let now = SystemTime::now();
    let is_json = args.output == Output::Json;
    match args.question {
        Some(Question::Identity) => {
            let identity = sidecar.identity().await?.map_err(AskError::NoIdentity)?;
            Ok(if is_json { json(&identity) } else { table::identity(&identity, now) })
        }
        Some(Question::Connections { all }) => {
            let connections = sidecar.connections(all).await?;
            Ok(if is_json { json(&connections) } else { table::connections(&connections, now) })
        }
        None => {
            let identity = sidecar.identity().await?;
            let connections = sidecar.connections(false).await?;
            Ok(if is_json {
                let no_identity_because = identity.as_ref().err().cloned();
                json(&Everything { identity: identity.ok(), no_identity_because, connections })
            } else {
                let identity = match &identity {
                    Ok(identity) => table::identity(identity, now),
                    Err(reason) => format!("no identity: {reason}\n"),
                };
                format!("{identity}\n{}", table::connections(&connections, now))
            })
        }
    }
}

fn json(answer: &impl Serialize) -> String {
    // Strings and numbers always have a JSON form.
    let mut text = serde_json::to_string_pretty(answer).unwrap_or_default();
    text.push('\n');
    text
}

struct Sidecar {
    client: IdentityStatusClient<Channel>,
    address: HostPort,
}

impl Sidecar {
    async fn connect(address: &HostPort) -> Result<Self, AskError> {
        let unreachable = |source| AskError::Unreachable { address: address.clone(), source };
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unreachable)?;
        let channel = endpoint.connect_timeout(DEADLINE).timeout(DEADLINE).connect().await.map_err(unreachable)?;
        Ok(Self { client: IdentityStatusClient::new(channel), address: address.clone() })
    }

    /// The identity, or why there is none.
    async fn identity(&mut self) -> Result<Result<IdentityView, String>, AskError> {
        match self.client.get_identity(GetOwnIdentityRequest {}).await {
            Ok(answer) => Ok(Ok(answer.into_inner().into())),
            // A connection that broke has the same code, and a cause.
            Err(status) if status.code() == Code::Unavailable && std::error::Error::source(&status).is_none() => {
                Ok(Err(status.message().to_owned()))
            }
            Err(status) => Err(self.refused(status)),
        }
    }

    async fn connections(&mut self, include_closed: bool) -> Result<Vec<ConnectionView>, AskError> {
        match self.client.list_connections(ListConnectionsRequest { include_closed }).await {
            Ok(answer) => Ok(answer.into_inner().connections.into_iter().map(Into::into).collect()),
            Err(status) => Err(self.refused(status)),
        }
    }

    fn refused(&self, status: Status) -> AskError {
        AskError::Refused { address: self.address.clone(), status }
    }
}
