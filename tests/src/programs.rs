//! Where the programs under test are.

use std::{env, path::PathBuf};

/// The sidecar's program.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn kith_proxy() -> PathBuf {
    built("kith-proxy")
}

/// The control plane's program.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn kith_ca_agent() -> PathBuf {
    built("kith-ca-agent")
}

/// grpcurl: where `make test` has put it, else wherever the path has it.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn grpcurl() -> PathBuf {
    find_grpcurl().expect("grpcurl is installed: `.ci/setup test`")
}

/// grpcurl, if it is installed.
#[must_use]
pub fn find_grpcurl() -> Option<PathBuf> {
    let cache = env::var_os("KITH_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/kith")));
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = cache.map(|cache| cache.join("tools/bin")).into_iter().chain(env::split_paths(&path));
    dirs.map(|dir| dir.join("grpcurl")).find(|program| program.is_file())
}

/// A test runs as `<target>/<profile>/deps/<test>`, and Cargo puts programs beside `deps`. `KITH_BIN_DIR` names another
/// place, so that the same tests can be run against release builds.
fn built(name: &str) -> PathBuf {
    let dir = env::var_os("KITH_BIN_DIR").map_or_else(
        || {
            let test = env::current_exe().expect("a process has a program");
            test.parent().and_then(|deps| deps.parent()).expect("a test is in target/<profile>/deps").to_path_buf()
        },
        PathBuf::from,
    );
    let program = dir.join(name);
    assert!(program.is_file(), "{} is not there; run `cargo build` first", program.display());
    program
}
