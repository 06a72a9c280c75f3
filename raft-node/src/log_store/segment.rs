//! One file of the log: its name, its header, and how a file becomes a segment.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    buffer::AlignedBuffer,
    durability::{Disk, Method, sync_dir},
    frame::blocks,
    state::{GroupState, Point, VoteRecord},
};

const MAGIC: &[u8; 8] = b"QRTLOGS1";

/// Bytes of a header besides the groups.
const FIXED: usize = 8 + 4 + 16 + 8 + 8 + 8 + 4 + 4;
/// Bytes of a group in a header.
const GROUP: usize = 4 + 1 + 17 + 3 * 16;

const SUFFIX: &str = ".seg";
const SPARE_SUFFIX: &str = ".spare";

/// What a segment says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The node's log.
    pub store_id: [u8; 16],
    /// Consecutive.
    pub id: u64,
    /// Of this life.
    pub salt: u64,
    /// Number of the first batch in it.
    pub first_batch: u64,
    /// Every group, as it was before the first batch: older segments need not be read.
    pub groups: BTreeMap<u32, GroupState>,
}

impl Header {
    /// Bytes it takes on disk.
    #[must_use]
    pub fn space(groups: usize) -> usize {
        blocks(FIXED + groups * GROUP)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::space(self.groups.len()));
        out.extend_from_slice(MAGIC);
        // Length in front of everything that varies, checksum behind everything.
        let length = (FIXED + self.groups.len() * GROUP) as u32;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.store_id);
        for n in [self.id, self.salt, self.first_batch] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&(self.groups.len() as u32).to_le_bytes());
        for (group, state) in &self.groups {
            out.extend_from_slice(&group.to_le_bytes());
            let flag = |there: bool, bit: u8| if there { bit } else { 0 };
            out.push(
                flag(state.vote.is_some(), 1)
                    | flag(state.purged.is_some(), 2)
                    | flag(state.last.is_some(), 4)
                    | flag(state.committed.is_some(), 8),
            );
            let vote = state.vote.unwrap_or(VoteRecord { term: 0, node: 0, committed: false });
            out.extend_from_slice(&vote.term.to_le_bytes());
            out.extend_from_slice(&vote.node.to_le_bytes());
            out.push(u8::from(vote.committed));
            for point in [state.purged, state.last, state.committed] {
                let (term, index) = point.unwrap_or_default();
                out.extend_from_slice(&term.to_le_bytes());
                out.extend_from_slice(&index.to_le_bytes());
            }
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; answers with the offset of the first batch too.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), &'static str> {
        const SHORT: &str = "the segment's header is cut short";
        if bytes.get(..8) != Some(MAGIC) {
            return Err("this is no segment of a format that this build knows");
        }
        let u32_at = |at: usize| -> Result<u32, &'static str> {
            let raw = bytes.get(at..at + 4).ok_or(SHORT)?;
            Ok(u32::from_le_bytes(raw.try_into().expect("4 bytes")))
        };
        let u64_at = |at: usize| -> Result<u64, &'static str> {
            let raw = bytes.get(at..at + 8).ok_or(SHORT)?;
            Ok(u64::from_le_bytes(raw.try_into().expect("8 bytes")))
        };
        let length = u32_at(8)? as usize;
        let body = length.checked_sub(4).and_then(|end| bytes.get(..end)).ok_or(SHORT)?;
        if crc32c::crc32c(body) != u32_at(length - 4)? {
            return Err("the segment's header does not have its checksum");
        }
        let count = u32_at(52)? as usize;
        if length != FIXED + count * GROUP {
            return Err("the segment's header has a wrong length");
        }
        let mut groups = BTreeMap::new();
        for n in 0..count {
            let at = FIXED - 4 + n * GROUP;
            let flags = bytes[at + 4];
            let point = |at: usize, bit: u8| -> Result<Option<Point>, &'static str> {
                let point = (u64_at(at)?, u64_at(at + 8)?);
                Ok((flags & bit != 0).then_some(point))
            };
            let vote = VoteRecord {
                term: u64_at(at + 5)?,
                node: u64_at(at + 13)?,
                committed: bytes[at + 21] != 0,
            };
            let state = GroupState {
                vote: (flags & 1 != 0).then_some(vote),
                purged: point(at + 22, 2)?,
                last: point(at + 38, 4)?,
                committed: point(at + 54, 8)?,
            };
            groups.insert(u32_at(at)?, state);
        }
        let header = Self {
            store_id: bytes[12..28].try_into().expect("16 bytes"),
            id: u64_at(28)?,
            salt: u64_at(36)?,
            first_batch: u64_at(44)?,
            groups,
        };
        Ok((header, blocks(length)))
    }
}

