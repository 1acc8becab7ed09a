//! Files that hold keys: mode 0600, whole or not there at all, never overwritten.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use zeroize::Zeroizing;

use super::KeyError;

/// No key file of anybody is larger.
const LARGEST: u64 = 1024 * 1024;

/// What a half-written file is called. It is never read.
const UNFINISHED: &str = "unfinished-";

/// Makes a directory that only its owner can look into, and those above it.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), KeyError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// Reads a file whose permission bits are none of `forbidden`.
pub(crate) fn read(path: &Path, forbidden: u32) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let file = File::open(path).map_err(at(path))?;
    let metadata = file.metadata().map_err(at(path))?;
    if !metadata.is_file() {
        return Err(at(path)(io::Error::other("it is no regular file")));
    }
    let mode = metadata.mode() & 0o777;
    if mode & forbidden != 0 {
        return Err(KeyError::Permissions { path: path.to_owned(), mode });
    }
    let mut content = Zeroizing::new(Vec::new());
    file.take(LARGEST).read_to_end(&mut content).map_err(at(path))?;
    Ok(content)
}

/// Writes a file that is not there yet. After a crash it is there whole, or not at all.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<(), KeyError> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(at(path)(io::ErrorKind::InvalidInput.into()));
    };
    let unfinished = dir.join(format!("{UNFINISHED}{}", name.to_string_lossy()));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        renameat_with(CWD, &unfinished, CWD, path, RenameFlags::NOREPLACE)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        at(path)(error)
    })
}

/// Removes a file that is no longer needed.
pub(crate) fn remove(path: &Path) -> Result<(), KeyError> {
    fs::remove_file(path).map_err(at(path))
}

/// The files of a directory whose names begin and end so, sorted; what a crash left half-written is removed.
/// The caller holds the state directory's lock, so nobody else is writing.
pub(crate) fn list(dir: &Path, prefix: &str, suffix: &str) -> Result<Vec<PathBuf>, KeyError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
        if name.starts_with(UNFINISHED) {
            remove(&path)?;
        } else if name.starts_with(prefix) && name.ends_with(suffix) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn at(path: &Path) -> impl Fn(io::Error) -> KeyError + use<> {
    let path = path.to_owned();
    move |source| KeyError::Io { path: path.clone(), source }
}
