use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use kith_identity::Leaf;
use kith_proxy::svid::{self, Args};
use kith_runtime::clock::Clock;
use rcgen::{KeyPair, PublicKeyData as _};

use crate::{
    ca::{Ca, WORKLOAD},
    workload::{Setup, eventually},
};

fn args(setup: &Setup, once: bool) -> Args {
    Args { identity: setup.config(), out: setup.path("out"), once }
}

/// The leaf and the key of a pair of files, or of one file that holds both; `None` while they don't fit or are not there.
fn fitting_leaf(chain: &Path, key: &Path) -> Option<Leaf> {
    let blocks = |path: &Path| pem::parse_many(fs::read(path).ok()?).ok();
    let leaf = blocks(chain)?.into_iter().find(|block| block.tag() == "CERTIFICATE")?;
    let key = blocks(key)?.into_iter().find(|block| block.tag() == "PRIVATE KEY")?;
    let (leaf, key) = (Leaf::parse(leaf.contents()).unwrap(), KeyPair::try_from(key.contents()).unwrap());
    (leaf.public_key == key.subject_public_key_info()).then_some(leaf)
}

#[tokio::test]
async fn once_is_once() {
    let ca = Ca::running(&Clock::system());
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t"));
    svid::run(args(&setup, true)).await.unwrap();
    let out = setup.path("out");
    let mut names: Vec<_> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["bundle.pem", "svid.combined.pem", "svid.key.pem", "svid.pem"]);
    for name in names {
        let mode = fs::metadata(out.join(&name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    let leaf = fitting_leaf(&out.join(svid::CHAIN_FILE), &out.join(svid::KEY_FILE)).unwrap();
    assert_eq!(leaf.id.to_string(), WORKLOAD);
    let combined = out.join(svid::COMBINED_FILE);
    assert_eq!(fitting_leaf(&combined, &combined).unwrap().serial, leaf.serial);
    let ders = |text: &str| pem::parse_many(text).unwrap().into_iter().map(pem::Pem::into_contents).collect::<Vec<_>>();
    let bundle = fs::read_to_string(out.join(svid::BUNDLE_FILE)).unwrap();
    assert_eq!(ders(&bundle), ders(&ca.root_pem()), "the roots are a file for openssl too");
}

#[tokio::test]
async fn they_are_renewed_and_the_combined_file_is_never_torn() {
    let ca = Ca::running(&Clock::system());
    ca.set_lifetime(Duration::from_secs(3));
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t"));
    let running = tokio::spawn(svid::run(args(&setup, false)));
    let out = setup.path("out");
    let (chain, key, combined) = (out.join(svid::CHAIN_FILE), out.join(svid::KEY_FILE), out.join(svid::COMBINED_FILE));
    let serials = std::sync::Mutex::new(Vec::new());
    eventually("three SVIDs were written", || {
        if combined.exists() {
            let leaf = fitting_leaf(&combined, &combined).expect("key and certificate of one file fit");
            let mut serials = serials.lock().unwrap();
            if serials.last() != Some(&leaf.serial) {
                serials.push(leaf.serial);
            }
        }
        serials.lock().unwrap().len() == 3
    })
    .await;
    eventually("key and chain fit", || fitting_leaf(&chain, &key).is_some()).await;
    running.abort();
}

#[tokio::test]
async fn a_directory_that_cannot_be_is_named() {
    let ca = Ca::running(&Clock::system());
    let setup = Setup::of(&ca).with("--join-token").with(&ca.token("t"));
    setup.write("out", "a file");
    let failure = svid::run(args(&setup, true)).await.unwrap_err();
    assert_eq!(failure.code(), 2);
    assert!(failure.to_string().contains("--out (KITH_SVID_OUT)"), "{failure}");
}
