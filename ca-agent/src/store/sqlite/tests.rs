use std::path::PathBuf;

use kith_identity::SpiffeId;
use kith_runtime::readiness::Readiness;

use super::{
    super::{Attestation, AuditEvent, Holder},
    *,
};

struct Opened {
    store: SqliteStore,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

async fn open() -> Opened {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kith.db");
    Opened { store: open_at(&path).await, path, _dir: dir }
}

async fn open_at(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Counter::default(), Readiness::new().gate("store", "new")).await.unwrap()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn audit(event: AuditEvent) -> AuditRecord {
    AuditRecord {
        at: at(1000),
        event,
        attestation: None,
        spiffe_id: None,
        serial: None,
        public_key_hash: None,
        source: None,
    }
}

fn certificate(serial: &str, holder: &str) -> CertificateRecord {
    CertificateRecord {
        serial: serial.parse().unwrap(),
        spiffe_id: "spiffe://td/web".parse().unwrap(),
        holder: holder.parse().unwrap(),
        previous: None,
        chain: vec![],
        issuer: "CN=x".into(),
        public_key_hash: Hash([7; 32]),
        instance: Holder { host: "h".into(), ..Holder::default() },
        attestation: Attestation::JoinToken,
        attested_at: at(1000),
        issued_at: at(1000),
        not_before: at(940),
        not_after: at(2000),
    }
}

#[tokio::test]
async fn what_was_written_is_read_as_it_was_also_after_reopening() {
    let Opened { store, path, _dir } = open().await;
    let written = certificate("0a", "0a");
    store.add_certificate(&written, &audit(AuditEvent::Issued)).await.unwrap();
    store.close().await;
    let store = open_at(&path).await;
    assert_eq!(store.certificate(&written.serial).await.unwrap(), Some(written));
}

#[tokio::test]
async fn a_serial_number_is_recorded_once() {
    let Opened { store, path: _, _dir } = open().await;
    store.add_certificate(&certificate("0a", "0a"), &audit(AuditEvent::Issued)).await.unwrap();
    assert!(store.add_certificate(&certificate("0a", "0b"), &audit(AuditEvent::Issued)).await.is_err());
}

#[tokio::test]
async fn the_bundles_number_grows_with_their_content_and_never_falls() {
    let Opened { store, path, _dir } = open().await;
    let (one, two) = (Hash([1; 32]), Hash([2; 32]));
    assert_eq!(store.bundle_sequence(one, 100).await.unwrap(), 100);
    assert_eq!(store.bundle_sequence(one, 900).await.unwrap(), 100);
    assert_eq!(store.bundle_sequence(two, 5).await.unwrap(), 101);
    store.close().await;
    let store = open_at(&path).await;
    // Also back to content that was there before.
    assert_eq!(store.bundle_sequence(one, 1).await.unwrap(), 102);
}

#[tokio::test]
async fn a_holders_newest_is_the_current_one_and_others_are_their_own() {
    let Opened { store, path: _, _dir } = open().await;
    for (serial, holder) in [("0a", "0a"), ("0b", "0a"), ("0c", "0c"), ("0d", "0a")] {
        store.add_certificate(&certificate(serial, holder), &audit(AuditEvent::Issued)).await.unwrap();
    }
    let find = async |include_superseded, now| {
        let query = Query {
            now,
            spiffe_id: None,
            prefix: None,
            include_expired: false,
            include_superseded,
            after: None,
            limit: 10,
        };
        let found = store.certificates(&query).await.unwrap();
        found.into_iter().map(|record| record.serial.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(find(false, at(1500)).await, ["0c", "0d"]);
    assert_eq!(find(true, at(1500)).await, ["0a", "0b", "0c", "0d"]);
    // The last second counts.
    assert_eq!(find(false, at(2000)).await.len(), 2);
    assert_eq!(find(false, at(2001)).await.len(), 0);
}

#[tokio::test]
async fn refusals_are_bounded_in_number_and_everything_in_age() {
    let Opened { store, path: _, _dir } = open().await;
    store.add_certificate(&certificate("0a", "0a"), &audit(AuditEvent::Issued)).await.unwrap();
    let flood = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100500)
         INSERT INTO audit (at, event, reason) SELECT 5000000, 'refused', 'x' FROM n";
    sqlx::query(flood).execute(&store.writer).await.unwrap();
    let count = async |event: &str| -> i64 {
        let query = sqlx::query_scalar("SELECT count(*) FROM audit WHERE event = ?").bind(event.to_owned());
        query.fetch_one(&store.readers).await.unwrap()
    };
    assert_eq!(store.prune(at(500)).await.unwrap(), 500);
    assert_eq!((count("refused").await, count("issued").await), (MOST_REFUSALS, 1));
    let serial = "0a".parse().unwrap();
    assert!(store.certificate(&serial).await.unwrap().is_some());
    store.prune(at(2001)).await.unwrap();
    assert_eq!(count("issued").await, 0);
    assert!(store.certificate(&serial).await.unwrap().is_none());
}

#[tokio::test]
async fn a_token_is_spent_with_its_certificate_or_not_at_all() {
    let Opened { store, path: _, _dir } = open().await;
    let id: SpiffeId = "spiffe://td/web".parse().unwrap();
    let token =
        NewToken { id: "t".into(), hash: Hash([1; 32]), spiffe_id: id, created_at: at(900), expires_at: at(1001) };
    store.add_token(&token).await.unwrap();
    store.add_certificate(&certificate("0a", "0a"), &audit(AuditEvent::Issued)).await.unwrap();
    // The serial number is taken, so the certificate can't be recorded.
    assert!(store.spend_token("t", &certificate("0a", "0a"), &audit(AuditEvent::Issued)).await.is_err());
    assert_eq!(store.token_by_hash(token.hash).await.unwrap().unwrap().spent, None);

    let late = CertificateRecord { issued_at: at(1001), ..certificate("0b", "0b") };
    assert_eq!(store.spend_token("t", &late, &audit(AuditEvent::Issued)).await.unwrap(), Spending::Expired);
    let spent = store.spend_token("t", &certificate("0b", "0b"), &audit(AuditEvent::Issued)).await.unwrap();
    assert_eq!(spent, Spending::Spent);
    let again = store.spend_token("t", &certificate("0c", "0c"), &audit(AuditEvent::Issued)).await.unwrap();
    assert!(matches!(again, Spending::SpentBefore(spent) if spent.serial.to_string() == "0b"));
    let unknown = store.spend_token("u", &certificate("0c", "0c"), &audit(AuditEvent::Issued)).await.unwrap();
    assert_eq!(unknown, Spending::Unknown);
    assert_eq!(store.certificate(&"0c".parse().unwrap()).await.unwrap(), None);
}

#[tokio::test]
async fn a_spent_token_is_remembered_as_long_as_its_certificate() {
    let Opened { store, path: _, _dir } = open().await;
    let hash = Hash([1; 32]);
    let spiffe_id = "spiffe://td/web".parse().unwrap();
    let token = NewToken { id: "t".into(), hash, spiffe_id, created_at: at(900), expires_at: at(1001) };
    store.add_token(&token).await.unwrap();
    store.spend_token("t", &certificate("0b", "0b"), &audit(AuditEvent::Issued)).await.unwrap();
    store.prune(at(1999)).await.unwrap();
    assert!(store.token_by_hash(hash).await.unwrap().is_some());
    store.prune(at(2001)).await.unwrap();
    assert!(store.token_by_hash(hash).await.unwrap().is_none());
}

#[tokio::test]
async fn every_commit_waits_for_the_disk() {
    let Opened { store, path: _, _dir } = open().await;
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.writer).await.unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&store.writer).await.unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}
