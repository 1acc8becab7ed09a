//! The committed code and descriptors are what the `.proto` files generate.
//! After a change of contracts: `KITH_REGENERATE=1 cargo test -p kith-proto`.

use std::{fs, path::Path};

use prost::Message as _;

const FILES: [&str; 3] =
    ["kith/ca/v1alpha1/ca.proto", "kith/discovery/v1alpha1/discovery.proto", "kith/status/v1alpha1/status.proto"];

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/generated");
    let fresh = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(FILES, [root]).unwrap();
    fs::write(fresh.path().join("descriptors.bin"), descriptors.encode_to_vec()).unwrap();
    tonic_prost_build::configure().out_dir(fresh.path()).compile_fds(descriptors).unwrap();

    let mut names: Vec<_> = fs::read_dir(fresh.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let generated = fs::read(fresh.path().join(&name)).unwrap();
        let target = committed.join(&name);
        if std::env::var_os("KITH_REGENERATE").is_some() {
            fs::write(&target, &generated).unwrap();
        }
        assert!(
            fs::read(&target).unwrap() == generated,
            "{name:?} is stale: KITH_REGENERATE=1 cargo test -p kith-proto"
        );
    }
}

#[test]
fn every_field_method_and_value_has_a_comment() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in FILES {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (number, pair) in lines.windows(2).enumerate() {
            let declares = pair[1].contains(" = ") && pair[1].ends_with(';') || pair[1].starts_with("rpc ");
            let imports = pair[1].starts_with("syntax") || pair[1].starts_with("option");
            assert!(!declares || imports || pair[0].starts_with("//"), "{file}:{} lacks a comment", number + 2);
        }
    }
}
