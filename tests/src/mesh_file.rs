//! The mesh file that a test's sidecars follow.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use crate::{
    Net, Pod,
    agent::TRUST_DOMAIN,
    net::{PODS_V4, PODS_V6, SERVICES_V4, SERVICES_V6},
};

/// A mesh file that can be changed while sidecars follow it.
#[derive(Debug)]
pub struct MeshFile {
    path: PathBuf,
    workloads: Mutex<String>,
    rest: Mutex<String>,
}

impl MeshFile {
    /// A mesh without workloads.
    #[must_use]
    pub fn new(net: &Net) -> Self {
        let path = net.dir_of("mesh", 0).join("mesh.yaml");
        Self { path, workloads: Mutex::default(), rest: Mutex::default() }
    }

    /// Lists a pod as a workload behind a sidecar, with this path as its SPIFFE ID's.
    pub fn meshed(self, pod: &Pod, path: &str) -> Self {
        self.workload(pod, "meshed", Some(path), "")
    }

    /// Lists a pod as a workload of this kind; `more` are further fields, such as `skip_ports: [80]`.
    ///
    /// # Panics
    /// Never.
    pub fn workload(self, pod: &Pod, kind: &str, path: Option<&str>, more: &str) -> Self {
        let addresses: Vec<_> = pod.addresses().iter().map(|address| format!("\"{address}\"")).collect();
        let mut text = self.workloads.lock().unwrap();
        let (name, addresses) = (pod.name(), addresses.join(", "));
        writeln!(text, "  - name: {name}\n    addresses: [{addresses}]\n    kind: {kind}").unwrap();
        if let Some(path) = path {
            writeln!(text, "    spiffe_id: spiffe://{TRUST_DOMAIN}{path}").unwrap();
        }
        if !more.is_empty() {
            writeln!(text, "    {more}").unwrap();
        }
        drop(text);
        self.write();
        self
    }

    /// Sets everything behind the workloads: `services:`, `policies:`, `outbound:`.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn set_rest(&self, yaml: &str) {
        yaml.clone_into(&mut self.rest.lock().unwrap());
        self.write();
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self) {
        let (workloads, rest) = (self.workloads.lock().unwrap(), self.rest.lock().unwrap());
        let networks = [PODS_V4, PODS_V6, SERVICES_V4, SERVICES_V6].join("\", \"");
        let text =
            format!("trust_domain: {TRUST_DOMAIN}\nmesh_networks: [\"{networks}\"]\nworkloads:\n{workloads}{rest}\n");
        let fresh = self.path.with_extension("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, &self.path).unwrap();
    }
}
