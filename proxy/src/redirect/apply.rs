use std::{
    io::{self, Write},
    process::{Command, Output, Stdio},
};

use nftables::schema::Nftables;

use super::{Plan, TABLE, kernel};

/// Why the pod is not captured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The program is missing.
    #[error("`nft` was not found; install nftables, or use an image that has it")]
    NftMissing,
    /// The program could not be run.
    #[error("`nft` could not be run: {0}")]
    NftNotRun(#[source] io::Error),
    /// The rights are missing.
    #[error("setting up capture needs CAP_NET_ADMIN in the pod's network namespace; nft said: {0}")]
    NotPermitted(String),
    /// The kernel can't.
    #[error(
        "the kernel lacks what capture needs; it must be 5.2 or newer with nf_tables, nft_redir, nft_fib_inet, nft_ct \
         and nf_nat (on the node: modprobe nf_tables nft_redir nft_fib_inet nft_ct); nft said: {0}"
    )]
    Unsupported(String),
    /// Any other refusal.
    #[error("nft refused the rules: {0}")]
    Refused(String),
    /// The list of rules could not be understood.
    #[error("nft's list of the kernel's rules could not be read: {0}")]
    Unreadable(String),
    /// There are other rules than planned.
    #[error("the kernel's rules are not those planned, so nothing may start: {0}; is another program changing them?")]
    Mismatch(String),
}

impl ApplyError {
    /// A stable name, for logs and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NftMissing => "nft_missing",
            Self::NftNotRun(_) => "nft_not_run",
            Self::NotPermitted(_) => "not_permitted",
            Self::Unsupported(_) => "unsupported",
            Self::Refused(_) => "refused",
            Self::Unreadable(_) => "unreadable",
            Self::Mismatch(_) => "mismatch",
        }
    }
}

/// Puts the rules in place of those of an earlier time, all at once, and compares them with the kernel's.
///
/// # Errors
/// When that fails or the kernel has other rules afterwards: then the pod must not start.
pub fn apply(plan: &Plan) -> Result<(), ApplyError> {
    load(&kernel::replacing(plan))?;
    verify(plan)
}

/// Removes the rules, if there are any.
///
/// # Errors
/// When the kernel does not let us.
pub fn undo() -> Result<(), ApplyError> {
    load(&kernel::removing())
}

/// Compares the kernel's rules, of both families, with the plan.
///
/// # Errors
/// When they are not the same, or can't be read.
pub fn verify(plan: &Plan) -> Result<(), ApplyError> {
    let output = nft(&["-j", "list", "table", "inet", TABLE], b"")?;
    if !output.status.success() {
        return Err(match refusal(&output.stderr) {
            ApplyError::Unsupported(_) => ApplyError::Mismatch(format!("there is no table {TABLE}")),
            other => other,
        });
    }
    let listed: Nftables<'static> =
        serde_json::from_slice(&output.stdout).map_err(|error| ApplyError::Unreadable(error.to_string()))?;
    kernel::difference(plan, &listed).map_or(Ok(()), |difference| Err(ApplyError::Mismatch(difference)))
}

fn load(commands: &Nftables<'_>) -> Result<(), ApplyError> {
    let commands = serde_json::to_vec(commands).map_err(|error| ApplyError::Refused(error.to_string()))?;
    let output = nft(&["-j", "-f", "-"], &commands)?;
    if output.status.success() { Ok(()) } else { Err(refusal(&output.stderr)) }
}

/// Runs `nft` ourselves: the crate's own runner lets go of what it says on standard error.
fn nft(args: &[&str], input: &[u8]) -> Result<Output, ApplyError> {
    let not_run = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ApplyError::NftMissing,
        _ => ApplyError::NftNotRun(error),
    };
    let mut command = Command::new("nft");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(not_run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // When it ends without reading, its status and words tell more than the broken pipe.
        let _ = stdin.write_all(input);
    }
    child.wait_with_output().map_err(not_run)
}

/// Sorts what `nft` says by what the operator can do about it.
fn refusal(stderr: &[u8]) -> ApplyError {
    let text = String::from_utf8_lossy(stderr);
    // What follows the first line quotes our commands.
    let said = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned();
    let contains = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if contains(&["Operation not permitted", "you must be root"]) {
        ApplyError::NotPermitted(said)
    } else if contains(&["not supported", "No such file or directory", "Unable to initialize Netlink"]) {
        ApplyError::Unsupported(said)
    } else {
        ApplyError::Refused(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nft_says_tells_the_operator_what_to_do() {
        for (stderr, label, advice) in [
            (
                "Operation not permitted (you must be root)\nnetlink: Error: cache",
                "not_permitted",
                "needs CAP_NET_ADMIN",
            ),
            (
                "internal:0:0-0: Error: Could not process rule: Operation not permitted\n",
                "not_permitted",
                "CAP_NET_ADMIN",
            ),
            ("internal:0:0-0: Error: Could not process rule: Operation not supported", "unsupported", "5.2 or newer"),
            ("internal:0:0-0: Error: Could not process rule: No such file or directory", "unsupported", "modprobe"),
            ("Unable to initialize Netlink socket: Protocol not supported", "unsupported", "modprobe nf_tables"),
            (
                "\ninternal:0:0-0: Error: Could not process rule: Device or resource busy\n",
                "refused",
                "Device or resource",
            ),
        ] {
            let error = refusal(stderr.as_bytes());
            assert_eq!(error.as_str(), label, "{stderr}");
            assert!(error.to_string().contains(advice), "{error}");
        }
    }
}
