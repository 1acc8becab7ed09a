use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// A file (0600) that is written whole beside its place and then takes it at once. Dropped before that, it is gone.
#[derive(Debug)]
pub(crate) struct Staged {
    temporary: PathBuf,
    place: PathBuf,
    committed: bool,
}

impl Staged {
    /// Writes the content to the disk, under a name that nobody looks for.
    pub(crate) fn write(dir: &Path, name: &str, content: &[u8]) -> io::Result<Self> {
        let temporary = dir.join(format!(".{name}.new"));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // One that is left is from a process that died while it wrote.
            _ => {}
        }
        let staged = Self { temporary, place: dir.join(name), committed: false };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged.temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        Ok(staged)
    }

    /// Puts it in its place.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.place)?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            // It may never have been there; there is nobody left to tell.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Makes renames in a directory survive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a directory (0700), with those above it, or takes the one that is there.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Why a directory is no place for a key; `None` when it is one.
pub(crate) fn not_private(dir: &Path) -> io::Result<Option<String>> {
    let metadata = fs::metadata(dir)?;
    let mode = metadata.mode() & 0o777;
    let uid = rustix::process::geteuid().as_raw();
    if metadata.uid() != uid {
        return Ok(Some(format!("it belongs to user {}, expected {uid}", metadata.uid())));
    }
    Ok((mode & 0o077 != 0).then(|| format!("others can reach it (mode {mode:04o}), expected mode 0700")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn nobody_sees_half_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("svid.pem");
        Staged::write(dir.path(), "svid.pem", b"first").unwrap().commit().unwrap();
        let second = Staged::write(dir.path(), "svid.pem", b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        second.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

        drop(Staged::write(dir.path(), "svid.pem", b"third").unwrap());
        assert_eq!(names(dir.path()), ["svid.pem"]);
    }

    #[test]
    fn what_a_crash_has_left_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".key.new"), b"half").unwrap();
        Staged::write(dir.path(), "key", b"whole").unwrap().commit().unwrap();
        assert_eq!(fs::read(dir.path().join("key")).unwrap(), b"whole");
        assert_eq!(names(dir.path()), ["key"]);
    }

    #[test]
    fn a_directory_that_others_reach_is_no_place_for_a_key() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        make_dir(&dir).unwrap();
        make_dir(&dir).unwrap();
        assert_eq!(not_private(&dir).unwrap(), None);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o710)).unwrap();
        assert!(not_private(&dir).unwrap().unwrap().contains("0710"));
    }
}
