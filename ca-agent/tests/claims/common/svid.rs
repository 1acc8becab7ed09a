use std::time::SystemTime;

use kith_identity::{Leaf, PrivateKey, X509Svid};
use kith_tls::{Credentials, CredentialsReader};
use rcgen::{CertificateParams, KeyPair};

use super::Tested;

/// A workload's key.
pub(crate) struct Key(pub(crate) KeyPair);

impl Key {
    pub(crate) fn new() -> Self {
        Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap())
    }

    /// A plain CSR.
    pub(crate) fn csr(&self) -> Vec<u8> {
        self.csr_of(CertificateParams::default())
    }

    pub(crate) fn csr_of(&self, params: CertificateParams) -> Vec<u8> {
        params.serialize_request(&self.0).unwrap().der().to_vec()
    }

    pub(crate) fn copy(&self) -> Self {
        Self(KeyPair::try_from(self.0.serialize_der()).unwrap())
    }
}

/// A workload's SVID.
pub(crate) struct Svid {
    pub(crate) key: Key,
    pub(crate) chain: Vec<Vec<u8>>,
}

impl Svid {
    pub(crate) fn new(key: Key, chain: Vec<Vec<u8>>) -> Self {
        Self { key, chain }
    }

    pub(crate) fn leaf(&self) -> Leaf {
        Leaf::parse(&self.chain[0]).unwrap()
    }

    pub(crate) fn serial(&self) -> String {
        self.leaf().serial.to_string()
    }

    /// What a connection presents.
    pub(crate) async fn credentials(&self, tested: &Tested) -> CredentialsReader {
        let key = PrivateKey::from_pkcs8(self.key.0.serialize_der());
        let svid = X509Svid::new(self.chain.clone(), key).unwrap();
        let credentials = Credentials::default();
        credentials.publish(svid, tested.bundles().await, tested.clock.now().min(self.not_after())).unwrap();
        credentials.reader()
    }

    pub(crate) fn not_after(&self) -> SystemTime {
        self.leaf().not_after
    }
}
