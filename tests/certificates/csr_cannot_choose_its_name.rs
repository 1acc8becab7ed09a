use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use kith_tests::spiffe_id;
use tonic::Code;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

use crate::{
    rig::{Rig, openssl},
    workload::{Workload, csr, new_key},
};

const PATH: &str = "/ns/shop/sa/web";

#[test]
fn the_name_comes_from_the_attestation_and_the_key_from_the_csr() {
    let rig = Rig::new(&[]);
    let workload = Workload::new(&rig.client, &rig.agent);
    let request = ambitious(rig.net.dir());
    let issued = workload.join(&request, &rig.agent.token(PATH)).unwrap();

    let leaf = issued.leaf();
    assert_eq!(leaf.id.to_string(), spiffe_id(PATH), "the attested name");
    let (_, certificate) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 1, "and no other: {:?}", names.value.general_names);
    assert_eq!(certificate.subject().iter().count(), 0, "no subject: {}", certificate.subject());
    assert!(!certificate.is_ca());
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign(), "{usage}");
    let purposes = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(!purposes.any && !purposes.code_signing && purposes.other.is_empty(), "{purposes:?}");
    let (_, asked) = X509CertificationRequest::from_der(&request).unwrap();
    assert_eq!(leaf.public_key, asked.certification_request_info.subject_pki.raw, "the key of the CSR, byte for byte");
    let got = openssl(&["x509", "-noout", "-text"], &pem("CERTIFICATE", &issued.chain[0]));
    let wanted = openssl(&["req", "-noout", "-text"], &pem("CERTIFICATE REQUEST", &request));
    for wish in
        ["admin", "evil.example", "elsewhere.example", "/kith/ca", "CA:TRUE", "Certificate Sign", "Code Signing"]
    {
        assert!(wanted.contains(wish), "{wish} is asked for: {wanted}");
        assert!(!got.contains(wish), "{wish} is nowhere in it: {got}");
    }
}

#[test]
fn a_request_that_is_none_is_refused_with_its_reason_and_costs_nothing() {
    let rig = Rig::new(&[]);
    let workload = Workload::new(&rig.client, &rig.agent);
    let token = rig.agent.token(PATH);
    let good = csr(&new_key());
    let other = csr(&new_key());
    let dir = rig.net.dir();

    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    // Somebody else's key with our signature: whoever sends it does not hold it.
    let stolen = with_key_of(&good, &other);
    let table = [
        ("a bad signature", flipped, "csr_signature"),
        ("a stolen key", stolen, "csr_signature"),
        ("RSA-1024", by_openssl(dir, &["-newkey", "rsa:1024"]), "csr_key"),
        ("RSA-2048", by_openssl(dir, &["-newkey", "rsa:2048"]), "csr_key"),
        ("P-384", by_openssl(dir, &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"]), "csr_key"),
        ("secp256k1", by_openssl(dir, &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"]), "csr_key"),
        ("explicit P-256", by_openssl(dir, &explicit_p256()), "csr_key"),
        ("Ed25519", by_openssl(dir, &["-newkey", "ed25519"]), "csr_key"),
        ("garbage", (0..300_u16).flat_map(u16::to_le_bytes).collect(), "csr_malformed"),
        ("nothing", Vec::new(), "csr_malformed"),
        ("half of one", good[..good.len() / 2].to_vec(), "csr_malformed"),
        ("more than one", [good.clone(), other].concat(), "csr_malformed"),
        ("a certificate", rig_root(&rig), "csr_malformed"),
        ("17 KiB", vec![0x30; 17 * 1024], "csr_too_large"),
    ];
    for (what, request, reason) in table {
        let refused = workload.join(&request, &token).expect_err(what);
        assert_eq!(refused.verdict(), (Code::InvalidArgument, reason), "{what}: {refused:?}");
    }
    let waiting = rig.agent.ask_json(&["token", "list"]);
    assert_eq!(waiting[0]["state"], "waiting", "the token is not spent: {waiting}");
    assert_eq!(workload.join(&good, &token).unwrap().leaf().id.to_string(), spiffe_id(PATH), "a good one is signed");
}

/// Wants to be somebody else, and a CA.
fn ambitious(dir: &Path) -> Vec<u8> {
    let mut words = vec!["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/O=admin/CN=admin"];
    let names = format!(
        "subjectAltName=URI:{},URI:spiffe://elsewhere.example/ns/shop/sa/admin,DNS:evil.example",
        spiffe_id("/kith/ca")
    );
    for extension in [
        &*names,
        "basicConstraints=critical,CA:TRUE",
        "keyUsage=critical,keyCertSign,cRLSign",
        "extendedKeyUsage=codeSigning,anyExtendedKeyUsage",
    ] {
        words.extend(["-addext", extension]);
    }
    by_openssl(dir, &words)
}

/// The first request with the second one's public key in place of its own; both are of the same length.
fn with_key_of(request: &[u8], other: &[u8]) -> Vec<u8> {
    let point = |der: &[u8]| der.windows(3).position(|at| at == [0x03, 0x42, 0x00]).unwrap() + 3;
    let (at, from) = (point(request), point(other));
    let mut stolen = request.to_vec();
    stolen[at..at + 65].copy_from_slice(&other[from..from + 65]);
    stolen
}

fn explicit_p256() -> [&'static str; 6] {
    ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"]
}

/// A CSR that openssl makes: our own library has no such keys.
fn by_openssl(dir: &Path, key: &[&str]) -> Vec<u8> {
    let (request, private) = (dir.join("request.der"), dir.join("request.key"));
    let output = Command::new("openssl")
        .args(["req", "-new", "-nodes", "-outform", "DER", "-out"])
        .arg(&request)
        .arg("-keyout")
        .arg(&private)
        .args(key)
        .args(if key.contains(&"-subj") { &[][..] } else { &["-subj", "/CN=anybody"] })
        .output()
        .unwrap();
    assert!(output.status.success(), "openssl req {key:?}: {}", String::from_utf8_lossy(&output.stderr));
    fs::read(&request).unwrap()
}

/// The DER of the agent's root.
fn rig_root(rig: &Rig) -> Vec<u8> {
    let text = fs::read(rig.agent.bundle()).unwrap();
    x509_parser::pem::parse_x509_pem(&text).unwrap().1.contents
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut child = Command::new("base64").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // A few hundred bytes fit into the pipe.
    child.stdin.take().unwrap().write_all(der).unwrap();
    let body = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    format!("-----BEGIN {label}-----\n{body}-----END {label}-----\n")
}
