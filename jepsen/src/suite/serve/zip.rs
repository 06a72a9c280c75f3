//! The files of a run as one ZIP archive, written while it is sent.
//!
//! Nothing is compressed: the browser is on the same machine. Folders are left out, which are the
//! nodes' data; they are large, and of no use to somebody who was not there.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use tokio::sync::mpsc::Sender;

/// Where an archive goes, piece by piece.
#[derive(Debug)]
pub struct Pieces {
    to: Sender<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
}

impl Pieces {
    /// Into this channel. To be used where blocking is allowed.
    pub fn new(to: Sender<io::Result<Vec<u8>>>) -> Self {
        Self { to, piece: Vec::with_capacity(super::PIECE) }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= super::PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(super::PIECE));
        self.to.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// What the archive's directory must know of a file.
struct Entry {
    name: String,
    crc: u32,
    length: u32,
    at: u32,
}

/// "Version needed to extract" 2.0; names are UTF-8; not compressed; 1 January 1980, because the
/// name of a run says when it was.
const HEAD: [u8; 10] = [20, 0, 0, 8, 0, 0, 0, 0, 0x21, 0];

/// Writes an archive of the files in `dir`, under `prefix/`.
///
/// # Errors
/// Reading or writing failed, or it is more than the format takes without its extensions (4 GiB).
pub fn write(dir: &Path, prefix: &str, mut to: impl Write) -> io::Result<()> {
    let too_large = |_| io::Error::other("more than 4 GiB do not fit in this archive");
    let mut names: Vec<_> = std::fs::read_dir(dir)?.collect::<io::Result<_>>()?;
    names.sort_by_key(std::fs::DirEntry::file_name);
    let (mut entries, mut at) = (Vec::new(), 0_u64);
    for file in names {
        if !file.file_type()?.is_file() {
            continue;
        }
        // Twice through the file: what is sent must fit what was said before. A log that grows in
        // between is cut where it was.
        let length = u32::try_from(file.metadata()?.len()).map_err(too_large)?;
        let crc = crc32(File::open(file.path())?.take(u64::from(length)))?;
        let name = format!("{prefix}/{}", file.file_name().to_string_lossy());
        let entry = Entry { name, crc, length, at: u32::try_from(at).map_err(too_large)? };
        to.write_all(b"PK\x03\x04")?;
        to.write_all(&HEAD)?;
        to.write_all(&entry.sizes()?)?;
        to.write_all(&[0, 0])?;
        to.write_all(entry.name.as_bytes())?;
        let sent = io::copy(&mut File::open(file.path())?.take(u64::from(length)), &mut to)?;
        if sent != u64::from(length) {
            return Err(io::Error::other(format!("{} became shorter", entry.name)));
        }
        at += 30 + entry.name.len() as u64 + u64::from(length);
        entries.push(entry);
    }
    let (start, mut size) = (at, 0_u64);
    for entry in &entries {
        // Made by: 2.0 on Unix; attributes: a regular file, rw-r--r--.
        to.write_all(b"PK\x01\x02\x14\x03")?;
        to.write_all(&HEAD)?;
        to.write_all(&entry.sizes()?)?;
        to.write_all(&[0; 8])?;
        to.write_all(&(0o100_644_u32 << 16).to_le_bytes())?;
        to.write_all(&entry.at.to_le_bytes())?;
        to.write_all(entry.name.as_bytes())?;
        size += 46 + entry.name.len() as u64;
    }
    let count = u16::try_from(entries.len())
        .map_err(|_| io::Error::other("more than 65,535 files do not fit in this archive"))?;
    to.write_all(b"PK\x05\x06\0\0\0\0")?;
    to.write_all(&[count.to_le_bytes(), count.to_le_bytes()].concat())?;
    to.write_all(&u32::try_from(size).map_err(too_large)?.to_le_bytes())?;
    to.write_all(&u32::try_from(start).map_err(too_large)?.to_le_bytes())?;
    to.write_all(&[0, 0])?;
    to.flush()
}

impl Entry {
    /// Checksum, both lengths (compressed and not), length of the name.
    fn sizes(&self) -> io::Result<Vec<u8>> {
        let name = u16::try_from(self.name.len())
            .map_err(|_| io::Error::other(format!("{}: too long a name", self.name)))?;
        let mut bytes = self.crc.to_le_bytes().to_vec();
        bytes.extend([self.length.to_le_bytes(), self.length.to_le_bytes()].concat());
        bytes.extend(name.to_le_bytes());
        Ok(bytes)
    }
}

/// The CRC of ZIP and Ethernet, another one than the one that our logs use.
fn crc32(mut from: impl Read) -> io::Result<u32> {
    let mut table = [0_u32; 256];
    for (number, entry) in (0_u32..).zip(&mut table) {
        *entry =
            (0..8).fold(number, |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 });
    }
    let (mut crc, mut buffer) = (!0_u32, vec![0; super::PIECE]);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(!crc);
        }
        for byte in &buffer[..read] {
            crc = (crc >> 8) ^ table[usize::from(crc.to_le_bytes()[0] ^ byte)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_format() {
        assert_eq!(crc32(&b"123456789"[..]).unwrap(), 0xCBF4_3926);
        assert_eq!(crc32(&b""[..]).unwrap(), 0);
    }
}
