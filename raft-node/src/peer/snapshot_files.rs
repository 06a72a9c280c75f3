//! The files of an incoming snapshot. Blocking I/O only: called on threads that may block.
//!
//! `<group dir>/incoming/<snapshot id>/` holds a transfer under way and survives a broken one, so
//! that it can be resumed; `<group dir>/incoming/complete-<n>/` one that arrived whole and is being
//! installed. What is there when a transfer of another id begins is removed.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use quorate_proto::raft::v1 as pb;
use tokio::sync::OwnedMutexGuard;

use super::disk::free_bytes;
use crate::raft::snapshot_data::SnapshotDir;

const COMPLETE_PREFIX: &str = "complete-";
/// Most files of one snapshot: a RocksDB instance of tens of terabytes has fewer.
const MAX_FILES: usize = 1_000_000;
const MAX_NAME_BYTES: usize = 128;
const READ_BYTES: usize = 1024 * 1024;
/// Written data is pushed to the disk this often, so that one huge sync at the end of a file does
/// not stall the log's own syncs on the same disk.
const SYNC_EVERY_BYTES: u64 = 32 * 1024 * 1024;

/// Why a snapshot was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The sender breaks the protocol.
    #[error("{0}")]
    Malformed(String),
    /// Bytes did not arrive as they were sent. What is certainly good was kept.
    #[error("{0}")]
    Damaged(String),
    /// Not enough room.
    #[error(
        "the snapshot needs {need} more bytes and {reserve} must stay free, but the disk has \
         {free}: free some space, the transfer is tried again"
    )]
    NoSpace {
        /// Bytes still to come.
        need: u64,
        /// [`super::options::PeerOptions::snapshot_reserve_bytes`].
        reserve: u64,
        /// Free now.
        free: u64,
    },
    /// The disk.
    #[error("receiving a snapshot: {0}")]
    Io(#[from] io::Error),
}

impl ReceiveError {
    /// As an error frame.
    #[must_use]
    pub fn to_frame(&self) -> pb::PeerError {
        use pb::peer_error::Kind;
        let kind = match self {
            Self::Malformed(_) => Kind::Malformed,
            Self::Damaged(_) => Kind::Damaged,
            Self::NoSpace { .. } => Kind::NoSpace,
            Self::Io(_) => Kind::Io,
        };
        super::endpoint::error(kind, self.to_string())
    }
}

fn malformed<T>(what: impl Into<String>) -> Result<T, ReceiveError> {
    Err(ReceiveError::Malformed(what.into()))
}

/// A file or directory name of a peer that may be joined to a path of ours: letters, digits, and
/// `. _ -` inside; so no separator, no `..`, nothing hidden, no control character.
#[must_use]
pub fn is_plain_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !name.starts_with('.')
        && name.chars().all(allowed)
}

struct Incoming {
    name: String,
    size: u64,
    have: u64,
    /// CRC32C of the first `have` bytes.
    crc: u32,
    /// Its end was confirmed by the sender's checksum, and it is on the disk.
    complete: bool,
}

/// One transfer's files. Holds the group's slot: as long as this lives, no other transfer of the
/// group touches the directory.
pub struct IncomingSnapshot {
    root: PathBuf,
    dir: PathBuf,
    files: Vec<Incoming>,
    /// The file being written, positioned at its end.
    open: Option<(usize, File)>,
    unsynced: u64,
    _slot: OwnedMutexGuard<()>,
}

