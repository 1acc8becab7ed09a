use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::Value;

use crate::sources::root;

const CORE: &[&str] = &["kith-identity", "kith-mesh", "kith-proto", "kith-tls", "kith-runtime"];

/// Each crate, its folder, and which of ours it may depend on.
const TABLE: [(&str, &str, &[&str]); 8] = [
    ("kith-identity", "core/identity", &[]),
    ("kith-mesh", "core/mesh", &["kith-identity"]),
    ("kith-proto", "proto", &["kith-identity"]),
    ("kith-tls", "core/tls", &["kith-identity"]),
    ("kith-runtime", "core/runtime", &[]),
    ("kith-proxy", "proxy", CORE),
    ("kith-ca-agent", "ca-agent", CORE),
    (
        "kith-tests",
        "tests",
        &["kith-identity", "kith-mesh", "kith-proto", "kith-tls", "kith-runtime", "kith-proxy", "kith-ca-agent"],
    ),
];

fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    std::mem::take(metadata["packages"].as_array_mut().unwrap())
}

/// By package, its folder and the packages in this repository that it depends on: also for its tests and its build.
fn workspace() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let read = |package: Value| {
        let manifest = text(&package["manifest_path"]);
        let folder = Path::new(&manifest).parent().unwrap().strip_prefix(root()).unwrap().display().to_string();
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let ours = dependencies.filter(|dependency| dependency["path"].is_string()).map(|d| text(&d["name"])).collect();
        (text(&package["name"]), (folder, ours))
    };
    packages().into_iter().map(read).collect()
}

#[test]
fn each_crate_is_in_its_folder_and_depends_on_no_other_than_it_may() {
    let workspace = workspace();
    let folders: Vec<_> = workspace.iter().map(|(name, (folder, _))| (name.as_str(), folder.as_str())).collect();
    let mut listed = TABLE.map(|(name, folder, _)| (name, folder));
    listed.sort_unstable();
    assert_eq!(folders, listed);
    for (name, _, may) in TABLE {
        let (_, dependencies) = &workspace[name];
        let others: Vec<_> = dependencies.iter().filter(|dependency| !may.contains(&dependency.as_str())).collect();
        assert!(others.is_empty(), "{name} may not depend on {others:?}");
    }
    // The search sees dependencies, or it would prove nothing.
    assert!(workspace["kith-proxy"].1.contains("kith-tls"), "{workspace:?}");
}
