//! The outer process: it waits for the inner one, passes its end on, and removes whatever is left.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use kith_tests::net;
use rustix::process::{Pid, Signal, WaitOptions, geteuid, kill_process, set_child_subreaper, wait};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::screen::Screen;

/// Set for the inner process.
const INNER: &str = "KITH_DEMO_INNER";
/// Where the harness looks for the programs.
const PROGRAMS: &str = "KITH_BIN_DIR";
/// What a shell says of a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;
/// Killed processes are gone long before.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn is_inner() -> bool {
    env::var_os(INNER).is_some()
}

pub(crate) fn run() -> ExitCode {
    if !geteuid().is_root() {
        eprintln!("The demo makes network namespaces, so it must run as root.");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(watch())
}

async fn watch() -> ExitCode {
    // From here on a signal waits until somebody looks, instead of ending us.
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
    let [mut interrupt, mut terminate, mut hangup, mut quit] =
        signals.map(|kind| signal(kind).expect("signals can be caught"));
    // Whatever loses its parent becomes our child, so that nothing can hide from the end.
    set_child_subreaper(Pid::from_raw(1)).expect("a process may adopt its descendants");

    let child = start_inner();
    let inner = Pid::from_child(&child);
    let mut ended = wait_for(child);
    let code = tokio::select! {
        code = &mut ended => Some(code.expect("the inner process ends")),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        _ = hangup.recv() => None,
        _ = quit.recv() => None,
    };
    if code.is_none() {
        eprintln!("\nInterrupted: removing everything that was made.");
        let _ = kill_process(inner, Signal::KILL);
        let _ = ended.await;
    }
    let screen = Screen::new();
    match clean_up(inner) {
        Err(left) => {
            screen.failure(&format!("Left behind: {left}."));
            ExitCode::FAILURE
        }
        Ok(()) if code == Some(0) => {
            screen.fact("Left behind: no namespace, no process, no file.");
            ExitCode::SUCCESS
        }
        Ok(()) => ExitCode::from(code.map_or(INTERRUPTED, |code| u8::try_from(code).unwrap_or(1))),
    }
}

/// In a process group of its own: a Ctrl-C is for us alone.
fn start_inner() -> Child {
    let program = env::current_exe().expect("a process has a program");
    let mut command = Command::new(&program);
    command.env(INNER, "1").stdin(Stdio::null()).process_group(0);
    if env::var_os(PROGRAMS).is_none() {
        command.env(PROGRAMS, program.parent().expect("a program is in a directory"));
    }
    command.spawn().unwrap_or_else(|error| panic!("can't start {}: {error}", program.display()))
}

fn wait_for(mut child: Child) -> oneshot::Receiver<i32> {
    let (told, telling) = oneshot::channel();
    thread::spawn(move || {
        let code = child.wait().ok().and_then(|status| status.code()).unwrap_or(1);
        let _ = told.send(code);
    });
    telling
}

/// Ends what the inner process has started, removes what it has made, and looks whether that is so.
fn clean_up(inner: Pid) -> Result<(), String> {
    end_descendants()?;
    net::sweep();
    let ours = net::prefix_of(inner.as_raw_nonzero().get().unsigned_abs());
    let left = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&ours)))
    };
    match [Path::new("/run/netns"), &env::temp_dir()].into_iter().find_map(left) {
        Some(path) => Err(path.display().to_string()),
        None => Ok(()),
    }
}

/// A killed process leaves us its children, so we look until there are none.
fn end_descendants() -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    loop {
        children().into_iter().for_each(|child| {
            let _ = kill_process(child, Signal::KILL);
        });
        match wait(WaitOptions::NOHANG) {
            Err(_) => return Ok(()),
            Ok(Some(_)) => {}
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(5)),
            Ok(None) => return Err(format!("processes {:?}", children())),
        }
    }
}

fn children() -> Vec<Pid> {
    let me = std::process::id().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|number| {
            // The parent comes second after the name, which is in parentheses and may hold anything.
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) == Some(&me)
        })
        .filter_map(Pid::from_raw)
        .collect()
}
