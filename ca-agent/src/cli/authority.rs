use std::time::SystemTime;

use kith_proto::ca::{
    Authority, ListAuthoritiesRequest,
    authority::{Role, State},
};
use kith_runtime::exit::Failure;
use serde::Serialize;

use super::{
    Common,
    client::refused,
    show::{self, Output},
};
use crate::pem;

/// Authorities.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists the root and the issuing authorities
    List {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Serialize)]
struct Shown {
    role: &'static str,
    state: &'static str,
    serial: String,
    subject: String,
    not_before: Option<String>,
    not_after: Option<String>,
    spki_sha256: String,
    certificate: String,
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    let Command::List { common } = command;
    let mut agent = common.target.administration().await?;
    let answer = agent.list_authorities(ListAuthoritiesRequest {}).await.map_err(refused)?.into_inner();
    let now = SystemTime::now();
    match common.output {
        Output::Json => show::json(&answer.authorities.into_iter().map(shown).collect::<Vec<_>>()),
        Output::Table => {
            let rows: Vec<_> = answer
                .authorities
                .into_iter()
                .map(|authority| {
                    let expires = show::from_now(authority.not_after.as_ref(), now);
                    let authority = shown(authority);
                    [
                        authority.role.to_owned(),
                        authority.state.to_owned(),
                        authority.serial,
                        expires,
                        authority.subject,
                    ]
                })
                .collect();
            show::table(["ROLE", "STATE", "SERIAL", "EXPIRES", "SUBJECT"], &rows)
        }
    }
}

fn shown(authority: Authority) -> Shown {
    Shown {
        role: match authority.role() {
            Role::Root => "root",
            Role::Issuing => "issuing",
            Role::Unspecified => "unknown",
        },
        state: match authority.state() {
            State::Active => "active",
            State::Old => "old",
            State::Unspecified => "unknown",
        },
        not_before: show::moment(authority.not_before.as_ref()),
        not_after: show::moment(authority.not_after.as_ref()),
        certificate: pem::certificate(&authority.certificate),
        serial: authority.serial,
        subject: authority.subject,
        spki_sha256: authority.spki_sha256,
    }
}
