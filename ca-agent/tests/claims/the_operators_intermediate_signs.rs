use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use kith_identity::TrustBundle;
use kith_proto::ca::ListAuthoritiesRequest;
use kith_runtime::clock::ManualClock;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use tempfile::TempDir;

use crate::common::{Tested, WEB, domain, start_in};

/// An operator's own PKI: a root, a CA between, and an intermediate for Kith.
struct Pki {
    dir: TempDir,
    cert: PathBuf,
    key: PathBuf,
    bundle: PathBuf,
}

fn ca(name: &str, uri: Option<&str>, days: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = (SystemTime::now() - Duration::from_secs(3600)).into();
    params.not_after = (SystemTime::now() + Duration::from_secs(days * 24 * 3600)).into();
    params.subject_alt_names = uri.into_iter().map(|uri| SanType::URI(uri.try_into().unwrap())).collect();
    params
}

impl Pki {
    fn new() -> Self {
        Self::of(ca("Kith intermediate", None, 365))
    }

    fn of(intermediate: CertificateParams) -> Self {
        let keys: Vec<KeyPair> = (0..3).map(|_| KeyPair::generate().unwrap()).collect();
        let root = ca("Corp root", None, 3650);
        let root_cert = root.self_signed(&keys[0]).unwrap();
        let between = ca("Corp CA", None, 1000);
        let between_cert = between.signed_by(&keys[1], &Issuer::from_params(&root, &keys[0])).unwrap();
        let cert = intermediate.signed_by(&keys[2], &Issuer::from_params(&between, &keys[1])).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, content: String| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            path
        };
        let cert = write("cert.pem", format!("{}{}", cert.pem(), between_cert.pem()));
        let key = write("key.pem", keys[2].serialize_pem());
        let bundle = write("bundle.pem", root_cert.pem());
        Self { dir, cert, key, bundle }
    }

    fn flags(&self) -> Vec<String> {
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        vec![flag("issuing-cert", &self.cert), flag("issuing-key", &self.key), flag("root-bundle", &self.bundle)]
    }

    async fn refusal(&self) -> String {
        let state = self.dir.path().join("state");
        let clock = ManualClock::new(SystemTime::now());
        let error = start_in(&state, &self.flags(), clock.clock()).await.unwrap_err();
        assert!(!state.join("authorities").exists());
        error.to_string()
    }
}

#[tokio::test]
async fn workloads_get_the_whole_way_to_the_operators_root_and_no_root_is_made() {
    let pki = Pki::new();
    let flags = pki.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let tested = Tested::start(&flags).await;
    let bundle = TrustBundle::from_pem(domain(), &fs::read(&pki.bundle).unwrap()).unwrap();
    assert_eq!(tested.bundles().await.get(&domain()), Some(&bundle));
    let svid = tested.svid(WEB).await;
    assert_eq!(svid.chain.len(), 3);
    // Over mTLS, so the agent itself accepts what it has issued.
    tested.renew(&svid).await.unwrap();
    let pin = tested.token(WEB).await.split_once('.').unwrap().1.to_owned();
    assert_eq!(pin, kith_tls::RootPin::of_certificate(&bundle.authorities()[0]).unwrap().to_string());
    assert!(!tested.dir.path().join("authorities").exists());
    let listed = tested.administration().await.list_authorities(ListAuthoritiesRequest {}).await.unwrap();
    let subjects: Vec<String> = listed.into_inner().authorities.into_iter().map(|a| a.subject).collect();
    assert_eq!(subjects, ["CN=Corp root", "CN=Kith intermediate"]);
}

#[tokio::test]
async fn of_several_roots_the_pin_names_the_one_that_signed() {
    let (pki, other) = (Pki::new(), Pki::new());
    let both = format!("{}{}", fs::read_to_string(&other.bundle).unwrap(), fs::read_to_string(&pki.bundle).unwrap());
    let own = TrustBundle::from_pem(domain(), &fs::read(&pki.bundle).unwrap()).unwrap();
    fs::write(&pki.bundle, both).unwrap();
    let flags = pki.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let tested = Tested::start(&flags).await;
    let pin = tested.token(WEB).await.split_once('.').unwrap().1.to_owned();
    assert_eq!(pin, kith_tls::RootPin::of_certificate(&own.authorities()[0]).unwrap().to_string());
}

#[tokio::test]
async fn what_does_not_fit_together_is_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    fs::copy(&other.key, &pki.key).unwrap();
    assert!(pki.refusal().await.contains("private key does not fit its certificate"));

    let pki = Pki::new();
    fs::copy(&other.bundle, &pki.bundle).unwrap();
    assert!(pki.refusal().await.contains("would be refused"));

    let pki = Pki::new();
    fs::set_permissions(&pki.key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(pki.refusal().await.contains("mode 644"));

    let pki = Pki::new();
    fs::remove_file(&pki.cert).unwrap();
    let refusal = pki.refusal().await;
    assert!(refusal.contains("cert.pem") && refusal.contains("No such file"), "{refusal}");

    let pki = Pki::of(ca("Kith intermediate", Some("spiffe://other.org"), 365));
    assert!(pki.refusal().await.contains("'spiffe://other.org', expected 'spiffe://example.org'"));

    let mut no_ca = ca("Kith intermediate", None, 365);
    no_ca.is_ca = IsCa::ExplicitNoCa;
    assert!(Pki::of(no_ca).refusal().await.contains("does not say CA"));

    let mut expired = ca("Kith intermediate", None, 0);
    expired.not_after = (SystemTime::now() - Duration::from_secs(60)).into();
    assert!(Pki::of(expired).refusal().await.contains("the certificate has expired"));
}
