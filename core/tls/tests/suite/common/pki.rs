//! A certificate factory: a good chain, and hooks to spoil every part of it.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kith_identity::{PrivateKey, SpiffeId, TrustBundle, TrustBundles, TrustDomain, X509Svid};
use kith_tls::{Material, Revocations, Trust, verify};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose as Eku, IsCa, KeyPair, KeyUsagePurpose as Usage, SanType,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

pub(crate) const DOMAIN: &str = "example.org";

/// One moment for a whole run, in whole seconds as certificates know them.
pub(crate) fn now() -> SystemTime {
    static NOW: LazyLock<u64> = LazyLock::new(|| UNIX_EPOCH.elapsed().unwrap().as_secs());
    UNIX_EPOCH + Duration::from_secs(*NOW)
}

/// So many seconds from now.
pub(crate) fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from(now()) + time::Duration::seconds(seconds)
}

pub(crate) fn id(path: &str) -> SpiffeId {
    format!("spiffe://{DOMAIN}{path}").parse().unwrap()
}

pub(crate) fn domain(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

/// A CA certificate with its key.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A leaf with its key.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) der: Vec<u8>,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn root(name: &str, spoil: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::root_with_key(name, KeyPair::generate().unwrap(), spoil)
    }

    pub(crate) fn root_with_key(name: &str, key: KeyPair, spoil: impl FnOnce(&mut CertificateParams)) -> Self {
        Self(CertifiedIssuer::self_signed(ca_params(name, spoil), key).unwrap())
    }

    pub(crate) fn issuing(&self, name: &str, spoil: impl FnOnce(&mut CertificateParams)) -> Self {
        self.issuing_with_key(name, KeyPair::generate().unwrap(), spoil)
    }

    pub(crate) fn issuing_with_key(
        &self,
        name: &str,
        key: KeyPair,
        spoil: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        Self(CertifiedIssuer::signed_by(ca_params(name, spoil), key, &self.0).unwrap())
    }

    pub(crate) fn leaf(&self, spoil: impl FnOnce(&mut CertificateParams)) -> Issued {
        self.leaf_with_key(KeyPair::generate().unwrap(), spoil)
    }

    pub(crate) fn leaf_with_key(&self, key: KeyPair, spoil: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = leaf_params("/ns/shop/sa/web");
        spoil(&mut params);
        let der = params.signed_by(&key, &*self.0).unwrap().der().to_vec();
        Issued { der, key }
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn key(&self) -> KeyPair {
        copy(self.0.key())
    }
}

pub(crate) fn copy(key: &KeyPair) -> KeyPair {
    KeyPair::try_from(key.serialize_der()).unwrap()
}

fn ca_params(name: &str, spoil: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![Usage::KeyCertSign, Usage::CrlSign];
    params.not_before = at(-3600);
    params.not_after = at(3600);
    spoil(&mut params);
    params
}

pub(crate) fn leaf_params(path: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("a workload");
    params.is_ca = IsCa::ExplicitNoCa;
    params.subject_alt_names = vec![uri(id(path).to_string().as_str())];
    params.key_usages = vec![Usage::DigitalSignature];
    params.extended_key_usages = vec![Eku::ClientAuth, Eku::ServerAuth];
    params.not_before = at(-60);
    params.not_after = at(600);
    params
}

pub(crate) fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

pub(crate) fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

/// An extension in raw DER.
pub(crate) fn extension(oid: &[u64], critical: bool, der: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, der.to_vec());
    extension.set_criticality(critical);
    extension
}

/// DER with a short length.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}

/// A root, an issuing authority below it, and SVIDs of both.
pub(crate) struct Pki {
    pub(crate) root: Authority,
    pub(crate) issuing: Authority,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let root = Authority::root("root", |_| {});
        let issuing = root.issuing("issuing", |_| {});
        Self { root, issuing }
    }

    pub(crate) fn trust(&self) -> Arc<Trust> {
        trust([(DOMAIN, vec![self.root.der()])])
    }

    pub(crate) fn bundles(&self) -> TrustBundles {
        bundles([(DOMAIN, vec![self.root.der()])])
    }

    pub(crate) fn svid(&self, path: &str) -> X509Svid {
        self.svid_with(|params| params.subject_alt_names = vec![uri(id(path).to_string().as_str())])
    }

    pub(crate) fn svid_with(&self, spoil: impl FnOnce(&mut CertificateParams)) -> X509Svid {
        let leaf = self.issuing.leaf(spoil);
        svid(vec![leaf.der, self.issuing.der()], &leaf.key)
    }

    pub(crate) fn material(&self, path: &str) -> Arc<Material> {
        self.material_with(|params| params.subject_alt_names = vec![uri(id(path).to_string().as_str())])
    }

    pub(crate) fn material_with(&self, spoil: impl FnOnce(&mut CertificateParams)) -> Arc<Material> {
        Arc::new(Material::new(Arc::new(self.svid_with(spoil)), self.trust(), 1).unwrap())
    }
}

pub(crate) fn svid(chain: Vec<Vec<u8>>, key: &KeyPair) -> X509Svid {
    X509Svid::new(chain, PrivateKey::from_pkcs8(key.serialize_der())).unwrap()
}

pub(crate) fn bundles<const N: usize>(roots: [(&str, Vec<Vec<u8>>); N]) -> TrustBundles {
    TrustBundles::new(1, roots.map(|(name, roots)| TrustBundle::new(domain(name), roots).unwrap()))
}

pub(crate) fn trust<const N: usize>(roots: [(&str, Vec<Vec<u8>>); N]) -> Arc<Trust> {
    Arc::new(Trust::new(bundles(roots), Revocations::default()).unwrap())
}

/// `verify` over plain bytes, leaf first.
pub(crate) fn verify_chain(
    chain: &[Vec<u8>],
    now: SystemTime,
    trust: &Trust,
) -> Result<kith_identity::Leaf, kith_tls::Rejection> {
    let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let (leaf, rest) = chain.split_first().unwrap();
    verify(leaf, rest, now, trust)
}