impl IncomingSnapshot {
    /// Prepares `<root>/<snapshot id>` and looks at what an earlier attempt left there, reading it
    /// in full.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn open(
        root: PathBuf,
        begin: &pb::SnapshotBegin,
        reserve: u64,
        slot: OwnedMutexGuard<()>,
    ) -> Result<Self, ReceiveError> {
        check_begin(begin)?;
        let dir = root.join(&begin.snapshot_id);
        fs::create_dir_all(&dir)?;
        remove_all_but(&root, &begin.snapshot_id)?;
        let names: HashSet<&str> = begin.files.iter().map(|f| f.name.as_str()).collect();
        for item in fs::read_dir(&dir)? {
            let item = item?;
            if !item.file_name().to_str().is_some_and(|name| names.contains(name)) {
                remove(&item.path())?;
            }
        }
        let mut files = Vec::with_capacity(begin.files.len());
        for file in &begin.files {
            let (have, crc) = inspect(&dir.join(&file.name), file.size)?;
            let (name, size) = (file.name.clone(), file.size);
            files.push(Incoming { name, size, have, crc, complete: false });
        }
        let need: u64 = files.iter().map(|f| f.size - f.have).sum();
        let free = free_bytes(&dir)?;
        if free < need.saturating_add(reserve) {
            return Err(ReceiveError::NoSpace { need, reserve, free });
        }
        Ok(Self { root, dir, files, open: None, unsynced: 0, _slot: slot })
    }

    /// What the sender needs to know to send the rest.
    #[must_use]
    pub fn resume(&self) -> pb::SnapshotResume {
        let progress = |f: &Incoming| pb::FileProgress { have_bytes: f.have, crc32c: f.crc };
        pb::SnapshotResume { files: self.files.iter().map(progress).collect() }
    }

    /// Writes a chunk.
    ///
    /// # Errors
    /// [`ReceiveError`]; everything before the chunk is kept.
    pub fn chunk(&mut self, chunk: &pb::SnapshotChunk) -> Result<(), ReceiveError> {
        let number = chunk.file as usize;
        let Some(file) = self.files.get(number) else {
            return malformed(format!("a chunk of file {number} of {}", self.files.len()));
        };
        if crc32c::crc32c(&chunk.data) != chunk.crc32c {
            return Err(ReceiveError::Damaged(format!(
                "a chunk of {} at {} arrived damaged",
                file.name, chunk.offset
            )));
        }
        let restart = chunk.offset == 0 && file.have > 0;
        if !restart && chunk.offset != file.have {
            return malformed(format!(
                "a chunk of {} at {} when {} bytes are there",
                file.name, chunk.offset, file.have
            ));
        }
        let length = chunk.data.len() as u64;
        if file.complete || length == 0 || length > file.size - chunk.offset {
            return malformed(format!(
                "a chunk of {length} bytes at {} of {}, which has {}",
                chunk.offset, file.name, file.size
            ));
        }
        if restart {
            self.restart(number)?;
        }
        let handle = self.handle(number)?;
        handle.write_all(&chunk.data)?;
        let file = &mut self.files[number];
        file.have += length;
        file.crc = crc32c::crc32c_append(file.crc, &chunk.data);
        self.unsynced += length;
        if self.unsynced >= SYNC_EVERY_BYTES {
            self.handle(number)?.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Checks a file against the sender's checksum of all of it, and makes it durable.
    ///
    /// # Errors
    /// [`ReceiveError`]; a file with another checksum is emptied, so that the next attempt starts
    /// it again.
    pub fn file_end(&mut self, end: &pb::SnapshotFileEnd) -> Result<(), ReceiveError> {
        let number = end.file as usize;
        let Some(file) = self.files.get(number) else {
            return malformed(format!("the end of file {number} of {}", self.files.len()));
        };
        if file.have != file.size {
            return malformed(format!("{} ends at {} of {}", file.name, file.have, file.size));
        }
        if file.crc != end.crc32c {
            let name = file.name.clone();
            self.restart(number)?;
            return Err(ReceiveError::Damaged(format!("{name} arrived damaged")));
        }
        self.handle(number)?.sync_all()?;
        crate::crash_point!("snapshot.receive.file");
        self.open = None;
        self.unsynced = 0;
        self.files[number].complete = true;
        Ok(())
    }

    /// Declares the transfer complete and gives its directory a name that no later transfer uses.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn finish(self) -> Result<(SnapshotDir, OwnedMutexGuard<()>), ReceiveError> {
        if let Some(file) = self.files.iter().find(|f| !f.complete) {
            return malformed(format!("the snapshot ends without {}", file.name));
        }
        sync_dir(&self.dir)?;
        let mut number = 1u64;
        let complete = loop {
            let candidate = self.root.join(format!("{COMPLETE_PREFIX}{number}"));
            if !candidate.exists() {
                break candidate;
            }
            number += 1;
        };
        fs::rename(&self.dir, &complete)?;
        sync_dir(&self.root)?;
        crate::crash_point!("snapshot.receive.complete");
        Ok((SnapshotDir::open(&complete)?, self._slot))
    }

    fn restart(&mut self, number: usize) -> Result<(), ReceiveError> {
        self.open = None;
        let file = &mut self.files[number];
        (file.have, file.crc, file.complete) = (0, 0, false);
        File::create(self.dir.join(&file.name))?;
        Ok(())
    }

    fn handle(&mut self, number: usize) -> Result<&mut File, ReceiveError> {
        if !matches!(&self.open, Some((open, _)) if *open == number) {
            let path = self.dir.join(&self.files[number].name);
            let mut file =
                OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
            file.seek(SeekFrom::Start(self.files[number].have))?;
            self.open = Some((number, file));
        }
        let (_, file) = self.open.as_mut().expect("opened above");
        Ok(file)
    }
}

fn check_begin(begin: &pb::SnapshotBegin) -> Result<(), ReceiveError> {
    let id = &begin.snapshot_id;
    if !is_plain_name(id) || id.starts_with(COMPLETE_PREFIX) {
        return malformed(format!("{id:?} is no snapshot id"));
    }
    if begin.files.is_empty() || begin.files.len() > MAX_FILES {
        return malformed(format!("a snapshot of {} files", begin.files.len()));
    }
    let mut names = HashSet::with_capacity(begin.files.len());
    let mut total = 0u64;
    for file in &begin.files {
        if !is_plain_name(&file.name) {
            return malformed(format!("{:?} is no plain file name", file.name));
        }
        if !names.insert(&file.name) {
            return malformed(format!("{} is in the snapshot twice", file.name));
        }
        total = match total.checked_add(file.size) {
            Some(total) => total,
            None => return malformed("the files' sizes overflow"),
        };
    }
    Ok(())
}

/// How much of a file is there, at most `size`, and its checksum. Anything that is not a prefix
/// that could be continued is removed.
fn inspect(path: &Path, size: u64) -> io::Result<(u64, u32)> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        Err(e) => return Err(e),
    };
    if !meta.is_file() || meta.len() > size {
        remove(path)?;
        return Ok((0, 0));
    }
    prefix_crc(path, meta.len()).map(|crc| (meta.len(), crc))
}

/// CRC32C of the first `length` bytes of a file.
///
/// # Errors
/// I/O errors; `UnexpectedEof` if the file is shorter.
pub fn prefix_crc(path: &Path, length: u64) -> io::Result<u32> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ_BYTES.min(usize::try_from(length).unwrap_or(READ_BYTES))];
    let (mut crc, mut left) = (0, length);
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact(&mut buffer[..n])?;
        crc = crc32c::crc32c_append(crc, &buffer[..n]);
        left -= n as u64;
    }
    Ok(crc)
}

fn remove_all_but(root: &Path, keep: &str) -> io::Result<()> {
    for item in fs::read_dir(root)? {
        let item = item?;
        if item.file_name() != keep {
            remove(&item.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
