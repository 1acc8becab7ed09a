//! Programs in pods.

mod finished;

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

pub use self::finished::{Finished, Memory};
use crate::{Pod, wait_until};

/// How long [`PodCommand::output`] waits unless told otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// A program that will run in a pod.
#[derive(Debug)]
#[must_use]
pub struct PodCommand {
    pod: Pod,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    current_dir: Option<PathBuf>,
    uid: Option<u32>,
    open_files: Option<u64>,
    own_ipc: bool,
    stdin: Input,
    timeout: Duration,
}

#[derive(Debug)]
enum Input {
    Nothing,
    Pipe,
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// A program that runs in a pod; it and its process group are killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Mutex<Child>,
    pid: Pid,
    stdin: Option<ChildStdin>,
    stdout: PathBuf,
    stderr: PathBuf,
    // Keeps the net's directory.
    pod: Pod,
}

impl PodCommand {
    pub(crate) fn new(pod: &Pod, program: &OsStr) -> Self {
        Self {
            pod: pod.clone(),
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            current_dir: None,
            uid: None,
            open_files: None,
            own_ipc: false,
            stdin: Input::Nothing,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// The program and its arguments, for a shell that is to run them.
    pub fn words(&self) -> Vec<OsString> {
        std::iter::once(&self.program).chain(&self.args).cloned().collect()
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it there.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.current_dir = Some(dir.as_ref().to_owned());
        self
    }

    /// Runs it as this user and group, with no other groups.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Limits its open files, softly and hard.
    pub fn open_files(mut self, limit: u64) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Gives it System V memory of its own, which is gone with it however it ends.
    pub fn own_ipc(mut self) -> Self {
        self.own_ipc = true;
        self
    }

    /// Gives it a pipe, which [`Process::stdin`] hands out.
    pub fn stdin_piped(mut self) -> Self {
        self.stdin = Input::Pipe;
        self
    }

    /// Gives it these bytes to read, then the end.
    pub fn stdin_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// Gives it a file to read.
    pub fn stdin_file(mut self, path: impl AsRef<Path>) -> Self {
        self.stdin = Input::File(path.as_ref().to_owned());
        self
    }

    /// How long [`PodCommand::output`] and [`PodCommand::run`] wait; a minute unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn spawn(self) -> Process {
        let net = self.pod.net();
        let program = Path::new(&self.program).file_name().unwrap_or(&self.program).to_string_lossy().into_owned();
        let name = format!("{}-{program}-{}", self.pod.name(), net.number());
        let [stdin_file, stdout, stderr] =
            ["stdin", "stdout", "stderr"].map(|end| net.dir().join(format!("{name}.{end}")));

        let mut command = self.command();
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        command.stdin(match &self.stdin {
            Input::Nothing => Stdio::null(),
            Input::Pipe => Stdio::piped(),
            Input::File(path) => File::open(path).unwrap().into(),
            Input::Bytes(bytes) => {
                fs::write(&stdin_file, bytes).unwrap();
                File::open(&stdin_file).unwrap().into()
            }
        });
        let mut child = command.spawn().unwrap_or_else(|error| panic!("can't start {name}: {error}"));
        net.keep_log(&stdout);
        net.keep_log(&stderr);
        let pid = Pid::from_child(&child);
        let stdin = child.stdin.take();
        Process { name, child: Mutex::new(child), pid, stdin, stdout, stderr, pod: self.pod }
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Panics
    /// When it does not end in time.
    #[must_use]
    pub fn output(self) -> Finished {
        let timeout = self.timeout;
        self.spawn().wait_for_exit(timeout)
    }

    /// Runs it to its successful end and returns what it wrote.
    ///
    /// # Panics
    /// When it fails, with what it said.
    #[track_caller]
    pub fn run(self) -> String {
        self.output().success()
    }

    /// The program, or a link to it where the user who is to run it can reach it: a build may be in a private directory.
    fn reachable_program(&self) -> OsString {
        let program = Path::new(&self.program);
        let private = |dir: &Path| fs::metadata(dir).is_ok_and(|found| found.permissions().mode() & 1 == 0);
        if self.uid.is_none() || !program.is_absolute() || !program.ancestors().skip(1).any(private) {
            return self.program.clone();
        }
        let link = self.pod.dir().join(program.file_name().unwrap());
        if !link.exists() && fs::hard_link(program, &link).is_err() {
            fs::copy(program, &link).unwrap();
        }
        link.into()
    }

    /// Each of these programs becomes the next, so that the child's process id is the program's.
    fn command(&self) -> Command {
        let mut words: Vec<OsString> = vec!["nsenter".into(), format!("--net={}", self.pod.netns().display()).into()];
        if let Some(limit) = self.open_files {
            words.extend(["prlimit".into(), format!("--nofile={limit}:{limit}").into()]);
        }
        if self.own_ipc {
            words.extend(["unshare", "--ipc"].map(OsString::from));
        }
        if let Some(uid) = self.uid {
            let [user, group] = [format!("--reuid={uid}"), format!("--regid={uid}")];
            words.extend(["setpriv".into(), user.into(), group.into(), "--clear-groups".into()]);
        }
        words.push("--".into());
        let (first, rest) = words.split_first().unwrap();
        let mut command = Command::new(first);
        command
            .args(rest)
            .arg(self.reachable_program())
            .args(&self.args)
            .envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(dir) = &self.current_dir {
            command.current_dir(dir);
        }
        command.process_group(0);
        command
    }
}

impl Process {
    /// What it is called in reports: pod, program and a number.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Its input, once, if it was given a pipe; dropping it is its end.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap_or_else(|error| panic!("{} is not there: {error}", self.name));
    }

    /// Whether it has not ended yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within this time.
    #[track_caller]
    pub fn wait_for_exit(&self, within: Duration) -> Finished {
        wait_until(&format!("{} ends", self.name), within, || !self.is_running());
        let status = self.child.lock().unwrap().wait().unwrap();
        let stdout = fs::read(&self.stdout).unwrap_or_default();
        Finished { name: self.name.clone(), status, stdout, stderr: self.stderr() }
    }

    /// Asks it to end (SIGTERM) and waits for that.
    #[track_caller]
    pub fn stop(&self, within: Duration) -> Finished {
        if self.is_running() {
            self.signal(Signal::TERM);
        }
        self.wait_for_exit(within)
    }

    /// Ends it with SIGKILL, and waits until it is gone.
    pub fn kill(&self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner).wait();
    }

    /// What it wrote to its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// What it wrote to its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Both outputs, one after the other.
    #[must_use]
    pub fn log(&self) -> String {
        self.stdout() + &self.stderr()
    }

    /// Waits until it has written this.
    ///
    /// # Panics
    /// When it ends before that, or does not within this time.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str, within: Duration) {
        wait_until(&format!("{} writes {text:?}", self.name), within, || {
            let running = self.is_running();
            let found = self.log().contains(text);
            assert!(running || found, "{} ended without {text:?}:\n{}", self.name, self.log());
            found
        });
    }

    /// The most memory it ever held, in bytes, and what it holds now.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the process lives");
            line.trim_start_matches(':').trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
        };
        Memory { peak: field("VmHWM"), resident: field("VmRSS") }
    }

    /// The pod it runs in.
    #[must_use]
    pub fn pod(&self) -> &Pod {
        &self.pod
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin.take();
        let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !matches!(child.try_wait(), Ok(None)) {
            // Its id may be another's by now. What it left running goes with the net.
            return;
        }
        let _ = kill_process_group(self.pid, Signal::KILL);
        let until = Instant::now() + Duration::from_secs(5);
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
    }
}
