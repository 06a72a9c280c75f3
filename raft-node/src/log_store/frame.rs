//! What is on the disk, as bytes. Pure.
//!
//! A segment is a header and then *batches*: what one sync made durable. Everything begins on a
//! block boundary and is padded with zeros to one, so that no write ever touches a block that holds
//! something durable.
//!
//! ```text
//! batch = magic u32 | salt u64 | number u64 | body length u32 | body crc32c u32 | header crc32c u32 | body
//! body  = frame...
//! frame = kind u8 | entry kind u8 | group u32 | term u64 | index u64 | length u32 | crc32c u32 | payload
//! ```
//!
//! Integers are little-endian. `number` counts the node's syncs; batch n + 1 is written only after
//! batch n is durable, which is what tells a torn tail (never acknowledged) from a damaged middle.
//! `salt` is drawn at random for each life of a segment: neither what an earlier life left behind,
//! nor a client's payload, can pass for a batch.

/// Unit of writing. A multiple of every block size in use, and what O_DIRECT wants at most.
pub const BLOCK: usize = 4096;

/// Bytes of a batch's header.
pub const BATCH_HEADER: usize = 4 + 8 + 8 + 4 + 4 + 4;

/// Bytes of a frame's header.
pub const FRAME_HEADER: usize = 1 + 1 + 4 + 8 + 8 + 4 + 4;

const MAGIC: u32 = 0x5152_4c42;

/// `n` rounded up to whole blocks.
#[must_use]
pub fn blocks(n: usize) -> usize {
    n.next_multiple_of(BLOCK)
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An entry. One whose index exists already is a copy, moved out of an old segment.
    Entry,
    /// A vote: term, node (as index), committed (as entry kind).
    Vote,
    /// Entries from `index` on are gone; `term` is that of the one before (both 0: all are gone,
    /// and none was ever purged).
    Truncate,
    /// Entries up to and including (term, index) are gone.
    Purge,
    /// (term, index) is known to be committed.
    Committed,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::Vote => 2,
            Self::Truncate => 3,
            Self::Purge => 4,
            Self::Committed => 5,
        }
    }

    fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Entry,
            2 => Self::Vote,
            3 => Self::Truncate,
            4 => Self::Purge,
            5 => Self::Committed,
            _ => return None,
        })
    }
}

/// A frame without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it says.
    pub kind: Kind,
    /// Kind of the entry, opaque here; or a flag.
    pub entry_kind: u8,
    /// The group.
    pub group: u32,
    /// Term.
    pub term: u64,
    /// Index.
    pub index: u64,
}

/// Bytes of a frame with a payload of `payload` bytes.
#[must_use]
pub fn frame_len(payload: usize) -> usize {
    FRAME_HEADER + payload
}

/// Writes a frame at the start of `out`, and says how long it is.
///
/// # Panics
/// If `out` is too short: the caller has asked [`frame_len`].
pub fn put_frame(out: &mut [u8], frame: &Frame, payload: &[u8]) -> usize {
    let (head, rest) = out.split_at_mut(FRAME_HEADER);
    head[0] = frame.kind.number();
    head[1] = frame.entry_kind;
    head[2..6].copy_from_slice(&frame.group.to_le_bytes());
    head[6..14].copy_from_slice(&frame.term.to_le_bytes());
    head[14..22].copy_from_slice(&frame.index.to_le_bytes());
    let length = u32::try_from(payload.len()).expect("entries are bounded far below 4 GiB");
    head[22..26].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..26]), payload);
    head[26..30].copy_from_slice(&crc.to_le_bytes());
    rest[..payload.len()].copy_from_slice(payload);
    frame_len(payload.len())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// Reads the frame at the start of `bytes`; answers with its payload and its whole length.
///
/// # Errors
/// What is wrong with it.
pub fn parse_frame(bytes: &[u8]) -> Result<(Frame, &[u8], usize), &'static str> {
    if bytes.len() < FRAME_HEADER {
        return Err("a frame is cut short");
    }
    let length = u32_at(bytes, 22) as usize;
    let payload = bytes.get(FRAME_HEADER..FRAME_HEADER + length).ok_or("a frame is cut short")?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..26]), payload);
    if crc != u32_at(bytes, 26) {
        return Err("a frame does not have its checksum");
    }
    let frame = Frame {
        kind: Kind::of(bytes[0]).ok_or("a frame of an unknown kind")?,
        entry_kind: bytes[1],
        group: u32_at(bytes, 2),
        term: u64_at(bytes, 6),
        index: u64_at(bytes, 14),
    };
    Ok((frame, payload, FRAME_HEADER + length))
}

/// The header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Of the segment's current life.
    pub salt: u64,
    /// Counts syncs.
    pub number: u64,
    /// Bytes of the body.
    pub length: u32,
    /// CRC32C of the body.
    pub crc: u32,
}

impl BatchHeader {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> [u8; BATCH_HEADER] {
        let mut out = [0; BATCH_HEADER];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..12].copy_from_slice(&self.salt.to_le_bytes());
        out[12..20].copy_from_slice(&self.number.to_le_bytes());
        out[20..24].copy_from_slice(&self.length.to_le_bytes());
        out[24..28].copy_from_slice(&self.crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..28]);
        out[28..32].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header at the start of `bytes`, if there is one of this salt.
    #[must_use]
    pub fn parse(bytes: &[u8], salt: u64) -> Option<Self> {
        let bytes = bytes.get(..BATCH_HEADER)?;
        let good = u32_at(bytes, 0) == MAGIC
            && u64_at(bytes, 4) == salt
            && crc32c::crc32c(&bytes[..28]) == u32_at(bytes, 28);
        good.then(|| Self {
            salt,
            number: u64_at(bytes, 12),
            length: u32_at(bytes, 20),
            crc: u32_at(bytes, 24),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame =
        Frame { kind: Kind::Entry, entry_kind: 1, group: 3, term: 7, index: 1 << 40 };

    #[test]
    fn frames_come_back_and_damage_is_seen() {
        let mut bytes = vec![0; frame_len(7)];
        assert_eq!(put_frame(&mut bytes, &FRAME, b"payload"), bytes.len());
        assert_eq!(parse_frame(&bytes), Ok((FRAME, &b"payload"[..], bytes.len())));
        for at in 0..bytes.len() {
            assert!(parse_frame(&bytes[..at]).is_err());
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(parse_frame(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_batch_of_another_life_is_none() {
        let header = BatchHeader { salt: 5, number: 9, length: 100, crc: 3 };
        let bytes = header.encode();
        assert_eq!(BatchHeader::parse(&bytes, 5), Some(header));
        assert_eq!(BatchHeader::parse(&bytes, 6), None);
        for at in 0..bytes.len() {
            let mut bad = bytes;
            bad[at] ^= 1;
            assert_eq!(BatchHeader::parse(&bad, 5), None);
        }
    }
}
