//! Damage to what a node has stored of records: files of the state, not of the Raft log. Records are
//! found by what they say; nothing here knows the files' format.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use quorate_jepsen_core::{ids::RecordId, payload};

/// A stored copy of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Which.
    pub record: RecordId,
    file: PathBuf,
    /// A byte of its filler.
    at: u64,
}

/// Digits of a record's id, and a space.
const HEAD: usize = 17;

/// A record in the middle of the last table or blob file that has any, somewhere below `dir`: behind
/// what was trimmed, and before what is read at each start.
///
/// # Errors
/// There is none, or something cannot be read.
pub fn find_record(dir: &Path) -> Result<Stored> {
    let mut files = Vec::new();
    below(dir, &mut files)?;
    files.sort();
    for file in files.into_iter().rev() {
        let bytes = std::fs::read(&file)?;
        if let Some((record, at)) = whole_record(&bytes) {
            return Ok(Stored { record, file, at: at as u64 });
        }
    }
    anyhow::bail!("no record is in a file below {}", dir.display())
}

fn below(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            below(&path, files)?;
        } else if path.extension().is_some_and(|suffix| suffix == "sst" || suffix == "blob") {
            files.push(path);
        }
    }
    Ok(())
}

/// The first whole record behind the middle, or behind the begin, and the place of its last byte.
fn whole_record(bytes: &[u8]) -> Option<(RecordId, usize)> {
    let last = bytes.len().saturating_sub(HEAD);
    (last / 2..last).chain(0..last / 2).find_map(|from| {
        let rest = &bytes[from..];
        if rest[HEAD - 1] != b' ' || !rest[..HEAD - 1].iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let filler = rest[HEAD..].iter().take_while(|byte| byte.is_ascii_lowercase()).count();
        let record = payload::decode(&rest[..HEAD + filler])?;
        Some((record, from + HEAD + filler - 1))
    })
}

impl Stored {
    /// Flips a bit of it; the same again puts it right.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn damage(&self) -> Result<()> {
        let file = File::options().read(true).write(true).open(&self.file)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.at)?;
        byte[0] ^= 1;
        file.write_all_at(&byte, self.at)?;
        Ok(file.sync_all()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_among_other_bytes_and_damaged_and_put_right() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("quorate-stored-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("inner"))?;
        assert!(find_record(&dir).is_err(), "there is none yet");
        let record = payload::encode(RecordId(0x1a2b), 100);
        let path = dir.join("inner/000007.sst");
        std::fs::write(&path, [b"0123456789abcdef 0000\n\x64", &record[..], b"\n\x12"].concat())?;
        let before = std::fs::read(&path)?;
        let found = find_record(&dir)?;
        assert_eq!(found.record, RecordId(0x1a2b));
        found.damage()?;
        let damaged = std::fs::read(&path)?;
        assert_eq!(whole_record(&damaged), None);
        assert_eq!(damaged.iter().zip(&before).filter(|(a, b)| a != b).count(), 1);
        found.damage()?;
        assert_eq!(std::fs::read(&path)?, before);
        Ok(std::fs::remove_dir_all(&dir)?)
    }
}
