//! A certificate factory for tests: good SVIDs, and one for every way in which a certificate can be wrong.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

type Ca = CertifiedIssuer<'static, KeyPair>;

/// The authorities of one trust domain, and others that look like them.
#[derive(Debug)]
pub struct Pki {
    trust_domain: String,
    root: Ca,
    issuing: Ca,
    /// Vouches for no one any more, though a bundle may still hold it.
    expired_root: Ca,
    under_expired_root: Ca,
    /// Another root with the same names.
    stranger: Ca,
}

/// What a certificate is wanted to be.
#[derive(Debug, Clone)]
pub struct Leaf {
    spiffe_id: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    dns_names: Vec<String>,
    defect: Option<Defect>,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Defect {
    /// A CA signed it that is not in the bundle, though named like the one that is.
    OtherCa,
    /// Its time is over.
    Expired,
    /// Its time is to come.
    NotYetValid,
    /// The root above it is over, itself being valid; see [`Pki::bundle_with_expired_root`].
    ExpiredRoot,
    /// No subject alternative name at all.
    NoSan,
    /// Two SPIFFE IDs, the wanted one first.
    TwoUriSans,
    /// Only a DNS name.
    DnsSanOnly,
    /// CA = true.
    CaAsLeaf,
    /// It may sign certificates by its key usage, CA being false.
    KeyCertSign,
    /// It may sign revocation lists by its key usage.
    CrlSign,
    /// Its key usage lacks digitalSignature.
    NoDigitalSignature,
    /// Its extended key usage lacks client authentication.
    NoClientAuth,
    /// Its extended key usage lacks server authentication.
    NoServerAuth,
    /// Its SPIFFE ID is that of a trust domain, without a path.
    NoPath,
    /// Its SPIFFE ID is of another trust domain than its CA.
    OtherTrustDomain,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// The certificate and the issuing CA's, in PEM.
    pub chain: String,
    /// The private key, PKCS #8 in PEM.
    pub key: String,
    /// The serial in lower-case hexadecimal, without leading zeros of bytes.
    pub serial: String,
}

/// A certificate's files.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate and the issuing CA's.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The roots.
    pub bundle: PathBuf,
}

impl Defect {
    /// Every one.
    pub const ALL: [Self; 15] = [
        Self::OtherCa,
        Self::Expired,
        Self::NotYetValid,
        Self::ExpiredRoot,
        Self::NoSan,
        Self::TwoUriSans,
        Self::DnsSanOnly,
        Self::CaAsLeaf,
        Self::KeyCertSign,
        Self::CrlSign,
        Self::NoDigitalSignature,
        Self::NoClientAuth,
        Self::NoServerAuth,
        Self::NoPath,
        Self::OtherTrustDomain,
    ];
}

impl Pki {
    /// New authorities for this trust domain.
    #[must_use]
    pub fn new(trust_domain: &str) -> Self {
        let now = OffsetDateTime::now_utc();
        let year = Duration::days(365);
        let (root_name, issuing_name) = (format!("{trust_domain} root"), format!("{trust_domain} issuing"));
        let root = new_root(&root_name, now - Duration::HOUR, now + year);
        let issuing = new_issuing(&issuing_name, trust_domain, &root, now + year);
        let expired_root = new_root(&format!("{trust_domain} old root"), now - year, now - Duration::MINUTE);
        let under_expired_root =
            new_issuing(&format!("{trust_domain} old issuing"), trust_domain, &expired_root, now + year);
        let stranger_root = new_root(&root_name, now - Duration::HOUR, now + year);
        let stranger = new_issuing(&issuing_name, trust_domain, &stranger_root, now + year);
        Self { trust_domain: trust_domain.to_owned(), root, issuing, expired_root, under_expired_root, stranger }
    }

    /// The root, in PEM: the trust bundle.
    #[must_use]
    pub fn bundle(&self) -> String {
        self.root.as_ref().pem()
    }

    /// A trust bundle in which a root has stayed whose time is over.
    #[must_use]
    pub fn bundle_with_expired_root(&self) -> String {
        self.bundle() + &self.expired_root.as_ref().pem()
    }

    /// The issuing authority's certificate and key, in PEM, for an agent that is given its own.
    #[must_use]
    pub fn issuing(&self) -> (String, String) {
        (self.issuing.as_ref().pem(), self.issuing.key().serialize_pem())
    }

    /// The SPIFFE ID of a service account in this trust domain.
    #[must_use]
    pub fn id(&self, namespace: &str, service_account: &str) -> String {
        format!("spiffe://{}/ns/{namespace}/sa/{service_account}", self.trust_domain)
    }

    /// Issues it, whatever it is.
    #[must_use]
    pub fn issue(&self, leaf: &Leaf) -> Issued {
        let key = KeyPair::generate().unwrap();
        let issuer = match leaf.defect {
            Some(Defect::OtherCa) => &self.stranger,
            Some(Defect::ExpiredRoot) => &self.under_expired_root,
            _ => &self.issuing,
        };
        let params = leaf.params();
        let serial = params.serial_number.as_ref().map(|serial| hex(serial.as_ref())).unwrap_or_default();
        let certificate = params.signed_by(&key, issuer).unwrap();
        Issued {
            der: certificate.der().to_vec(),
            chain: certificate.pem() + &issuer.as_ref().pem(),
            key: key.serialize_pem(),
            serial,
        }
    }

