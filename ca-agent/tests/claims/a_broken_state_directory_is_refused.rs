use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use kith_ca_agent::Agent;
use kith_runtime::clock::{Clock, ManualClock};

use crate::common::start_in;

/// A state directory that an agent has used and left.
async fn used() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    begin(dir.path()).await.unwrap().stop().await;
    dir
}

async fn begin(dir: &Path) -> Result<Agent, String> {
    start_in(dir, &[], Clock::system()).await.map_err(|error| chain(&error))
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn root(dir: &Path) -> PathBuf {
    dir.join("authorities/root.pem")
}

fn issuing(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("authorities")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("issuing-")).collect()
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The certificate of one file with the key of another.
fn crossed(certificate: &Path, key: &Path) -> String {
    let end = "-----END CERTIFICATE-----\n";
    let (certificate, key) = (fs::read_to_string(certificate).unwrap(), fs::read_to_string(key).unwrap());
    format!("{}{end}{}", certificate.split_once(end).unwrap().0, key.split_once(end).unwrap().1)
}

type Damage = fn(&Path, &Path);

/// What can happen to a state directory (the second is another agent's), and what the refusal must say.
const DAMAGES: &[(&str, Damage, &[&str])] = &[
    ("the root is garbage", |dir, _| write(&root(dir), "garbage"), &["root.pem", "expected one CERTIFICATE"]),
    ("the root is empty", |dir, _| write(&root(dir), ""), &["root.pem", "expected one CERTIFICATE"]),
    (
        "the root's key is gone",
        |dir, _| {
            let content = fs::read_to_string(root(dir)).unwrap();
            write(&root(dir), content.split("-----BEGIN PRIVATE").next().unwrap());
        },
        &["root.pem", "PRIVATE KEY"],
    ),
    (
        "the root's key is another's",
        |dir, other| {
            let content = crossed(&root(dir), &root(other));
            write(&root(dir), content);
        },
        &["root.pem", "does not fit its certificate"],
    ),
    (
        "the root is another's",
        |dir, other| write(&root(dir), fs::read(root(other)).unwrap()),
        &["root.pem", "not the root that this state directory began with"],
    ),
    (
        "the root is gone",
        |dir, _| fs::remove_file(root(dir)).unwrap(),
        &["root.pem is missing", "issuing-", "restore it from a backup"],
    ),
    (
        "all authorities are gone",
        |dir, _| fs::remove_dir_all(dir.join("authorities")).unwrap(),
        &["root.pem is missing", "the store remembers a root", "restore it from a backup"],
    ),
    (
        "others can read the root",
        |dir, _| fs::set_permissions(root(dir), fs::Permissions::from_mode(0o640)).unwrap(),
        &["mode 640", "chmod 600"],
    ),
    (
        "a directory stands where the root was",
        |dir, _| {
            fs::remove_file(root(dir)).unwrap();
            fs::create_dir(root(dir)).unwrap();
        },
        &["root.pem", "no regular file"],
    ),
    (
        "the issuing authority is garbage",
        |dir, _| write(&issuing(dir)[0], "garbage"),
        &["issuing-", "expected one CERTIFICATE"],
    ),
    (
        "the issuing authority's key is another's",
        |dir, other| {
            let content = crossed(&issuing(dir)[0], &issuing(other)[0]);
            write(&issuing(dir)[0], content);
        },
        &["issuing-", "does not fit its certificate"],
    ),
    (
        "the issuing authority is another root's",
        |dir, other| write(&issuing(dir)[0], fs::read(&issuing(other)[0]).unwrap()),
        &["issuing-", "would be refused", "signed by a root of the bundle"],
    ),
    (
        "others can read the issuing authority",
        |dir, _| fs::set_permissions(&issuing(dir)[0], fs::Permissions::from_mode(0o604)).unwrap(),
        &["issuing-", "mode 604", "chmod 600"],
    ),
    ("the store is garbage", |dir, _| write(&dir.join("kith.db"), "garbage ".repeat(1000)), &["kith.db", "backup"]),
];

#[tokio::test]
async fn every_damage_is_refused_by_name_and_nothing_is_replaced() {
    let other = used().await;
    for (name, damage, expected) in DAMAGES {
        let dir = used().await;
        damage(dir.path(), other.path());
        let before = snapshot(dir.path());
        let refusal = begin(dir.path()).await.expect_err(name);
        for part in *expected {
            assert!(refusal.contains(part), "{name}: {refusal}");
        }
        assert_eq!(snapshot(dir.path()), before, "{name}");
    }
}

/// Every key file with its content.
fn snapshot(dir: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let Ok(entries) = fs::read_dir(dir.join("authorities")) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.map(|path| (path.clone(), fs::read(path).ok())).collect();
    files.sort();
    files
}

#[tokio::test]
async fn an_untouched_one_starts_again_with_the_same_authorities() {
    let dir = used().await;
    let before = snapshot(dir.path());
    begin(dir.path()).await.unwrap().stop().await;
    assert_eq!(snapshot(dir.path()), before);
    assert_eq!(before.len(), 2);
}

#[tokio::test]
async fn a_first_start_that_broke_off_goes_on_where_it_was() {
    // After the root, before the issuing authority.
    let dir = used().await;
    fs::remove_file(&issuing(dir.path())[0]).unwrap();
    let root_before = fs::read(root(dir.path())).unwrap();
    begin(dir.path()).await.unwrap().stop().await;
    assert_eq!(fs::read(root(dir.path())).unwrap(), root_before);
    assert_eq!(issuing(dir.path()).len(), 1);

    // Before the root was whole: what is half-written never counts.
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("authorities")).unwrap();
    write(&dir.path().join("authorities/unfinished-root.pem"), "-----BEGIN CERT");
    begin(dir.path()).await.unwrap().stop().await;
    assert!(root(dir.path()).is_file());
    assert!(!dir.path().join("authorities/unfinished-root.pem").exists());
}