/// A segment that is in use.
pub struct Segment {
    /// Consecutive.
    pub id: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Of this life.
    pub salt: u64,
    /// Position of its first byte in the log as a whole: for distances.
    pub start: u64,
    /// Buffered, for reading what the cache has dropped.
    reader: File,
    /// For each group, the highest index of an entry in it.
    highest: Mutex<BTreeMap<u32, u64>>,
}

impl Segment {
    /// Opens one for reading. `bytes` is the size of segments.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(id: u64, path: PathBuf, salt: u64, bytes: u64) -> io::Result<Self> {
        let reader = File::open(&path)?;
        Ok(Self { id, path, salt, start: id * bytes, reader, highest: Mutex::default() })
    }

    /// Reads `length` bytes at `at`.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.reader.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Size of its file: not what new segments get, if the setting was changed.
    ///
    /// # Errors
    /// The file system's.
    pub fn file_bytes(&self) -> io::Result<u64> {
        Ok(self.reader.metadata()?.len())
    }

    /// For each group, the highest index of an entry in it.
    pub fn highest(&self) -> MutexGuard<'_, BTreeMap<u32, u64>> {
        self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an entry is in it.
    pub fn holds(&self, group: u32, index: u64) {
        let mut highest = self.highest();
        let top = highest.entry(group).or_insert(index);
        *top = index.max(*top);
    }
}

/// Name of the segment with this id.
#[must_use]
pub fn path_of(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:016x}{SUFFIX}"))
}

fn spare_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}{SPARE_SUFFIX}"))
}

/// Segments (by id) and spares in a directory. Anything else there is an error: the directory is
/// ours, and a file that does not belong may be a lost segment.
///
/// # Errors
/// The file system's, or a foreign file.
pub fn list(dir: &Path) -> io::Result<(BTreeMap<u64, PathBuf>, Vec<PathBuf>)> {
    let (mut segments, mut spares) = (BTreeMap::new(), Vec::new());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let id = name.strip_suffix(SUFFIX).and_then(|id| u64::from_str_radix(id, 16).ok());
        // Only the name that we give: a second spelling of an id would hide a segment.
        if let Some(id) = id.filter(|id| path_of(dir, *id) == path) {
            segments.insert(id, path);
        } else if name.ends_with(SPARE_SUFFIX) {
            spares.push(path);
        } else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is no file of the Raft log; move it elsewhere", path.display()),
            ));
        }
    }
    Ok((segments, spares))
}

