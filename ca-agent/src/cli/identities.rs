use std::time::SystemTime;

use kith_identity::Serial;
use kith_proto::status::{GetIdentityRequest, Holder, Identity, ListIdentitiesRequest, get_identity_request::Key};
use kith_runtime::exit::Failure;
use serde::Serialize;

use super::{
    Common,
    client::refused,
    show::{self, Output, or_dash},
};

/// Identities.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists every holder's newest live SVID
    List {
        /// Only SPIFFE IDs that begin so, whole path segments, such as spiffe://example.org/ns/shop
        #[arg(long, value_name = "PREFIX")]
        prefix: Option<String>,
        /// Expired SVIDs too
        #[arg(long)]
        expired: bool,
        /// Every SVID that was issued, not only each holder's newest
        #[arg(long)]
        superseded: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Shows one SVID by its serial number, or all live holders of a SPIFFE ID
    Show {
        /// A serial number or a SPIFFE ID
        key: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Serialize)]
struct Shown {
    spiffe_id: String,
    serial: String,
    issuer: String,
    not_before: Option<String>,
    not_after: Option<String>,
    key_type: String,
    attestation: String,
    last_rotation: Option<String>,
    version: String,
    host: String,
    pod_name: String,
    pod_uid: String,
    node_name: String,
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List { prefix, expired, superseded, common } => {
            let request = ListIdentitiesRequest {
                page_size: 1000,
                spiffe_id_prefix: prefix,
                include_expired: expired,
                include_superseded: superseded,
                ..Default::default()
            };
            let found = all_pages(request, &common).await?;
            print(found, common.output)
        }
        Command::Show { key, common } => {
            let key = match key.parse::<Serial>() {
                Ok(_) => Key::Serial(key),
                Err(_) => Key::SpiffeId(key),
            };
            let mut agent = common.target.mesh_status().await?;
            let answer = agent.get_identity(GetIdentityRequest { key: Some(key) }).await.map_err(refused)?;
            let found = answer.into_inner().identities;
            match common.output {
                Output::Json => print(found, Output::Json),
                Output::Table => found.into_iter().try_for_each(|identity| sheet(&shown(identity))),
            }
        }
    }
}

async fn all_pages(mut request: ListIdentitiesRequest, common: &Common) -> Result<Vec<Identity>, Failure> {
    let mut agent = common.target.mesh_status().await?;
    let mut found = Vec::new();
    loop {
        let page = agent.list_identities(request.clone()).await.map_err(refused)?.into_inner();
        found.extend(page.identities);
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        request.page_token = page.next_page_token;
    }
}

fn print(found: Vec<Identity>, output: Output) -> Result<(), Failure> {
    let now = SystemTime::now();
    match output {
        Output::Json => show::json(&found.into_iter().map(shown).collect::<Vec<_>>()),
        Output::Table => {
            let rows: Vec<_> = found
                .into_iter()
                .map(|identity| {
                    let expires = show::from_now(identity.not_after.as_ref(), now);
                    let place = place(identity.holder.as_ref());
                    [
                        identity.spiffe_id,
                        identity.serial,
                        expires,
                        identity.attestation,
                        place,
                        or_dash(&identity.version),
                    ]
                })
                .collect();
            show::table(["SPIFFE ID", "SERIAL", "EXPIRES", "ATTESTATION", "HOLDER", "VERSION"], &rows)
        }
    }
}

fn place(holder: Option<&Holder>) -> String {
    holder.map_or_else(
        || "-".to_owned(),
        |holder| or_dash(if holder.pod_name.is_empty() { &holder.host } else { &holder.pod_name }),
    )
}

fn sheet(identity: &Shown) -> Result<(), Failure> {
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let rows = [
        ("SPIFFE ID", identity.spiffe_id.clone()),
        ("Serial", identity.serial.clone()),
        ("Issuer", identity.issuer.clone()),
        ("Not before", dash(&identity.not_before)),
        ("Not after", dash(&identity.not_after)),
        ("Key", identity.key_type.clone()),
        ("Attestation", identity.attestation.clone()),
        ("Last rotation", dash(&identity.last_rotation)),
        ("Version", or_dash(&identity.version)),
        ("Host", or_dash(&identity.host)),
        ("Pod", or_dash(&identity.pod_name)),
        ("Pod UID", or_dash(&identity.pod_uid)),
        ("Node", or_dash(&identity.node_name)),
    ];
    let lines: String = rows.iter().map(|(name, value)| format!("{name:14} {value}\n")).collect();
    show::text(&format!("{lines}\n"))
}

fn shown(identity: Identity) -> Shown {
    let holder = identity.holder.unwrap_or_default();
    Shown {
        not_before: show::moment(identity.not_before.as_ref()),
        not_after: show::moment(identity.not_after.as_ref()),
        last_rotation: show::moment(identity.last_rotation.as_ref()),
        spiffe_id: identity.spiffe_id,
        serial: identity.serial,
        issuer: identity.issuer,
        key_type: identity.key_type,
        attestation: identity.attestation,
        version: identity.version,
        host: holder.host,
        pod_name: holder.pod_name,
        pod_uid: holder.pod_uid,
        node_name: holder.node_name,
    }
}