#[tokio::test]
async fn the_root_is_made_before_the_store_hears_of_it() {
    // A crash in between leaves a root that the store does not remember: it is taken, not replaced.
    let dir = used().await;
    for file in ["kith.db", "kith.db-wal", "kith.db-shm"] {
        let _ = fs::remove_file(dir.path().join(file));
    }
    let before = snapshot(dir.path());
    begin(dir.path()).await.unwrap().stop().await;
    assert_eq!(snapshot(dir.path()), before);
}

#[tokio::test]
async fn an_expired_root_is_refused_and_an_expired_issuing_authority_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(SystemTime::now());
    let flags = ["--issuing-lifetime=5h".to_owned(), "--root-lifetime=10h".to_owned()];
    start_in(dir.path(), &flags, clock.clock()).await.unwrap().stop().await;
    let root_before = fs::read(root(dir.path())).unwrap();

    clock.advance(Duration::from_secs(6 * 3600));
    start_in(dir.path(), &flags, clock.clock()).await.unwrap().stop().await;
    assert_eq!(fs::read(root(dir.path())).unwrap(), root_before);

    clock.advance(Duration::from_secs(5 * 3600));
    let refusal = chain(&start_in(dir.path(), &flags, clock.clock()).await.unwrap_err());
    assert!(refusal.contains("root.pem: the certificate has expired"), "{refusal}");
}

#[tokio::test]
async fn a_clock_before_the_authorities_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(SystemTime::now());
    start_in(dir.path(), &[], clock.clock()).await.unwrap().stop().await;
    clock.set(SystemTime::now() - Duration::from_secs(3600));
    let refusal = chain(&start_in(dir.path(), &[], clock.clock()).await.unwrap_err());
    assert!(refusal.contains("the clock"), "{refusal}");
}

#[tokio::test]
async fn a_state_directory_belongs_to_one_trust_domain_and_one_agent() {
    let dir = tempfile::tempdir().unwrap();
    let agent = begin(dir.path()).await.unwrap();
    let refusal = begin(dir.path()).await.unwrap_err();
    assert!(refusal.contains("another agent runs in the state directory"), "{refusal}");
    agent.stop().await;

    let flags = ["--trust-domain=other.org".to_owned()];
    let refusal = start_in_domain(dir.path(), &flags).await;
    assert!(refusal.contains("belongs to the trust domain example.org, not other.org"), "{refusal}");
}

async fn start_in_domain(dir: &Path, flags: &[String]) -> String {
    chain(&crate::common::start_bare(dir, flags).await.unwrap_err())
}

#[tokio::test]
async fn everything_secret_is_for_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state/of/kith");
    let agent = begin(&state).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join("authorities")), 0o700);
    for file in [root(&state), issuing(&state).remove(0), state.join("admin.sock"), state.join("kith.db")] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    agent.stop().await;
}