/// True if there is a segment in a directory.
///
/// # Errors
/// The file system's.
pub fn any(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        if entry?.file_name().to_str().is_some_and(|name| name.ends_with(SUFFIX)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a file of zeros, so that no later write has to extend it or allocate blocks for it.
///
/// # Errors
/// The file system's (a full disk, mostly); what was begun is removed.
pub fn make_spare(dir: &Path, number: u64, bytes: u64, method: Method) -> io::Result<PathBuf> {
    const CHUNK: usize = 1 << 20;
    let path = spare_path(dir, number);
    let fill = || -> io::Result<()> {
        let file = method.create(&path)?;
        let mut zeros = AlignedBuffer::new(CHUNK);
        let zeros = zeros.take(CHUNK);
        zeros.fill(0);
        let mut at = 0;
        while at < bytes {
            let n = (bytes - at).min(CHUNK as u64);
            file.write_all_at(&zeros[..n as usize], at)?;
            at += n;
        }
        file.sync_all()
    };
    match fill() {
        Ok(()) => {
            sync_dir(dir)?;
            Ok(path)
        }
        Err(error) => {
            // The first error says what is wrong; a leftover is found and removed at the next open.
            let _ = fs::remove_file(&path);
            Err(error)
        }
    }
}

/// Turns a segment that nobody needs into a spare. Durable before it returns, so that a crash never
/// shows both lives of the file.
///
/// # Errors
/// The file system's.
pub fn retire(dir: &Path, old: &Path, number: u64) -> io::Result<PathBuf> {
    let spare = spare_path(dir, number);
    fs::rename(old, &spare)?;
    sync_dir(dir)?;
    Ok(spare)
}

/// Turns a spare into the next segment: header first, durable, then the name, durable.
///
/// # Errors
/// The disk's; final.
pub fn begin(
    dir: &Path,
    spare: &Path,
    bytes: u64,
    header: &Header,
    method: Method,
    disk: &dyn Disk,
) -> io::Result<(File, Segment)> {
    let file = method.open(spare)?;
    let space = Header::space(header.groups.len());
    let mut buffer = AlignedBuffer::new(space);
    let block = buffer.take(space);
    block.fill(0);
    let encoded = header.encode();
    block[..encoded.len()].copy_from_slice(&encoded);
    disk.write(&file, 0, block)?;
    disk.sync(&file)?;
    let path = path_of(dir, header.id);
    fs::rename(spare, &path)?;
    sync_dir(dir)?;
    let segment = Segment::open(header.id, path, header.salt, bytes)?;
    Ok((file, segment))
}

#[cfg(test)]
mod tests {
    use super::{
        super::durability::{self, Durability},
        *,
    };

    #[test]
    fn headers_come_back_and_damage_is_seen() {
        let state = GroupState {
            vote: Some(VoteRecord { term: 3, node: 2, committed: true }),
            purged: Some((1, 10)),
            last: Some((3, 17)),
            committed: None,
        };
        let groups = BTreeMap::from([(0, state), (7, GroupState::default())]);
        let header = Header { store_id: [9; 16], id: 4, salt: 5, first_batch: 6, groups };
        let bytes = header.encode();
        let mut padded = bytes.clone();
        padded.resize(Header::space(2), 0);
        assert_eq!(Header::parse(&padded), Ok((header, Header::space(2))));
        for at in 0..bytes.len() {
            let mut bad = padded.clone();
            bad[at] ^= 4;
            assert!(Header::parse(&bad).is_err(), "byte {at}");
            assert!(Header::parse(&bytes[..at]).is_err());
        }
    }

    /// A hole in it would be a block to allocate, and a journal to commit, in the middle of an
    /// append.
    #[test]
    fn a_spare_is_written_through_and_through() {
        use std::os::unix::fs::MetadataExt;

        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/tmp");
        fs::create_dir_all(&dir).unwrap();
        let dir = tempfile::TempDir::new_in(dir).unwrap();
        // More than one piece, and not whole pieces.
        let bytes = (5 << 19) + 4096;
        let mut methods = vec![Method::Fdatasync];
        // Where this file system takes it.
        methods.extend(durability::probe(dir.path(), Durability::Direct).ok());
        for (number, method) in methods.into_iter().enumerate() {
            // What is left of a try that failed.
            fs::write(spare_path(dir.path(), number as u64), vec![1; 1 << 22]).unwrap();
            let path = make_spare(dir.path(), number as u64, bytes, method).unwrap();
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(metadata.len(), bytes, "{method:?}");
            assert!(metadata.blocks() * 512 >= bytes, "{method:?}: all of it is allocated");
            assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0), "{method:?}");
        }
    }
}
