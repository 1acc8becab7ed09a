use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use kith_tests::{
    capture::contains,
    kith_proxy,
    sidecar::{SIDECAR_UID, identity_args, token_file},
    wait_until,
};

use crate::{
    rig::{Rig, Svid, WEB},
    workload::{Workload, csr, new_key},
};

#[test]
fn no_token_and_no_key_is_in_any_log_at_its_most_talkative() {
    let rig = Rig::new(&["--svid-lifetime", "8s", "--log", "trace"]);
    let state = rig.server.dir_of("state", SIDECAR_UID);
    fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut secrets = Secrets::default();

    // A sidecar that keeps its key where a test can find it, and a program that has its token as an argument.
    let token = rig.agent.token(WEB);
    secrets.token(&token);
    let state_dir = state.to_str().unwrap();
    let sidecar = rig.web().token(&*token).args(&["--log", "trace", "--state-dir", state_dir]).ready();
    let argument = rig.agent.token("/tools/backup");
    secrets.token(&argument);
    let mesh_less = Svid::begin(&rig.client, {
        let nowhere = token_file(&rig.client, "");
        let command = rig.client.command(kith_proxy()).arg("svid");
        let words: Vec<_> = identity_args(command, &rig.agent, &nowhere).words();
        // Without the last two, which name a file.
        let words = &words[1..words.len() - 2];
        rig.client
            .command(kith_proxy())
            .args(words)
            .args(["--join-token", &argument, "--log", "trace", "--log-format", "json"])
            .uid(SIDECAR_UID)
    });

    // Tokens that are refused are secrets too: they may have been another's, or only late.
    let workload = Workload::new(&rig.client, &rig.agent);
    let late = rig.expired_token("/tools/late");
    let unknown = "A".repeat(43);
    for refused in [&late, &unknown] {
        secrets.token(refused);
    }
    let request = csr(&new_key());
    for (token, request, reason) in [
        (&late, &*request, "token_expired"),
        (&unknown, &*request, "token_unknown"),
        (&argument, &*request, "token_spent"),
        (&argument, b"garbage", "csr_malformed"),
    ] {
        assert_eq!(workload.join(request, token).unwrap_err().verdict().1, reason);
    }

    let mut rotations = 0;
    let (mut last, mut last_of_sidecar) = (String::new(), String::new());
    wait_until("both have rotated", Duration::from_secs(60), || {
        let key = fs::read_to_string(mesh_less.file("svid.key.pem")).unwrap();
        let kept = kept_key(&state);
        for (key, last) in [(key, &mut last), (kept, &mut last_of_sidecar)] {
            if key != *last {
                secrets.key(&key);
                rotations += 1;
                *last = key;
            }
        }
        rotations >= 6
    });
    for key in key_files(rig.agent.state_dir()) {
        secrets.key(&fs::read_to_string(key).unwrap());
    }

    let logs =
        [("the agent", rig.agent.log()), ("the sidecar", sidecar.process().log()), ("svid", mesh_less.process.log())];
    for (name, log) in logs {
        assert!(log.contains("TRACE"), "{name} is talkative: {}", &log[..log.len().min(2000)]);
        secrets.assert_not_in(name, &log);
    }
    // It finds what is there.
    assert!(secrets.found_in(&format!("x {argument} y")).is_some());
    assert!(secrets.found_in(&fs::read_to_string(mesh_less.file("svid.key.pem")).unwrap()).is_some());
}

