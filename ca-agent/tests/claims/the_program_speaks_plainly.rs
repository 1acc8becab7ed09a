use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use kith_identity::{TrustBundle, TrustDomain};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kith-ca-agent");

fn run(arguments: &[&str], state: &Path) -> Output {
    Command::new(PROGRAM).args(arguments).env("KITH_STATE_DIR", state).output().unwrap()
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A program that runs and is killed with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Serving {
    fn start(state: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(state.join("log")).unwrap();
        let listen = ["--listen-attest=127.0.0.1:0", "--listen-mtls=127.0.0.1:0", "--admin-listen=127.0.0.1:0"];
        let child = Command::new(PROGRAM)
            .args(["serve", "--trust-domain=example.org", "--log=trace"])
            .args(listen)
            .env("KITH_STATE_DIR", state)
            .env("KITH_JOIN_TOKENS_FOR_WORKLOADS", "true")
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        let serving = Self(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !run(&["authority", "list"], state).status.success() {
            assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(state.join("log")).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        serving
    }

    fn terminate(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

#[test]
fn commands_print_tables_for_people_and_json_for_programs() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    let serving = Serving::start(state);
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&out(&run(&[arguments, &["-o", "json"]].concat(), state))).unwrap()
    };

    let id = "spiffe://example.org/ns/shop/sa/web";
    let token = out(&run(&["token", "create", "--spiffe-id", id, "--ttl", "30s"], state));
    assert_eq!((token.lines().count(), token.trim_end().len()), (1, 43 + 1 + 64));
    let made = json(&["token", "create", "--spiffe-id", id]);
    assert_eq!((made["spiffe_id"].as_str(), made["state"].as_str()), (Some(id), Some("waiting")));
    assert!(out(&run(&["token", "list"], state)).starts_with("ID                SPIFFE ID "));
    assert_eq!(json(&["token", "list"]).as_array().unwrap().len(), 2);
    out(&run(&["token", "delete", made["id"].as_str().unwrap()], state));
    assert_eq!(json(&["token", "list"]).as_array().unwrap().len(), 1);
    let gone = run(&["token", "delete", "abc"], state);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("token_unknown"));

    let domain: TrustDomain = "example.org".parse().unwrap();
    let bundle = TrustBundle::from_pem(domain.clone(), out(&run(&["bundle", "show"], state)).as_bytes()).unwrap();
    let shown = json(&["bundle", "show"]);
    let pem = shown["bundles"][0]["x509_authorities"][0].as_str().unwrap();
    assert_eq!(TrustBundle::from_pem(domain, pem.as_bytes()).unwrap(), bundle);
    let authorities = json(&["authority", "list"]);
    assert_eq!(token.trim_end().split_once('.').unwrap().1, authorities[0]["spki_sha256"].as_str().unwrap());
    assert!(out(&run(&["authority", "list"], state)).contains("issuing  active"));

    let own = "spiffe://example.org/kith/ca";
    assert!(out(&run(&["identities", "list"], state)).contains(own));
    let serial = json(&["identities", "list"])[0]["serial"].as_str().unwrap().to_owned();
    assert!(out(&run(&["identities", "show", &serial], state)).contains("ECDSA P-256"));
    assert_eq!(json(&["identities", "show", own])[0]["serial"].as_str(), Some(serial.as_str()));

    // A second one in the same place is refused and harms nothing.
    let second = run(&["serve", "--trust-domain=example.org", "--listen-attest=127.0.0.1:0"], state);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another agent runs in the state directory"));
    out(&run(&["token", "list"], state));

    assert_eq!(serving.terminate(), Some(0));
    let log = std::fs::read_to_string(state.join("log")).unwrap();
    assert!(log.contains("Created a join token") && log.contains("Stopped"));
    // Not even at the finest level.
    assert!(!log.contains(token.split('.').next().unwrap()), "a secret is in the log");
}

#[test]
fn a_killed_agent_starts_again_over_its_stale_socket() {
    let dir = tempfile::tempdir().unwrap();
    drop(Serving::start(dir.path()));
    assert!(dir.path().join("admin.sock").exists());
    let not_there = run(&["token", "list"], dir.path());
    assert_eq!(not_there.status.code(), Some(1));
    let error = String::from_utf8_lossy(&not_there.stderr).into_owned();
    assert!(error.contains("no agent is running at") && error.contains("kith-ca-agent serve"), "{error}");
    let serving = Serving::start(dir.path());
    assert_eq!(serving.terminate(), Some(0));
}

#[test]
fn a_wrong_flag_or_variable_is_two_and_names_itself() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &[&str]); 4] = [
        (&["serve"], &["--trust-domain"]),
        (&["serve", "--trust-domain=example.org", "--svid-lifetime=soon"], &["'soon'", "--svid-lifetime", "such as"]),
        (&["serve", "--trust-domain=example.org", "--svid-lifetime=2s"], &["'2s'", "--svid-lifetime", "at least"]),
        (&["token", "create", "--spiffe-id=web"], &["'web'", "--spiffe-id", "spiffe://"]),
    ];
    for (arguments, expected) in cases {
        let output = run(arguments, dir.path());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    }
    let variable = Command::new(PROGRAM).arg("serve").env("KITH_TRUST_DOMAIN", "EX").output().unwrap();
    assert_eq!(variable.status.code(), Some(2));
    let log = run(&["serve", "--trust-domain=example.org", "--log=a=b=c"], dir.path());
    let error = String::from_utf8_lossy(&log.stderr).into_owned();
    assert!(log.status.code() == Some(2) && error.contains("--log") && error.contains("'a=b=c'"), "{error}");
}

#[test]
fn a_taken_port_is_one_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let flag = format!("--listen-attest={}", taken.local_addr().unwrap());
    let output = run(&["serve", "--trust-domain=example.org", &flag], dir.path());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&taken.local_addr().unwrap().to_string()) && error.contains("in use"), "{error}");
}
