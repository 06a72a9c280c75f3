//! A snapshot as a directory of immutable files (a RocksDB checkpoint), never as bytes in memory.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::remove;

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Plain file name, no separators.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// A directory that holds a whole snapshot. Cheap to clone: clones share one lease on the
/// directory, so that a snapshot that was replaced meanwhile is removed only when its last reader
/// (a transfer to a slow follower) is done.
#[derive(Clone, Debug)]
pub struct SnapshotDir {
    lease: Arc<DirLease>,
    /// Every file of the snapshot, sorted by name.
    pub files: Vec<SnapshotFile>,
}

/// A directory that is removed when the last holder is gone, if it was declared obsolete by then.
#[derive(Debug)]
pub struct DirLease {
    path: PathBuf,
    /// Remove the directory with the last lease: one of the following.
    obsolete: AtomicU8,
}

const KEPT: u8 = 0;
/// At once, by who comes last.
const DISCARDED: u8 = 1;
/// Later, by [`remove`].
const RETIRED: u8 = 2;

impl DirLease {
    /// A lease on `path`, not obsolete.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, obsolete: AtomicU8::new(KEPT) }
    }

    /// Removes the directory as soon as the lease is dropped. Its name may be used again then.
    pub fn discard(&self) {
        self.obsolete.store(DISCARDED, Ordering::Release);
    }

    /// Removes the directory some time after the lease is dropped, and holds nobody up. For names
    /// that are never used again, of directories that may be large.
    pub fn retire(&self) {
        self.obsolete.store(RETIRED, Ordering::Release);
    }
}

impl Drop for DirLease {
    fn drop(&mut self) {
        // By whichever thread comes last, consensus or one that serves clients among them.
        match self.obsolete.load(Ordering::Acquire) {
            RETIRED => remove::directory(std::mem::take(&mut self.path)),
            DISCARDED => remove::at_once(&self.path),
            _ => {}
        }
    }
}

impl SnapshotDir {
    /// Takes the directory at `path` as a snapshot and lists its files.
    ///
    /// # Errors
    /// Any I/O error, or `InvalidData` if it holds anything but plain files.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        for item in fs::read_dir(path)? {
            let item = item?;
            let (meta, name) = (item.metadata()?, item.file_name());
            let Some(name) = name.to_str().filter(|_| meta.is_file()) else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} is not a plain file of a snapshot", item.path().display()),
                ));
            };
            files.push(SnapshotFile { name: name.to_owned(), size: meta.len() });
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { lease: Arc::new(DirLease::new(path.to_owned())), files })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.lease.path
    }

    /// Sum of the files' sizes, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size).sum()
    }

    /// See [`DirLease::discard`].
    pub fn discard(&self) {
        self.lease.discard();
    }

    /// See [`DirLease::retire`].
    pub fn retire(&self) {
        self.lease.retire();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_discarded_snapshot_lives_as_long_as_its_last_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("b"), b"22").unwrap();
        fs::write(path.join("a"), b"1").unwrap();
        let snapshot = SnapshotDir::open(&path).unwrap();
        assert_eq!(snapshot.bytes(), 3);
        assert_eq!(snapshot.files[0].name, "a");
        let reader = snapshot.clone();
        snapshot.discard();
        drop(snapshot);
        assert!(path.exists());
        drop(reader);
        assert!(!path.exists(), "its name can be used again");
    }

    #[test]
    fn a_retired_snapshot_goes_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a"), b"1").unwrap();
        SnapshotDir::open(&path).unwrap().retire();
        let end = Instant::now() + Duration::from_secs(30);
        while path.exists() {
            assert!(Instant::now() < end, "it goes");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn anything_but_plain_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        assert_eq!(SnapshotDir::open(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
