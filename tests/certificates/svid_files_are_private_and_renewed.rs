use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use kith_tests::{sidecar::SIDECAR_UID, spiffe_id, wait_until};

use crate::rig::{Rig, assert_openssl_verifies, openssl, text};

const FILES: [&str; 4] = ["svid.pem", "svid.key.pem", "svid.combined.pem", "bundle.pem"];

#[test]
fn and_openssl_verifies_each_of_them() {
    let rig = Rig::new(&["--svid-lifetime", "6s"]);
    let svid = rig.svid(&rig.client, "/tools/backup", &[]);
    let mut seen = BTreeSet::new();
    wait_until("four SVIDs have been written", Duration::from_secs(60), || {
        assert!(svid.process.is_running(), "kith-proxy svid ended: {}", svid.process.log());
        // The combined file is never torn, and the bundle is in place before it.
        let combined = fs::read_to_string(svid.file("svid.combined.pem")).unwrap();
        if seen.insert(crate::rig::serial_of(&combined)) {
            let copy = svid.dir.parent().unwrap().join("as-it-was.pem");
            fs::write(&copy, &combined).unwrap();
            assert_whole(&copy, &combined, &svid.file("bundle.pem"));
        }
        seen.len() >= 4
    });
    for name in FILES {
        let file = fs::metadata(svid.file(name)).unwrap();
        assert_eq!((file.mode() & 0o777, file.uid()), (0o600, SIDECAR_UID), "{name}");
    }
    let left: Vec<_> = fs::read_dir(&svid.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), FILES.len(), "and nothing else: {left:?}");
    assert_eq!(
        fs::read_to_string(svid.file("bundle.pem")).unwrap(),
        rig.agent.ask(&["bundle", "show"]),
        "the bundle is the agent's"
    );

    let listed =
        rig.agent.ask_json(&["identities", "list", "--superseded", "--expired", "--prefix", &spiffe_id("/tools")]);
    let known: BTreeSet<_> = listed.as_array().unwrap().iter().map(|one| text(one, "serial").to_owned()).collect();
    assert!(seen.is_subset(&known), "{seen:?} of {known:?}");
    let ended = svid.process.stop(Duration::from_secs(10));
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
}

/// A key and its certificate, which leads to a root of the bundle.
fn assert_whole(path: &Path, combined: &str, bundle: &Path) {
    assert_openssl_verifies(path, bundle);
    let text = openssl(&["x509", "-noout", "-text"], combined);
    assert!(text.contains(&format!("URI:{}", spiffe_id("/tools/backup"))), "{text}");
    let of_certificate = openssl(&["x509", "-noout", "-pubkey"], combined);
    let of_key = openssl(&["pkey", "-pubout"], combined);
    assert_eq!(of_certificate, of_key, "the key is the certificate's");
}
