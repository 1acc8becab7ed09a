use std::{fs, path::PathBuf, time::Duration};

use rustix::process::Signal;

use crate::{Pod, PodCommand, Process, wait_until};

/// Debian's place of the server's programs, which are not in the path.
const PROGRAMS: &str = "/usr/lib/postgresql";

/// PostgreSQL with a database in a directory of its own, owned by `postgres`, with the password [`Postgres::PASSWORD`].
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    dir: PathBuf,
}

impl Postgres {
    /// The password of the user `postgres`.
    pub const PASSWORD: &str = "a-password-for-tests";

    /// Listens on these addresses (`*` for all) of the pod, port 5432. Loopback (and the socket in its directory) needs
    /// no password, everyone else does.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(pod: &Pod, listen: &str) -> Self {
        let uid = uid();
        let dir = pod.dir_of("postgres", uid);
        let password = dir.join("password");
        fs::write(&password, Self::PASSWORD).unwrap();
        std::os::unix::fs::chown(&password, Some(uid), Some(uid)).unwrap();
        let data = dir.join("data");
        let pwfile = format!("--pwfile={}", password.display());
        program(pod, "initdb")
            .args(["-U", "postgres", "-A", "scram-sha-256", "--no-sync", &pwfile, "-D"])
            .arg(&data)
            .run();
        fs::write(
            data.join("pg_hba.conf"),
            "local all all trust\n\
             host all all 127.0.0.1/32 trust\n\
             host all all ::1/128 trust\n\
             host all all all scram-sha-256\n",
        )
        .unwrap();
        let process = program(pod, "postgres")
            .arg("-D")
            .arg(&data)
            .args(["-c", &format!("listen_addresses={listen}")])
            .args(["-c", &format!("unix_socket_directories={}", dir.display())])
            .args(["-c", "fsync=off", "-c", "dynamic_shared_memory_type=mmap"])
            .spawn();
        let server = Self { process, dir };
        wait_until("PostgreSQL is ready", Duration::from_secs(30), || {
            assert!(server.process.is_running(), "PostgreSQL ended: {}", server.process.log());
            program(pod, "pg_isready").arg("-h").arg(&server.dir).output().status.success()
        });
        server
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its children have groups of their own, so it must take them along.
        if self.process.is_running() {
            self.process.signal(Signal::QUIT);
            let deadline = std::time::Instant::now() + Duration::from_secs(5);
            while self.process.is_running() && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// A client program of PostgreSQL's (`psql`, `pgbench`) in this pod, which knows the user and the password.
pub fn client(pod: &Pod, name: &str, host: &str) -> PodCommand {
    program(pod, name)
        .env("PGPASSWORD", Postgres::PASSWORD)
        .env("PGUSER", "postgres")
        .env("PGDATABASE", "postgres")
        .env("PGHOST", host)
        .env("PGCONNECT_TIMEOUT", "30")
}

fn program(pod: &Pod, name: &str) -> PodCommand {
    let mut versions: Vec<_> = fs::read_dir(PROGRAMS).expect("PostgreSQL is installed").flatten().collect();
    versions.sort_by_key(std::fs::DirEntry::file_name);
    let version = versions.pop().expect("PostgreSQL is installed").path();
    // The user's home is not needed, and the caller's is not readable.
    pod.command(version.join("bin").join(name)).own_ipc().uid(uid()).env("HOME", "/nonexistent").current_dir("/")
}

fn uid() -> u32 {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("there is a user postgres");
    line.split(':').nth(2).unwrap().parse().unwrap()
}
