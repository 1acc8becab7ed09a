//! What a process that holds keys asks of the kernel about itself.

use rustix::{
    io::Errno,
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
};

/// What could not be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HardenError {
    /// RLIMIT_CORE.
    #[error("core dumps can't be turned off")]
    CoreLimit(#[source] Errno),
    /// PR_SET_DUMPABLE.
    #[error("the process can't be made undumpable")]
    Dumpable(#[source] Errno),
    /// RLIMIT_NOFILE.
    #[error("the limit of open files can't be raised")]
    OpenFiles(#[source] Errno),
}

/// What holds for the process after [`harden`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardened {
    /// How many descriptors it may hold; None where there is no limit.
    pub open_files: Option<u64>,
}

/// Leaves no core dumps, lets no other process of the same user read this one's memory (both hold keys), and raises
/// the soft limit of open files to the hard one. Call it before anything secret is in memory.
///
/// An undumpable process's `/proc/self` belongs to root: without root, `/proc/self/fd` and its like can't be read.
///
/// # Errors
/// When the kernel refuses one of the three; those before it hold.
pub fn harden() -> Result<Hardened, HardenError> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(HardenError::CoreLimit)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(HardenError::Dumpable)?;
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).map_err(HardenError::OpenFiles)?;
    Ok(Hardened { open_files: hard })
}
