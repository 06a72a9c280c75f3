//! The directories of one group's state and snapshots, and how they replace each other.
//!
//! ```text
//! <group dir>/CURRENT              names the generation in use ("state-3\n")
//! <group dir>/state-3/             the RocksDB instance
//! <group dir>/snapshots/7/         files of a snapshot, complete only if...
//! <group dir>/snapshots/7.meta     ...this exists (written last, by rename)
//! <group dir>/incoming/            transfers under way (peer/)
//! ```
//! Every step is: write beside, fsync, rename, fsync the directory. What a crash leaves half done
//! is not named by `CURRENT` or has no `.meta`, and is swept at the next start.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::snapshot_data::SnapshotDir;

const CURRENT: &str = "CURRENT";
const STATE_PREFIX: &str = "state-";
const SNAPSHOTS: &str = "snapshots";

/// Makes the names in a directory durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Writes a small file so that after a crash it is the old or the new one, never a part.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Not ".tmp": RocksDB builds the checkpoint "7" in a directory "7.tmp".
    let tmp = path.with_extension("new");
    let mut file = File::create(&tmp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&tmp, path)?;
    sync_dir(path.parent().expect("the file is inside a directory"))
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Numbered entries of `dir` whose names are `prefix` + number, with the number.
fn numbered(dir: &Path, prefix: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir)? {
        let item = item?;
        let name = item.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix(prefix)?.parse().ok());
        if let Some(number) = number {
            found.push((number, item.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The state directory in use; creates the first one, and removes generations that a crash during
/// an install left behind.
///
/// # Errors
/// I/O errors, and `InvalidData` if `CURRENT` names no existing generation.
pub fn current(dir: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(dir.join(SNAPSHOTS))?;
    let name = match fs::read_to_string(dir.join(CURRENT)) {
        Ok(name) => name.trim_end().to_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let name = format!("{STATE_PREFIX}1");
            if let Some(earlier) = earlier_life(dir, &dir.join(&name))? {
                return Err(damaged(format!(
                    "{} is gone, but {} is there; the replica's data is damaged: rebuild it under \
                     a new node id",
                    dir.join(CURRENT).display(),
                    earlier.display()
                )));
            }
            // First start; a crash before CURRENT was written left nothing that anyone relied on.
            fs::create_dir_all(dir.join(&name))?;
            switch_to(dir, &dir.join(&name))?;
            name
        }
        Err(e) => return Err(e),
    };
    let path = dir.join(&name);
    if !name.starts_with(STATE_PREFIX) || !path.is_dir() {
        return Err(damaged(format!(
            "{} names {name:?}, which is not a state directory of this group; the replica's data \
             is damaged: rebuild it under a new node id",
            dir.join(CURRENT).display()
        )));
    }
    for (_, other) in numbered(dir, STATE_PREFIX)? {
        if other != path {
            fs::remove_dir_all(&other)?;
        }
    }
    Ok(path)
}

/// Something that no group has before its first `CURRENT`, if it is there: anything but an empty
/// directory at `first`.
fn earlier_life(dir: &Path, first: &Path) -> io::Result<Option<PathBuf>> {
    for (_, state) in numbered(dir, STATE_PREFIX)? {
        if state != first || fs::read_dir(&state)?.next().is_some() {
            return Ok(Some(state));
        }
    }
    Ok(fs::read_dir(dir.join(SNAPSHOTS))?.next().transpose()?.map(|item| item.path()))
}

/// Makes `state` the generation in use, durably.
///
/// # Errors
/// I/O errors; the old generation stays in use then.
pub fn switch_to(dir: &Path, state: &Path) -> io::Result<()> {
    let name = state.file_name().and_then(|n| n.to_str()).expect("generations have plain names");
    write_atomically(&dir.join(CURRENT), format!("{name}\n").as_bytes())
}

/// Builds the next generation from a snapshot: data files by hard link, the rest by copy (RocksDB
/// appends to its manifest).
///
/// # Errors
/// I/O errors; what was built so far is swept at the next start.
pub fn prepare_next(dir: &Path, snapshot: &SnapshotDir) -> io::Result<PathBuf> {
    let last = numbered(dir, STATE_PREFIX)?.last().map_or(0, |(n, _)| *n);
    let next = dir.join(format!("{STATE_PREFIX}{}", last + 1));
    fs::create_dir(&next)?;
    for file in &snapshot.files {
        let (from, to) = (snapshot.path().join(&file.name), next.join(&file.name));
        if file.name.ends_with(".sst") || file.name.ends_with(".blob") {
            fs::hard_link(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
            File::open(&to)?.sync_all()?;
        }
    }
    sync_dir(&next)?;
    sync_dir(dir)?;
    Ok(next)
}

/// A directory name for a new snapshot, not yet created (RocksDB wants to create it).
///
/// # Errors
/// I/O errors.
pub fn new_snapshot_dir(dir: &Path) -> io::Result<PathBuf> {
    let all = dir.join(SNAPSHOTS);
    let last = numbered(&all, "")?.last().map_or(0, |(n, _)| *n);
    Ok(all.join((last + 1).to_string()))
}

fn meta_path(snapshot: &Path) -> PathBuf {
    snapshot.with_extension("meta")
}

/// Declares the snapshot in `path` complete.
///
/// # Errors
/// I/O errors; the snapshot does not count then.
pub fn seal_snapshot(path: &Path, meta: &[u8]) -> io::Result<SnapshotDir> {
    let dir = SnapshotDir::open(path)?;
    sync_dir(path)?;
    write_atomically(&meta_path(path), meta)?;
    Ok(dir)
}

/// Moves a received snapshot among the group's own and seals it. A snapshot that is there already
/// (installed again at start) is left alone.
///
/// # Errors
/// I/O errors.
pub fn adopt_snapshot(dir: &Path, received: &SnapshotDir, meta: &[u8]) -> io::Result<SnapshotDir> {
    if received.path().parent() == Some(&dir.join(SNAPSHOTS)) {
        return Ok(received.clone());
    }
    let target = new_snapshot_dir(dir)?;
    fs::rename(received.path(), &target)?;
    seal_snapshot(&target, meta)
}

/// Un-seals a snapshot that was replaced, and removes it when its last reader is gone.
pub fn forget_snapshot(snapshot: &SnapshotDir) {
    if let Err(error) = fs::remove_file(meta_path(snapshot.path())) {
        // It would be swept or superseded at the next start: costs disk, never correctness.
        tracing::warn!(path = %snapshot.path().display(), %error, "could not un-seal a snapshot");
    }
    snapshot.retire();
}

/// The newest sealed snapshot with its meta; all else is removed, also what RocksDB had not finished
/// when the process was killed.
///
/// # Errors
/// I/O errors.
pub fn newest_snapshot(dir: &Path) -> io::Result<Option<(Vec<u8>, SnapshotDir)>> {
    let all = dir.join(SNAPSHOTS);
    let mut newest = None;
    let mut kept = Vec::new();
    for (_, path) in numbered(&all, "")?.into_iter().rev() {
        let meta = meta_path(&path);
        if newest.is_none() && path.is_dir() && meta.is_file() {
            newest = Some((fs::read(&meta)?, SnapshotDir::open(&path)?));
            kept = vec![path, meta];
            continue;
        }
        if meta.exists() {
            fs::remove_file(&meta)?;
        }
        fs::remove_dir_all(&path)?;
    }
    for item in fs::read_dir(&all)? {
        let item = item?;
        if kept.contains(&item.path()) {
            continue;
        }
        if item.file_type()?.is_dir() {
            fs::remove_dir_all(item.path())?;
        } else {
            fs::remove_file(item.path())?;
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(dir: &Path, files: &[(&str, &str)]) -> SnapshotDir {
        let path = new_snapshot_dir(dir).unwrap();
        fs::create_dir(&path).unwrap();
        for (name, content) in files {
            fs::write(path.join(name), content).unwrap();
        }
        seal_snapshot(&path, b"meta").unwrap()
    }

    #[test]
    fn half_done_work_of_a_crash_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let first = current(dir.path()).unwrap();
        assert!(first.ends_with("state-1"));
        let s = snapshot(dir.path(), &[("1.sst", "data"), ("MANIFEST-1", "m")]);
        // Crash before the switch: the next start uses the old generation and removes the new one.
        let next = prepare_next(dir.path(), &s).unwrap();
        assert!(next.ends_with("state-2") && next.join("1.sst").exists());
        assert_eq!(current(dir.path()).unwrap(), first);
        assert!(!next.exists());
        // After the switch the old one goes.
        let next = prepare_next(dir.path(), &s).unwrap();
        switch_to(dir.path(), &next).unwrap();
        assert_eq!(current(dir.path()).unwrap(), next);
        assert!(!first.exists());
    }

    #[test]
    fn only_the_newest_sealed_snapshot_counts() {
        let dir = tempfile::tempdir().unwrap();
        current(dir.path()).unwrap();
        let old = snapshot(dir.path(), &[("1.sst", "old")]);
        let new = snapshot(dir.path(), &[("1.sst", "new")]);
        let unsealed = new_snapshot_dir(dir.path()).unwrap();
        fs::create_dir(&unsealed).unwrap();
        let (meta, found) = newest_snapshot(dir.path()).unwrap().unwrap();
        assert_eq!((meta.as_slice(), found.path()), (b"meta".as_slice(), new.path()));
        assert!(!old.path().exists() && !unsealed.exists());
    }

    /// Found by a node that was killed while it built a snapshot, and then needed the leader's: it
    /// could not come back any more.
    #[test]
    fn a_checkpoint_that_was_cut_short_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        current(dir.path()).unwrap();
        let sealed = snapshot(dir.path(), &[("1.sst", "old")]);
        // What RocksDB leaves.
        let unfinished = dir.path().join(SNAPSHOTS).join("2.tmp");
        fs::create_dir(&unfinished).unwrap();
        fs::write(unfinished.join("1.sst"), "half").unwrap();
        let received = dir.path().join("received");
        fs::create_dir(&received).unwrap();
        fs::write(received.join("3.sst"), "new").unwrap();
        let received = SnapshotDir::open(&received).unwrap();
        let adopted = adopt_snapshot(dir.path(), &received, b"theirs").unwrap();
        assert!(adopted.path().ends_with("2"));

        let (meta, found) = newest_snapshot(dir.path()).unwrap().unwrap();
        assert_eq!((meta.as_slice(), found.path()), (b"theirs".as_slice(), adopted.path()));
        assert!(!unfinished.exists() && !sealed.path().exists());
        assert_eq!(fs::read_dir(dir.path().join(SNAPSHOTS)).unwrap().count(), 2);
    }

    #[test]
    fn a_lost_current_is_no_first_start() {
        for (what, refused) in [("state-1", false), ("state-2", true), ("snapshots/4", true)] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join(what)).unwrap();
            assert_eq!(current(dir.path()).is_err(), refused, "{what}");
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(current(dir.path()).unwrap().join("1.sst"), "data").unwrap();
        fs::remove_file(dir.path().join(CURRENT)).unwrap();
        let error = current(dir.path()).unwrap_err();
        assert!(error.to_string().contains("new node id"), "{error}");
        assert!(dir.path().join("state-1/1.sst").exists(), "nothing was changed");
    }

    #[test]
    fn a_current_that_names_nothing_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        current(dir.path()).unwrap();
        fs::write(dir.path().join(CURRENT), "state-9\n").unwrap();
        let error = current(dir.path()).unwrap_err();
        assert!(error.to_string().contains("new node id"), "{error}");
    }
}
