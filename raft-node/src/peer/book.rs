//! The durable list of known nodes: replica id → disk uuid, pinned at the first Hello.
//!
//! Nothing is ever removed: a node id is not used again after its disk was lost, and the entry is
//! what enforces it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::identity::Mismatch;
use crate::raft::types::NodeId;

/// File name inside the data directory.
pub const FILE: &str = "peers.json";

/// Most ids a book holds, so that strangers with made-up ids cannot grow it for ever. A cluster
/// uses a handful, plus one for each disk it ever lost.
pub const MAX_NODES: usize = 1024;

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    peers: BTreeMap<NodeId, Uuid>,
}

/// The book could not be read or written, or says no.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// Reading or writing the file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The file is there but not a book this version can read.
    #[error(
        "{path} cannot be used ({why}). It holds the disks of the other nodes; restore it, or \
         remove this node for good and add a new one under a node id that was never used"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The node is not who it claims to be.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

/// See the module. Lookups are cheap and never touch the disk.
#[derive(Debug)]
pub struct PeerBook {
    /// `None`: lives in memory only (simulation, tests).
    path: Option<PathBuf>,
    /// What is durable. Grows only.
    pinned: RwLock<BTreeMap<NodeId, [u8; 16]>>,
    /// One writer at a time; lookups go on during its fsync.
    writing: Mutex<()>,
}

impl PeerBook {
    /// Opens the book in `data_dir`; a missing file is an empty book.
    ///
    /// # Errors
    /// [`BookError::Io`], [`BookError::Damaged`].
    pub fn open(data_dir: &Path) -> Result<Self, BookError> {
        let path = data_dir.join(FILE);
        let pinned = match fs::read(&path) {
            Ok(bytes) => {
                read(&bytes).map_err(|why| BookError::Damaged { path: path.clone(), why })?
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(BookError::Io { path, source }),
        };
        Ok(Self { path: Some(path), pinned: RwLock::new(pinned), writing: Mutex::new(()) })
    }

    /// A book without a file.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { path: None, pinned: RwLock::default(), writing: Mutex::new(()) }
    }

    /// The disk that `node` has.
    #[must_use]
    pub fn known(&self, node: NodeId) -> Option<[u8; 16]> {
        // The map is replaced whole after the write, so a panicked writer left it intact.
        self.pinned.read().unwrap_or_else(PoisonError::into_inner).get(&node).copied()
    }

    /// Remembers for good that `node` has disk `uuid`; durable on return. Does nothing if that is
    /// known already. Blocks on an fsync otherwise. `me` only names the judge in the refusal.
    ///
    /// # Errors
    /// [`BookError::Mismatch`] if the node is known with another disk or the book is full,
    /// [`BookError::Io`] if it could not be written; nothing is remembered then.
    pub fn pin(&self, node: NodeId, uuid: [u8; 16], me: NodeId) -> Result<(), BookError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = self.pinned.read().unwrap_or_else(PoisonError::into_inner).clone();
        match next.get(&node) {
            Some(known) if *known == uuid => return Ok(()),
            Some(known) => {
                return Err(Mismatch::ReplacedDisk {
                    node,
                    known: Uuid::from_bytes(*known),
                    now: Uuid::from_bytes(uuid),
                }
                .into());
            }
            None if next.len() >= MAX_NODES => {
                return Err(Mismatch::TooManyNodes { limit: MAX_NODES, me }.into());
            }
            None => next.insert(node, uuid),
        };
        if let Some(path) = &self.path {
            write(path, &next).map_err(|source| BookError::Io { path: path.clone(), source })?;
        }
        *self.pinned.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

fn read(bytes: &[u8]) -> Result<BTreeMap<NodeId, [u8; 16]>, String> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if stored.format != FORMAT {
        return Err(format!("format {} is not {FORMAT}", stored.format));
    }
    Ok(stored.peers.into_iter().map(|(node, uuid)| (node, uuid.into_bytes())).collect())
}

/// After a crash the file is the old or the new one, never a part of either.
fn write(path: &Path, pinned: &BTreeMap<NodeId, [u8; 16]>) -> io::Result<()> {
    let peers = pinned.iter().map(|(node, uuid)| (*node, Uuid::from_bytes(*uuid))).collect();
    let json = serde_json::to_vec_pretty(&Stored { format: FORMAT, peers })?;
    let tmp = path.with_extension("json.tmp");
    let mut file = File::create(&tmp)?;
    file.write_all(&json)?;
    file.sync_all()?;
    fs::rename(&tmp, path)?;
    File::open(path.parent().expect("the book is inside the data directory"))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_survives_reopening_and_never_changes() {
        let dir = tempfile::tempdir().unwrap();
        let book = PeerBook::open(dir.path()).unwrap();
        book.pin(2, [2; 16], 1).unwrap();
        book.pin(3, [3; 16], 1).unwrap();
        book.pin(2, [2; 16], 1).unwrap();
        let book = PeerBook::open(dir.path()).unwrap();
        assert_eq!(
            (book.known(2), book.known(3), book.known(4)),
            (Some([2; 16]), Some([3; 16]), None)
        );
        let refused = book.pin(2, [9; 16], 1).unwrap_err();
        assert!(matches!(refused, BookError::Mismatch(Mismatch::ReplacedDisk { node: 2, .. })));
        assert_eq!(PeerBook::open(dir.path()).unwrap().known(2), Some([2; 16]));
    }

    #[test]
    fn a_failed_write_remembers_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let book = PeerBook::open(dir.path()).unwrap();
        // Something in the way of the temporary file.
        fs::create_dir(dir.path().join("peers.json.tmp")).unwrap();
        assert!(matches!(book.pin(2, [2; 16], 1), Err(BookError::Io { .. })));
        assert_eq!(book.known(2), None);
    }

    #[test]
    fn a_damaged_book_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let texts =
            ["", "{}", "{\"format\":2,\"peers\":{}}", "{\"format\":1,\"peers\":{\"2\":\"x\"}}"];
        for text in texts {
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = PeerBook::open(dir.path()).unwrap_err();
            assert!(matches!(error, BookError::Damaged { .. }), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_book_is_bounded() {
        let book = PeerBook::in_memory();
        for id in 0..MAX_NODES as u64 {
            book.pin(id, [1; 16], 1).unwrap();
        }
        let full = book.pin(5000, [1; 16], 1).unwrap_err();
        assert!(matches!(full, BookError::Mismatch(Mismatch::TooManyNodes { .. })));
        book.pin(5, [1; 16], 1).unwrap();
    }
}
