//! The identity of a data directory, made once and checked at every start.
//!
//! A replica that comes back under its id with another disk has forgotten its votes and entries.
//! This file, and the peers' memory of the uuid in it (`crate::peer::book`), make that visible.
//!
//! The directories of the log and of the groups are made durable *before* the file. So a data
//! directory with the file and without one of them has lost data, and is not taken for a new one:
//! a power cut can't turn a voter into one that has forgotten, under an identity that all trust.
//! A mark beside it says that the log was begun: a log directory that is empty after that has lost
//! its segments.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{config::Config, log_store, observe::exit::ExitCode, raft::types::NodeId};

/// The file.
pub const FILE: &str = "identity.json";

/// The lock.
const LOCK: &str = "LOCK";

/// The Raft log's directory inside the data directory.
pub const LOG_DIR: &str = "log";

/// Holds one directory for each group's state.
pub const GROUPS_DIR: &str = "groups";

/// Empty; is there from before the first vote or entry is written.
const LOG_BEGUN: &str = "log-begun";

const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    cluster_id: Uuid,
    node_id: NodeId,
    node_uuid: Uuid,
    groups: u32,
}

/// Why a data directory is refused.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "{} is in use by another process: is this node running already? Two nodes must never share \
         a data directory",
        dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The file is there but can't be read.
    #[error(
        "{} can't be used ({why}); it was written whole, so the disk or somebody changed it. Restore \
         the file from a copy; if there is none, remove this node for good and add a new one under \
         a node id that was never used",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Written by a newer version.
    #[error(
        "{} has format {found}, but this build knows format {FORMAT}; start the version that wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Data without an identity.
    #[error(
        "{} holds data ({what}) but no {FILE}: it is no data directory of this version, or the file \
         was lost. Point data_dir at an empty directory, or restore the file",
        dir.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// Something in it.
        what: String,
    },
    /// An identity without its data.
    #[error(
        "{} is the directory of a node, but {what} in it is gone: what this node has acknowledged \
         is lost here, and it must not come back under its old id. Restore the whole directory as \
         it was; or, if it is gone, stop this node for good and add a new one with an empty data \
         directory under a node id that was never used",
        dir.display()
    )]
    Incomplete {
        /// The directory.
        dir: PathBuf,
        /// What is not there.
        what: String,
    },
    /// Another cluster's, node's or shape's.
    #[error(
        "{} belongs to {key} {stored}, but the configuration says {configured}. {what_to_do}",
        dir.display()
    )]
    Mismatch {
        /// The directory.
        dir: PathBuf,
        /// What differs.
        key: &'static str,
        /// On disk.
        stored: String,
        /// As configured.
        configured: String,
        /// For the operator.
        what_to_do: &'static str,
    },
}

impl IdentityError {
    /// What the process ends with: a disk that fails needs somebody else than a wrong path.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
        match self {
            Self::Io { source, .. } => match source.kind() {
                NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem => {
                    ExitCode::Config
                }
                _ => ExitCode::Io,
            },
            _ => ExitCode::Config,
        }
    }
}

/// A data directory that is ours. Holds the lock while it lives.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    /// The cluster.
    pub cluster_id: [u8; 16],
    /// This replica.
    pub node_id: NodeId,
    /// This disk.
    pub node_uuid: [u8; 16],
    _lock: Arc<File>,
}

impl NodeIdentity {
    /// Ties the log to this disk of this cluster.
    #[must_use]
    pub fn store_id(&self) -> [u8; 16] {
        let mut id = self.node_uuid;
        id.iter_mut().zip(self.cluster_id).for_each(|(a, b)| *a ^= b);
        id
    }
}

/// Notes, durably, that there is a log in the data directory: from now on one without is refused.
/// To be called before the log takes its first vote or entry.
///
/// # Errors
/// The file system's.
pub fn note_log(dir: &Path) -> io::Result<()> {
    let path = dir.join(LOG_BEGUN);
    if path.try_exists()? {
        return Ok(());
    }
    File::create(path)?.sync_all()?;
    File::open(dir)?.sync_all()
}

/// Opens the data directory; makes it, and its identity, if there is nothing yet.
///
/// # Errors
/// [`IdentityError`]; nothing was changed.
pub fn open(config: &Config) -> Result<NodeIdentity, IdentityError> {
    open_dir(&config.data_dir, config.cluster_id, config.node_id, config.groups)
}