    /// Issues it into files that this uid can read, beside the bundle (with the expired root).
    #[must_use]
    pub fn write(&self, leaf: &Leaf, dir: &Path, uid: u32) -> Files {
        let issued = self.issue(leaf);
        let files = Files { chain: dir.join("svid.pem"), key: dir.join("key.pem"), bundle: dir.join("bundle.pem") };
        for (path, text, mode) in [
            (&files.chain, &issued.chain, 0o644),
            (&files.key, &issued.key, 0o600),
            (&files.bundle, &self.bundle_with_expired_root(), 0o644),
        ] {
            fs::write(path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
        }
        files
    }
}

impl Leaf {
    /// A good SVID for an hour.
    #[must_use]
    pub fn of(spiffe_id: impl Into<String>) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            spiffe_id: spiffe_id.into(),
            not_before: now - Duration::MINUTE,
            not_after: now + Duration::HOUR,
            dns_names: Vec::new(),
            defect: None,
        }
    }

    /// Gives it another span of validity.
    #[must_use]
    pub fn valid(mut self, not_before: OffsetDateTime, not_after: OffsetDateTime) -> Self {
        (self.not_before, self.not_after) = (not_before, not_after);
        self
    }

    /// Adds a DNS name.
    #[must_use]
    pub fn dns(mut self, name: &str) -> Self {
        self.dns_names.push(name.to_owned());
        self
    }

    /// Makes it wrong.
    #[must_use]
    pub fn with(mut self, defect: Defect) -> Self {
        self.defect = Some(defect);
        self
    }

    fn params(&self) -> CertificateParams {
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = match self.defect {
            Some(Defect::Expired) => (now - Duration::HOUR, now - Duration::seconds(5)),
            Some(Defect::NotYetValid) => (now + Duration::minutes(30), now + Duration::HOUR),
            _ => (self.not_before, self.not_after),
        };
        params.serial_number = Some(random_serial());
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.is_ca = match self.defect {
            Some(Defect::CaAsLeaf) => IsCa::Ca(BasicConstraints::Unconstrained),
            _ => IsCa::ExplicitNoCa,
        };
        params.key_usages = match self.defect {
            Some(Defect::KeyCertSign) => vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign],
            Some(Defect::CrlSign) => vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign],
            Some(Defect::NoDigitalSignature) => vec![KeyUsagePurpose::KeyAgreement],
            _ => vec![KeyUsagePurpose::DigitalSignature],
        };
        params.extended_key_usages = match self.defect {
            Some(Defect::NoClientAuth) => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Some(Defect::NoServerAuth) => vec![ExtendedKeyUsagePurpose::ClientAuth],
            _ => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = self.names();
        params
    }

    fn names(&self) -> Vec<SanType> {
        let uri = |id: &str| SanType::URI(id.try_into().unwrap());
        let trust_domain = self.spiffe_id.trim_start_matches("spiffe://").split('/').next().unwrap_or_default();
        let mut names = match self.defect {
            Some(Defect::NoSan) => return Vec::new(),
            Some(Defect::DnsSanOnly) => vec![SanType::DnsName("workload.example".try_into().unwrap())],
            Some(Defect::TwoUriSans) => vec![uri(&self.spiffe_id), uri(&format!("{}-too", self.spiffe_id))],
            Some(Defect::NoPath) => vec![uri(&format!("spiffe://{trust_domain}"))],
            Some(Defect::OtherTrustDomain) => vec![uri(&self.spiffe_id.replacen(trust_domain, "elsewhere.example", 1))],
            _ => vec![uri(&self.spiffe_id)],
        };
        names.extend(self.dns_names.iter().map(|name| SanType::DnsName(name.as_str().try_into().unwrap())));
        names
    }
}

fn new_root(name: &str, not_before: OffsetDateTime, not_after: OffsetDateTime) -> Ca {
    let params = authority(name, BasicConstraints::Unconstrained, not_before, not_after);
    Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn new_issuing(name: &str, trust_domain: &str, root: &Ca, not_after: OffsetDateTime) -> Ca {
    let not_before = OffsetDateTime::now_utc() - Duration::HOUR;
    let mut params = authority(name, BasicConstraints::Constrained(0), not_before, not_after);
    // X509-SVID §2: a signing certificate's SPIFFE ID, where it has one, is its trust domain's.
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into().unwrap())];
    Ca::signed_by(params, KeyPair::generate().unwrap(), root).unwrap()
}

fn authority(
    name: &str,
    constraints: BasicConstraints,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (not_before, not_after);
    params.serial_number = Some(random_serial());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Positive and of sixteen bytes, so that its hexadecimal form has no leading zeros.
fn random_serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand_bytes();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn rand_bytes() -> [u8; 16] {
    use std::io::Read;
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
