//! The image in its file: all rows one after the other, and a checksum of it all.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bytes::{Buf, BufMut, Bytes};

use super::{StoreError, error, faults};
use crate::{
    keys::Key,
    memory::Memory,
    planted,
    view::{Write, Writes},
};

/// The one file of a store.
const FILE: &str = "state.image";

/// Begins the file.
const MAGIC: &[u8; 8] = b"QIMAGE01";

/// Where the image of the store in `dir` is.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Puts `rows` in the place of what is there, whole or not at all: writes beside, syncs, renames.
pub(super) fn write(dir: &Path, rows: &Memory) -> io::Result<()> {
    if planted::is("fence_not_persisted") {
        return write_rows(dir, &faults::forget_epochs(rows));
    }
    write_rows(dir, rows)
}

fn write_rows(dir: &Path, rows: &Memory) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    for (key, value) in rows.rows() {
        bytes.put_u32(length(key.len()));
        bytes.put_slice(key);
        bytes.put_u32(length(value.len()));
        bytes.put_slice(value);
    }
    bytes.put_u32(crc32c::crc32c(&bytes));
    let beside = dir.join("state.tmp");
    let mut file = File::create(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path(dir))?;
    File::open(dir)?.sync_all()
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a row is far below 4 GiB")
}

/// All rows.
pub(super) fn read(dir: &Path) -> Result<Memory, StoreError> {
    let bytes = fs::read(path(dir)).map_err(error::io(dir))?;
    parse(bytes.into())
        .map_err(|why| StoreError::Damaged { dir: dir.to_owned(), why: why.to_owned() })
}

fn parse(bytes: Bytes) -> Result<Memory, &'static str> {
    let body = bytes.len().checked_sub(4).ok_or("the image is cut")?;
    let (mut rows, mut sum) = (bytes.slice(..body), bytes.slice(body..));
    if crc32c::crc32c(&rows) != sum.get_u32() || !rows.starts_with(MAGIC) {
        return Err("the image's checksum does not fit");
    }
    rows.advance(MAGIC.len());
    let mut writes = Writes::default();
    while rows.has_remaining() {
        let key = field(&mut rows)?;
        let value = field(&mut rows)?;
        writes.0.push(Write::Put(Key::from_slice(&key), value));
    }
    let mut memory = Memory::new();
    memory.write(writes);
    Ok(memory)
}

fn field(rows: &mut Bytes) -> Result<Bytes, &'static str> {
    let cut = "the image is cut";
    if rows.remaining() < 4 {
        return Err(cut);
    }
    let length = rows.get_u32() as usize;
    if rows.remaining() < length {
        return Err(cut);
    }
    Ok(rows.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = Memory::new();
        let row = |n: u8| Write::Put(Key::from_slice(&[n]), vec![n; 20].into());
        rows.write(Writes((0..3).map(row).collect()));
        write(dir.path(), &rows).unwrap();
        assert!(read(dir.path()).unwrap().rows().eq(rows.rows()));
        let whole = fs::read(path(dir.path())).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(parse(damaged.into()).is_err(), "byte {at}");
            assert!(parse(whole[..at].to_vec().into()).is_err(), "cut at {at}");
        }
    }
}
