//! Leaving nothing behind, also after a test that could not clean up itself.

use std::{
    fs,
    path::Path,
    process::{self, Command, Stdio},
    sync::Once,
};

use rustix::process::{Pid, Signal, kill_process};

use super::PREFIX;

/// Ends the processes in a namespace of ours and removes it.
pub(super) fn delete_namespace(name: &str) {
    let processes = Command::new("ip").args(["netns", "pids", name]).stderr(Stdio::null()).output();
    let processes = processes.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let ours = i32::try_from(process::id()).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.trim().parse().ok()).filter(|pid| *pid != ours) {
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
}

/// Removes, once a process, what others left behind whose process is gone.
pub fn sweep() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        orphans(Path::new("/run/netns")).iter().for_each(|name| delete_namespace(name));
        let temporary = std::env::temp_dir();
        for name in orphans(&temporary) {
            let _ = fs::remove_dir_all(temporary.join(name));
        }
    });
}

/// Names of the form `kith-<pid>-…` whose process is no more.
fn orphans(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| {
            let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
            owner
                .and_then(|pid| pid.parse::<u32>().ok())
                .is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        })
        .collect()
}
