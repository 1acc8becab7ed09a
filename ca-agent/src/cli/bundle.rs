use kith_proto::ca::GetTrustBundleRequest;
use kith_runtime::exit::Failure;
use serde::Serialize;

use super::{
    Common,
    client::refused,
    show::{self, Output},
};
use crate::pem;

/// Trust bundles.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Prints the trust bundle as PEM: what a workload needs to trust this agent at first contact
    Show {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Serialize)]
struct Shown {
    sequence: u64,
    bundles: Vec<ShownBundle>,
}

#[derive(Serialize)]
struct ShownBundle {
    trust_domain: String,
    x509_authorities: Vec<String>,
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    let Command::Show { common } = command;
    let mut agent = common.target.administration().await?;
    let answer = agent.get_trust_bundle(GetTrustBundleRequest {}).await.map_err(refused)?.into_inner();
    let set = answer.trust_bundles.unwrap_or_default();
    let bundles = set.bundles.into_iter().map(|bundle| ShownBundle {
        trust_domain: bundle.trust_domain,
        x509_authorities: bundle.x509_authorities.iter().map(|der| pem::certificate(der)).collect(),
    });
    let shown = Shown { sequence: set.sequence, bundles: bundles.collect() };
    match common.output {
        Output::Json => show::json(&shown),
        Output::Table => {
            let pem: String = shown.bundles.iter().flat_map(|bundle| bundle.x509_authorities.iter()).cloned().collect();
            show::text(&pem)
        }
    }
}
