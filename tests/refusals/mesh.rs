//! One running mesh, whose issuing authority's key the test holds, so that it can also issue what no CA of ours would.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
};

use kith_tests::{Agent, Issued, Leaf, MeshFile, Net, Pki, Pod, Sidecar, agent::TRUST_DOMAIN, spiffe_id};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub(crate) const FRONT: &str = "/ns/shop/sa/front";
pub(crate) const WEB: &str = "/ns/shop/sa/web";
pub(crate) const PARTNER: &str = "/ns/shop/sa/partner";
pub(crate) const GHOST: &str = "/ns/shop/sa/ghost";
/// A workload that nobody lists.
pub(crate) const LEGACY: &str = "/ns/shop/sa/legacy";

/// Only the front may reach it.
pub(crate) const GUARDED: u16 = 7002;
/// Nobody may reach it.
pub(crate) const FORBIDDEN: u16 = 7003;
/// Its application speaks HTTP/2.
pub(crate) const H2: u16 = 7004;

/// A service of two endpoints: the web, and the ghost.
pub(crate) const SERVICE: (std::net::Ipv4Addr, u16) = (std::net::Ipv4Addr::new(10, 96, 0, 10), 80);
/// The port of its endpoints.
pub(crate) const TARGET: u16 = 7010;

const SERVICES_AND_POLICIES: &str = "\
services:
  - name: shop
    addresses: [10.96.0.10]
    ports:
      - {port: 80, target_port: 7010}
    endpoints:
      - workload: web
      - workload: ghost
policies:
  - name: web
    layer: {workloads: [web]}
    ports:
      7004: {alpn: [h2]}
    rules:
      - name: front-only
        action: allow
        ports: [7002]
        from:
          - service_account: {namespace: shop, name: front}
      - name: nobody
        action: deny
        ports: [7003]
        from:
          - namespace: shop
";

/// Two sidecars, what calls them and what they call.
pub(crate) struct Mesh {
    pub(crate) outbound: Sidecar,
    pub(crate) inbound: Sidecar,
    /// Its sidecar is `outbound`.
    pub(crate) front: Pod,
    /// Its sidecar is `inbound`.
    pub(crate) web: Pod,
    /// Foreign to the mesh, by its entry: plain mutual TLS with the SVID of [`PARTNER`].
    pub(crate) partner: Pod,
    /// Meshed by its entry, with the SVID of [`GHOST`], but without a sidecar.
    pub(crate) ghost: Pod,
    /// Not in the mesh file, without a sidecar.
    pub(crate) stranger: Pod,
    pub(crate) agent: Agent,
    pub(crate) pki: Pki,
    pub(crate) net: Net,
}

/// How to start one.
#[derive(Default)]
pub(crate) struct Settings<'a> {
    /// For both sidecars.
    pub(crate) args: &'a [&'a str],
    /// A bound on each sidecar's open files.
    pub(crate) open_files: Option<u64>,
}

impl Mesh {
    pub(crate) fn start(settings: &Settings<'_>) -> Self {
        raise_open_files();
        let net = Net::new();
        let pki = Pki::new(TRUST_DOMAIN);
        let [control, front, web, partner, ghost, stranger] =
            ["control", "front", "web", "partner", "ghost", "stranger"].map(|name| net.pod(name));
        let agent = operators_agent(&control, &pki);
        let file = MeshFile::new(&net)
            .meshed(&front, FRONT)
            .meshed(&web, WEB)
            .workload(&partner, "foreign", Some(PARTNER), "")
            .meshed(&ghost, GHOST);
        file.set_rest(SERVICES_AND_POLICIES);
        let [outbound, inbound] = [(&front, FRONT), (&web, WEB)].map(|(pod, path)| {
            let start = Sidecar::of(pod, &agent, file.path(), path).args(settings.args);
            match settings.open_files {
                Some(limit) => start.open_files(limit),
                None => start,
            }
            .begin()
        });
        outbound.wait_ready();
        inbound.wait_ready();
        Self { outbound, inbound, front, web, partner, ghost, stranger, agent, pki, net }
    }

    /// A good SVID.
    pub(crate) fn svid(&self, path: &str) -> Issued {
        self.pki.issue(&Leaf::of(spiffe_id(path)))
    }
}

/// An agent that issues with the operator's own authority, and whose bundle still holds a root that has expired.
fn operators_agent(pod: &Pod, pki: &Pki) -> Agent {
    let dir = pod.dir_of("authority", 0);
    let (certificate, key) = pki.issuing();
    let files = [("issuing.pem", certificate), ("issuing.key.pem", key), ("roots.pem", pki.bundle_with_expired_root())];
    let [certificate, key, roots] = files.map(|(name, text)| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    });
    Agent::start(pod, &["--issuing-cert", &certificate, "--issuing-key", &key, "--root-bundle", &roots])
}

/// How often this direction of a sidecar refused for this reason: as handshakes, and as connections.
pub(crate) fn refused(sidecar: &Sidecar, direction: &str, reason: &str) -> (f64, f64) {
    let handshakes =
        format!("kith_handshakes_total{{direction=\"{direction}\",result=\"failed\",reason=\"{reason}\"}}");
    (sidecar.metric(&handshakes), closed(sidecar, direction, "refused", reason))
}

/// How many connections have ended so.
pub(crate) fn closed(sidecar: &Sidecar, direction: &str, outcome: &str, reason: &str) -> f64 {
    let labels = format!("direction=\"{direction}\",outcome=\"{outcome}\",reason=\"{reason}\"");
    sidecar.metric(&format!("kith_connections_closed_total{{{labels}}}"))
}

/// How many connections are open.
pub(crate) fn open(sidecar: &Sidecar, direction: &str) -> f64 {
    sidecar.metric(&format!("kith_connections_open{{direction=\"{direction}\"}}"))
}

/// Sends this and reads to the end: whether that was a reset without a byte before it.
///
/// The reset may come before we have looked at the connection that was made; one that was refused is no reset.
pub(crate) fn is_reset(connected: std::io::Result<TcpStream>, send: &[u8]) -> bool {
    let is_reset = |error: &std::io::Error| matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(error) => return is_reset(&error),
    };
    if let Err(error) = stream.write_all(send) {
        return is_reset(&error);
    }
    let mut heard = Vec::new();
    let end = stream.read_to_end(&mut heard);
    heard.is_empty() && end.is_err_and(|error| is_reset(&error))
}

/// Sends this to an echo and reads it back; the connection stays open.
pub(crate) fn assert_echo(mut stream: &TcpStream, send: &[u8], whose: &str) {
    stream.write_all(send).unwrap_or_else(|error| panic!("{whose}: {error}"));
    let mut heard = vec![0; send.len()];
    stream.read_exact(&mut heard).unwrap_or_else(|error| panic!("{whose}: {error}"));
    assert!(heard == send, "{whose}: something else came back");
}

/// The thousands of connections of some tests, and the programs under test, need descriptors.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(65_536, |hard| hard.max(65_536));
    let raised = Rlimit { current: Some(wanted), maximum: Some(wanted) };
    if setrlimit(Resource::Nofile, raised).is_err() {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    }
}
