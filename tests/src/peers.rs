//! Real programs for a pod to run.

mod nginx;
mod openssl;
mod postgres;

pub use self::{
    nginx::{Nginx, sha256},
    openssl::{s_client, s_server},
    postgres::{Postgres, client as postgres_client},
};
use crate::{Pod, PodCommand};

/// A user for applications: anyone but root and the sidecar.
pub const APPLICATION_UID: u32 = 65534;

/// curl as an application, silent but for errors, with no proxy and at most a minute's patience.
pub fn curl(pod: &Pod, url: &str) -> PodCommand {
    let quiet = ["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "60"];
    pod.command("curl").args(quiet).arg(url).uid(APPLICATION_UID)
}
