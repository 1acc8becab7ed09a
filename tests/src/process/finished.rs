use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

/// What a program left when it ended.
#[derive(Debug)]
pub struct Finished {
    /// What was run.
    pub name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: String,
}

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// The most it ever was.
    pub peak: u64,
    /// What it is now.
    pub resident: u64,
}

impl Finished {
    /// What it wrote, if it ended well.
    ///
    /// # Panics
    /// When it did not, with what it said.
    #[track_caller]
    #[must_use]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{} failed: {}\n{}{}", self.name, self.status, self.text(), self.stderr);
        self.text()
    }

    /// Its standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its exit code; none when a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}