#[test]
fn a_sidecars_key_is_on_no_disk_and_in_no_core_dump() {
    let rig = Rig::new(&[]);
    let sidecar = rig.web().ready();
    for (name, pid) in [("the sidecar", sidecar.process().pid()), ("the agent", rig.agent.pid())] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let [soft, hard] = [4, 5].map(|field| core.split_whitespace().nth(field).unwrap());
        assert_eq!((soft, hard), ("0", "0"), "{name}: {core}");
    }
    // The kernel gives the files of a process that may not be dumped to root (proc(5)).
    let process = PathBuf::from(format!("/proc/{}", sidecar.process().pid()));
    let runs_as = fs::read_to_string(process.join("status")).unwrap();
    assert!(runs_as.contains(&format!("Uid:\t{SIDECAR_UID}\t")), "{runs_as}");
    assert_eq!(fs::metadata(process.join("environ")).unwrap().uid(), 0, "not dumpable");
    // Where its user may write, there is nothing of it; and it holds no file open but its logs.
    let files = fs::read_dir(process.join("fd")).unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    let files: Vec<_> = files.filter(|file| file.is_file()).collect();
    assert!(files.iter().all(|file| is_log(file)), "{files:?}");
    let with_keys: Vec<_> = files_below(rig.net.dir())
        .into_iter()
        .filter(|file| !file.starts_with(rig.agent.state_dir()))
        .filter(holds_key)
        .collect();
    assert!(with_keys.is_empty(), "only the agent keeps keys: {with_keys:?}");
    assert!(!key_files(rig.agent.state_dir()).is_empty(), "which are found where they are");
    for key in key_files(rig.agent.state_dir()) {
        assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600, "{}", key.display());
    }
}

fn is_log(file: &Path) -> bool {
    file.extension().is_some_and(|end| end == "stdout" || end == "stderr")
}

/// The key that a sidecar keeps in its state directory, as PEM.
fn kept_key(state: &Path) -> String {
    let text = fs::read_to_string(state.join("identity.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&text).unwrap();
    kept["key"].as_str().unwrap().to_owned()
}

fn key_files(dir: &Path) -> Vec<PathBuf> {
    files_below(dir).into_iter().filter(holds_key).collect()
}

/// Whether there is a key in it, and not only the words around one, as in a program.
fn holds_key(file: &PathBuf) -> bool {
    let content = fs::read(file).unwrap_or_default();
    ["", "EC "].iter().any(|kind| contains(&content, format!("-----BEGIN {kind}PRIVATE KEY-----\nM").as_bytes()))
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let below = entries.flatten().flat_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files_below(&entry.path()),
        Ok(kind) if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    });
    below.collect()
}

/// What must not be seen, in every form in which a program might print bytes.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn token(&mut self, token: &str) {
        let secret = token.split('.').next().unwrap();
        self.add("a token", secret.to_owned());
        self.bytes("a token", secret.as_bytes());
    }

    /// A PKCS #8 key in PEM, from among whatever else there is.
    fn key(&mut self, text: &str) {
        let pem = &text[text.find("-----BEGIN PRIVATE KEY-----").expect("a key in PEM")..];
        let pem = &pem[..pem.find("-----END").unwrap()];
        let pem = &format!("{pem}-----END PRIVATE KEY-----\n");
        let body: Vec<_> = pem.lines().filter(|line| !line.is_empty() && !line.starts_with("-----")).collect();
        for line in body.iter().filter(|line| line.len() > 20) {
            self.add("a line of a key's PEM", (*line).to_owned());
        }
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        // SEC 1, appendix C.4: version 1, then the scalar as an octet string.
        let mark = [0x02, 0x01, 0x01, 0x04, 0x20];
        let at = pem.contents.windows(5).position(|bytes| bytes == mark).expect("a P-256 key") + 5;
        self.bytes("a key", &pem.contents[at..at + 32]);
    }

    fn bytes(&mut self, what: &str, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.add(what, hex.to_uppercase());
        self.add(what, hex);
        let list: Vec<_> = bytes.iter().take(12).map(ToString::to_string).collect();
        self.add(what, list.join(", "));
        self.add(what, list.join(","));
        self.add(what, bytes.iter().take(16).flat_map(|byte| byte.escape_ascii()).map(char::from).collect());
    }

    fn add(&mut self, what: &str, form: String) {
        self.0.push((what.to_owned(), form));
    }

    fn found_in<'a>(&'a self, text: &str) -> Option<&'a (String, String)> {
        self.0.iter().find(|(_, form)| text.contains(form.as_str()))
    }

    fn assert_not_in(&self, name: &str, log: &str) {
        if let Some((what, form)) = self.found_in(log) {
            let line = log.lines().find(|line| line.contains(form.as_str())).unwrap_or_default();
            panic!("{what} is in the log of {name}: {line}");
        }
    }
}
