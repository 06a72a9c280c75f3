//! The identity of a data directory, made once and checked at every start.
//!
//! A replica that comes back under its id with another disk has forgotten its votes and entries.
//! This file, and the peers' memory of the uuid in it (`crate::peer::book`), make that visible.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{config::Config, raft::types::NodeId};

/// The file.
pub const FILE: &str = "identity.json";

/// The lock.
const LOCK: &str = "LOCK";

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
            write(dir, &new).map_err(io(&path))?;
            tracing::info!(dir = %dir.display(), uuid = %new.node_uuid, "new data directory");
            new
        }
        Err(e) => return Err(io(&path)(e)),
    };
    compare(dir, &stored, cluster_id, node_id, groups)?;
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

/// The name of anything in the directory that is not ours to ignore.
fn something_in(dir: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // A first start may have been cut off right here; file systems put lost+found.
        if name != LOCK && name != format!("{FILE}.new") && name != "lost+found" {
            return Ok(Some(name));
        }
    }
    Ok(None)
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
mod tests {
    use super::*;

    const CLUSTER: Uuid = Uuid::from_u128(7);

    fn open(dir: &Path) -> Result<NodeIdentity, IdentityError> {
        open_dir(dir, CLUSTER, 1, 2)
    }

    #[test]
    fn made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        let first = open(&data).unwrap();
        let uuid = first.node_uuid;
        assert_ne!(first.store_id(), uuid);
        drop(first);
        assert_eq!(open(&data).unwrap().node_uuid, uuid);
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = open(dir.path()).unwrap();
        assert!(matches!(open(dir.path()), Err(IdentityError::InUse { .. })));
    }

    #[test]
    fn what_belongs_elsewhere_is_refused_and_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        for (refused, word) in [
            (open_dir(dir.path(), Uuid::from_u128(8), 1, 2), "cluster_id"),
            (open_dir(dir.path(), CLUSTER, 2, 2), "swapped"),
            (open_dir(dir.path(), CLUSTER, 1, 3), "groups"),
        ] {
            let text = refused.expect_err("it is another's").to_string();
            assert!(text.contains(word), "{text}");
        }
        open(dir.path()).unwrap();
    }

    #[test]
    fn data_without_identity_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let text = open(dir.path()).expect_err("not ours").to_string();
        assert!(text.contains("log") && text.contains("empty directory"), "{text}");
    }

    #[test]
    fn a_damaged_or_newer_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        let path = dir.path().join(FILE);
        let good = fs::read_to_string(&path).unwrap();
        fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert!(matches!(open(dir.path()), Err(IdentityError::Damaged { .. })));
        fs::write(&path, good.replace("\"format\": 1", "\"format\": 9")).unwrap();
        assert!(matches!(open(dir.path()), Err(IdentityError::Newer { found: 9, .. })));
        fs::write(&path, good).unwrap();
        open(dir.path()).unwrap();
    }
}
