use std::net::SocketAddr;

use crate::{Pod, PodCommand, pki::Files};

/// `openssl s_client` to that address, with this certificate if one is given. It trusts what the bundle holds,
/// checks no name (SPIFFE IDs are not its trade), and says what it has seen, alerts and serials included.
///
/// It ends when its input does; give it a pipe to keep it.
pub fn s_client(pod: &Pod, to: SocketAddr, files: Option<&Files>) -> PodCommand {
    let words = ["s_client", "-connect", &to.to_string(), "-state", "-showcerts", "-noservername"];
    with_certificate(pod.command("openssl").args(words), files)
}

/// `openssl s_server` on that address of the pod, demanding a client certificate and printing what it receives.
pub fn s_server(pod: &Pod, on: SocketAddr, files: &Files) -> PodCommand {
    // It listens on all addresses of a family only when told nothing else, so it is told.
    let words = ["s_server", "-accept", &on.to_string(), "-state", "-Verify", "3", "-verify_return_error"];
    with_certificate(pod.command("openssl").args(words).stdin_piped(), Some(files))
}

fn with_certificate(command: PodCommand, files: Option<&Files>) -> PodCommand {
    let Some(files) = files else { return command };
    command
        .arg("-cert")
        .arg(&files.chain)
        .arg("-cert_chain")
        .arg(&files.chain)
        .arg("-key")
        .arg(&files.key)
        .arg("-CAfile")
        .arg(&files.bundle)
}