fn open_dir(
    dir: &Path,
    cluster_id: Uuid,
    node_id: NodeId,
    groups: u32,
) -> Result<NodeIdentity, IdentityError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| IdentityError::Io { path, source }
    };
    fs::create_dir_all(dir).map_err(io(dir))?;
    let lock = lock(dir)?;
    let path = dir.join(FILE);
    let stored = match fs::read(&path) {
        Ok(bytes) => read(&path, &bytes)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(what) = something_in(dir).map_err(io(dir))? {
                return Err(IdentityError::Foreign { dir: dir.to_owned(), what });
            }
            let new =
                Stored { format: FORMAT, cluster_id, node_id, node_uuid: Uuid::new_v4(), groups };
            make_directories(dir, groups).map_err(io(dir))?;
            write(dir, &new).map_err(io(&path))?;
            sync_ancestors(dir).map_err(io(dir))?;
            tracing::info!(dir = %dir.display(), uuid = %new.node_uuid, "new data directory");
            new
        }
        Err(e) => return Err(io(&path)(e)),
    };
    compare(dir, &stored, cluster_id, node_id, groups)?;
    if let Some(what) = directories(groups).find(|name| !dir.join(name).is_dir()) {
        let (dir, what) = (dir.to_owned(), what.display().to_string());
        return Err(IdentityError::Incomplete { dir, what });
    }
    let log = dir.join(LOG_DIR);
    if dir.join(LOG_BEGUN).try_exists().map_err(io(dir))?
        && !log_store::is_begun(&log).map_err(io(&log))?
    {
        let (dir, what) = (dir.to_owned(), format!("everything in {LOG_DIR}"));
        return Err(IdentityError::Incomplete { dir, what });
    }
    Ok(NodeIdentity {
        cluster_id: *cluster_id.as_bytes(),
        node_id,
        node_uuid: *stored.node_uuid.as_bytes(),
        _lock: Arc::new(lock),
    })
}

fn compare(
    dir: &Path,
    stored: &Stored,
    cluster_id: Uuid,
    node_id: NodeId,
    groups: u32,
) -> Result<(), IdentityError> {
    let mismatch = |key, stored: String, configured: String, what_to_do| {
        Err(IdentityError::Mismatch { dir: dir.to_owned(), key, stored, configured, what_to_do })
    };
    if stored.cluster_id != cluster_id {
        return mismatch(
            "cluster",
            stored.cluster_id.to_string(),
            cluster_id.to_string(),
            "Correct cluster_id, or point data_dir at this cluster's directory",
        );
    }
    if stored.node_id != node_id {
        return mismatch(
            "node",
            stored.node_id.to_string(),
            node_id.to_string(),
            "Were disks swapped, or a configuration copied? Give each node its own directory back; \
             never start a node on another one's",
        );
    }
    if stored.groups != groups {
        return mismatch(
            "groups",
            stored.groups.to_string(),
            groups.to_string(),
            "The number of groups is fixed when the cluster is created; set groups back",
        );
    }
    Ok(())
}

fn read(path: &Path, bytes: &[u8]) -> Result<Stored, IdentityError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let damaged =
        |e: serde_json::Error| IdentityError::Damaged { path: path.to_owned(), why: e.to_string() };
    // The version first: a newer file may have other fields.
    let Version { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format > FORMAT {
        return Err(IdentityError::Newer { path: path.to_owned(), found: format });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

fn write(dir: &Path, identity: &Stored) -> io::Result<()> {
    let (path, temporary) = (dir.join(FILE), dir.join(format!("{FILE}.new")));
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(identity)?)?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    File::open(dir)?.sync_all()
}

/// The directory of a group's state inside the data directory.
#[must_use]
pub fn group_dir(group: u32) -> PathBuf {
    Path::new(GROUPS_DIR).join(group.to_string())
}

/// What every data directory has.
fn directories(groups: u32) -> impl Iterator<Item = PathBuf> {
    std::iter::once(PathBuf::from(LOG_DIR)).chain((0..groups).map(group_dir))
}

fn make_directories(dir: &Path, groups: u32) -> io::Result<()> {
    for name in directories(groups) {
        fs::create_dir_all(dir.join(name))?;
    }
    File::open(dir.join(GROUPS_DIR))?.sync_all()?;
    File::open(dir)?.sync_all()
}

/// Makes the way to a new data directory durable, up to its mount point. It ends earlier at a
/// directory that this user may not open, and so has not made either.
fn sync_ancestors(dir: &Path) -> io::Result<()> {
    let dir = fs::canonicalize(dir)?;
    let device = fs::metadata(&dir)?.dev();
    for ancestor in dir.ancestors().skip(1) {
        if fs::metadata(ancestor)?.dev() != device {
            break;
        }
        match File::open(ancestor) {
            Ok(ancestor) => ancestor.sync_all()?,
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The name of anything in the directory that is not ours to ignore: a first start may have been
/// cut off anywhere, and file systems put lost+found.
fn something_in(dir: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = match name.as_str() {
            LOCK | "lost+found" => true,
            LOG_DIR | GROUPS_DIR => has_no_file(&entry.path())?,
            name => name == format!("{FILE}.new"),
        };
        if !ours {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// True for a directory with nothing but directories in it.
fn has_no_file(path: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return Ok(false);
    }
    for entry in fs::read_dir(path)? {
        if !has_no_file(&entry?.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lock(dir: &Path) -> Result<File, IdentityError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| IdentityError::Io { path: path.clone(), source })?;
    // SAFETY: flock on a descriptor that is open for the length of the call.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(file);
    }
    let source = io::Error::last_os_error();
    if source.kind() == io::ErrorKind::WouldBlock {
        return Err(IdentityError::InUse { dir: dir.to_owned() });
    }
    Err(IdentityError::Io { path, source })
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
