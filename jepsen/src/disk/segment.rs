//! Just enough of the Raft log's format on disk to damage it where it matters. Written from the
//! format's description and on purpose not with the server's code, which is what is being tested.
//!
//! A segment is a header block and then batches, each on a block boundary:
//! `magic u32 | salt u64 | number u64 | length u32 | body crc32c u32 | header crc32c u32 | body`,
//! little-endian.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

const BLOCK: usize = 4096;
const HEAD: usize = 32;
const MAGIC: u32 = 0x5152_4c42;

/// A batch on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The segment's file.
    pub file: PathBuf,
    /// Where its header begins.
    pub at: u64,
    /// Consecutive over the node's life.
    pub number: u64,
    /// Bytes of its body.
    pub length: u32,
    salt: u64,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has this length")
}

fn parse(bytes: &[u8]) -> Option<(u64, u64, u32)> {
    let head = bytes.get(..HEAD)?;
    let sound = u32::from_le_bytes(number(head, 0)) == MAGIC
        && u32::from_le_bytes(number(head, HEAD - 4)) == crc32c::crc32c(&head[..HEAD - 4]);
    sound.then(|| {
        let (salt, batch) = (number(head, 4), number(head, 12));
        let length = number(head, 20);
        (u64::from_le_bytes(salt), u64::from_le_bytes(batch), u32::from_le_bytes(length))
    })
}

/// All batches of the present life of each segment, in the order in which they were written.
///
/// # Errors
/// The folder holds no log, or cannot be read.
pub fn batches(log_dir: &Path) -> Result<Vec<Found>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(log_dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|suffix| suffix == "seg") {
            files.push(path);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "no segments in {}", log_dir.display());
    let mut all: Vec<Found> = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file)?;
        let mut at = BLOCK;
        let mut life = None;
        while let Some((salt, number, length)) = bytes.get(at..).and_then(parse) {
            // What follows in the file may be of an earlier life.
            if *life.get_or_insert(salt) != salt || all.last().is_some_and(|b| number <= b.number) {
                break;
            }
            all.push(Found { file: file.clone(), at: at as u64, number, length, salt });
            at += (HEAD + length as usize).next_multiple_of(BLOCK);
        }
    }
    Ok(all)
}

/// Flips a bit in the body of a batch; the same again puts it right.
///
/// # Errors
/// The file cannot be written.
pub fn damage(batch: &Found) -> Result<()> {
    let file = File::options().read(true).write(true).open(&batch.file)?;
    let at = batch.at + HEAD as u64 + u64::from(batch.length) / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 4;
    file.write_all_at(&byte, at)?;
    Ok(file.sync_all()?)
}

/// Leaves behind the last batch what a power loss leaves of one that was being written: its header,
/// and half of its body.
///
/// # Errors
/// There is no room for it in the segment, or the file cannot be written.
pub fn tear(log_dir: &Path) -> Result<()> {
    let all = batches(log_dir)?;
    let last = all.last().context("the log is empty")?;
    let body = vec![0xa5; 3 * BLOCK];
    let mut head = Vec::with_capacity(HEAD);
    head.extend(MAGIC.to_le_bytes());
    head.extend(last.salt.to_le_bytes());
    head.extend((last.number + 1).to_le_bytes());
    head.extend((body.len() as u32).to_le_bytes());
    head.extend(crc32c::crc32c(&body).to_le_bytes());
    head.extend(crc32c::crc32c(&head).to_le_bytes());
    head.extend(&body[..body.len() / 2]);
    let file = File::options().write(true).open(&last.file)?;
    let at = last.at + (HEAD + last.length as usize).next_multiple_of(BLOCK) as u64;
    ensure!(at + head.len() as u64 <= file.metadata()?.len(), "the segment is full");
    file.write_all_at(&head, at)?;
    Ok(file.sync_all()?)
}
