//! The way to a running agent.

use std::{io, path::PathBuf};

use hyper_util::rt::TokioIo;
use kith_proto::{ca::administration_client::AdministrationClient, status::mesh_status_client::MeshStatusClient};
use kith_runtime::exit::Failure;
use tokio::net::UnixStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::config::{ADMIN_SOCKET, STATE_DIR};

/// Which agent.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Target {
    /// The running agent's socket [default: STATE-DIR/admin.sock]
    #[arg(long, env = "KITH_ADMIN_SOCKET", value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    /// The running agent's state directory, where its socket is by default
    #[arg(long, env = "KITH_STATE_DIR", value_name = "DIR", default_value = STATE_DIR)]
    state_dir: PathBuf,
}

impl Target {
    pub(super) async fn administration(&self) -> Result<AdministrationClient<Channel>, Failure> {
        Ok(AdministrationClient::new(self.connect().await?))
    }

    pub(super) async fn mesh_status(&self) -> Result<MeshStatusClient<Channel>, Failure> {
        Ok(MeshStatusClient::new(self.connect().await?))
    }

    async fn connect(&self) -> Result<Channel, Failure> {
        let path = self.admin_socket.clone().unwrap_or_else(|| self.state_dir.join(ADMIN_SOCKET));
        // Once by hand, because the transport hides the reason.
        let first = UnixStream::connect(&path).await.map_err(|error| not_there(&path, &error))?;
        let mut first = Some(first);
        let again = path.clone();
        Endpoint::from_static("http://admin.sock")
            .connect_with_connector(tower::service_fn(move |_| {
                let (ready, path) = (first.take(), again.clone());
                async move {
                    let stream = match ready {
                        Some(stream) => stream,
                        None => UnixStream::connect(path).await?,
                    };
                    Ok::<_, io::Error>(TokioIo::new(stream))
                }
            }))
            .await
            .map_err(|error| Failure::runtime(format!("the agent at {} does not answer: {error}", path.display())))
    }
}

fn not_there(path: &std::path::Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::runtime(match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
            "no agent is running at {path}; start one with: kith-ca-agent serve --trust-domain <NAME>, \
             or name its socket with --admin-socket or --state-dir"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("{path} is for the user alone that runs the agent; run this as that user or as root")
        }
        _ => format!("{path}: {error}"),
    })
}

/// What the agent refused, in its own words.
pub(super) fn refused(status: Status) -> Failure {
    Failure::runtime(status.message().to_owned())
}
