use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{BufWriter, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::APPLICATION_UID;
use crate::{Pod, Process, tcp, wait_for};

/// nginx, serving files from a directory of its own.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    root: PathBuf,
}

impl Nginx {
    /// Serves on these addresses of the pod, such as `0.0.0.0:80` and `[::]:80`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(pod: &Pod, listen: &[SocketAddr]) -> Self {
        let dir = pod.dir_of("nginx", APPLICATION_UID);
        let root = dir.join("files");
        fs::create_dir(&root).unwrap();
        // For uploads.
        std::os::unix::fs::chown(&root, Some(APPLICATION_UID), Some(APPLICATION_UID)).unwrap();
        let conf = dir.join("nginx.conf");
        fs::write(&conf, configuration(&dir, &root, listen)).unwrap();
        let process = pod
            .command("nginx")
            .args(["-e", "stderr", "-p"])
            .arg(&dir)
            .arg("-c")
            .arg(&conf)
            .uid(APPLICATION_UID)
            .spawn();
        wait_for("nginx writes its process id", Duration::from_secs(20), || {
            assert!(process.is_running(), "nginx ended: {}", process.log());
            fs::read_to_string(dir.join("pid")).ok().filter(|pid| pid.ends_with('\n'))
        });
        Self { process, root }
    }

    /// Serves a small file.
    pub fn put(&self, name: &str, content: &[u8]) {
        fs::write(self.root.join(name), content).unwrap();
    }

    /// Serves the pattern in this length and returns its SHA-256, in hexadecimal.
    #[must_use]
    pub fn put_pattern(&self, name: &str, seed: u64, len: usize) -> String {
        let path = self.root.join(name);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
        let block = tcp::pattern(seed, len.min(1 << 24));
        let mut left = len;
        while left > 0 {
            let now = left.min(block.len());
            file.write_all(&block[..now]).unwrap();
            left -= now;
        }
        drop(file.into_inner().unwrap());
        sha256(&path)
    }

    /// Where a file is that it serves, or that was uploaded to it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Panics
/// When it can't be read.
#[must_use]
pub fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

fn configuration(dir: &Path, root: &Path, listen: &[SocketAddr]) -> String {
    let (dir, root) = (dir.display(), root.display());
    let mut servers = String::new();
    for address in listen {
        writeln!(servers, "listen {address};").unwrap();
    }
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|what| format!("{what}_temp_path {dir}/{what};\n")).collect();
    format!(
        "daemon off;\n\
         pid {dir}/pid;\n\
         error_log stderr notice;\n\
         worker_processes 2;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
           access_log {dir}/access.log;\n\
           {temporary}\
           sendfile on;\n\
           client_max_body_size 0;\n\
           default_type application/octet-stream;\n\
           server {{\n\
             {servers}\
             root {root};\n\
             location = /peer {{ return 200 \"$remote_addr\\n\"; }}\n\
             location /upload/ {{ dav_methods PUT; create_full_put_path on; }}\n\
           }}\n\
         }}\n"
    )
}
