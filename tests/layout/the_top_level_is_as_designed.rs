use crate::sources::top_level;

/// What may be there; a directory that is still empty is not in a clone.
const LISTED: [&str; 14] = [
    "CHANGELOG.md",
    // Cargo's own companion of Cargo.toml.
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "ca-agent",
    "clippy.toml",
    "core",
    "deny.toml",
    "deploy",
    "proto",
    "proxy",
    "tests",
];

#[test]
fn it_holds_nothing_but_what_is_listed() {
    let found = top_level();
    let others: Vec<_> = found.iter().filter(|name| !LISTED.contains(&name.as_str())).collect();
    assert!(others.is_empty(), "not listed: {others:?}");
    assert!(found.iter().any(|name| name == "core"), "the search finds nothing: {found:?}");
}
