//! The header of an append's part. It is stored in front of the batch, so it is read in two places:
//! by apply from the entry, and by readers from the disk.
//!
//! ```text
//! format u8 | flags u8 | count u32 | crc32c of the batch u32
//!   [expected offset u64] [writer epoch u64] [producer 16 bytes, sequence u64] [incarnation u64]
//!   crc32c of the header so far u32
//! ```

use crate::{
    codec::{Input, Malformed},
    types::{Incarnation, Offset, ProducerId, Sequence, WriterEpoch},
};

const FORMAT: u8 = 1;

const EXPECTED_OFFSET: u8 = 1;
const WRITER_EPOCH: u8 = 2;
const PRODUCER: u8 = 4;
const INCARNATION: u8 = 8;
const ALL: u8 = EXPECTED_OFFSET | WRITER_EPOCH | PRODUCER | INCARNATION;

/// Longest header, bytes.
pub const MAX_PART_HEADER_BYTES: usize = 10 + 8 + 8 + 24 + 8 + 4;

/// What an append's part says besides the log's name and the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartHeader {
    /// Must equal the log's next offset.
    pub expected_offset: Option<Offset>,
    /// Must equal the log's writer epoch.
    pub writer_epoch: Option<WriterEpoch>,
    /// Deduplication.
    pub producer: Option<(ProducerId, Sequence)>,
    /// Must equal the log's incarnation.
    pub incarnation: Option<Incarnation>,
    /// Records in the batch, at least 1.
    pub count: u32,
    /// CRC32C of the batch.
    pub crc32c: u32,
}

impl PartHeader {
    /// Bytes of the encoded header.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        14 + 8 * usize::from(self.expected_offset.is_some())
            + 8 * usize::from(self.writer_epoch.is_some())
            + 24 * usize::from(self.producer.is_some())
            + 8 * usize::from(self.incarnation.is_some())
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let flag = |present: bool, bit: u8| if present { bit } else { 0 };
        out.push(FORMAT);
        out.push(
            flag(self.expected_offset.is_some(), EXPECTED_OFFSET)
                | flag(self.writer_epoch.is_some(), WRITER_EPOCH)
                | flag(self.producer.is_some(), PRODUCER)
                | flag(self.incarnation.is_some(), INCARNATION),
        );
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.crc32c.to_le_bytes());
        if let Some(Offset(n)) = self.expected_offset {
            out.extend_from_slice(&n.to_le_bytes());
        }
        if let Some(WriterEpoch(n)) = self.writer_epoch {
            out.extend_from_slice(&n.to_le_bytes());
        }
        if let Some((ProducerId(id), Sequence(n))) = self.producer {
            out.extend_from_slice(&id);
            out.extend_from_slice(&n.to_le_bytes());
        }
        if let Some(Incarnation(n)) = self.incarnation {
            out.extend_from_slice(&n.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
        debug_assert_eq!(out.len() - start, self.encoded_len(), "encoded_len is exact");
    }

    /// Reads the header in front of a stored batch, and says where the batch begins. Whether the
    /// batch has the stated checksum is for the caller to see.
    ///
    /// # Errors
    /// [`Malformed`] if the header is damaged or of an unknown format.
    pub fn parse(part: &[u8]) -> Result<(Self, usize), Malformed> {
        let mut input = Input(part);
        input.version(FORMAT)?;
        let flags = input.u8()?;
        if flags & !ALL != 0 {
            return Err(Malformed("an append condition this build does not know"));
        }
        let has = |bit: u8| flags & bit != 0;
        let mut header = Self { count: input.u32()?, crc32c: input.u32()?, ..Self::default() };
        if has(EXPECTED_OFFSET) {
            header.expected_offset = Some(Offset(input.u64()?));
        }
        if has(WRITER_EPOCH) {
            header.writer_epoch = Some(WriterEpoch(input.u64()?));
        }
        if has(PRODUCER) {
            header.producer = Some((ProducerId(input.array()?), Sequence(input.u64()?)));
        }
        if has(INCARNATION) {
            header.incarnation = Some(Incarnation(input.u64()?));
        }
        let checked = part.len() - input.0.len();
        if input.u32()? != crc32c::crc32c(&part[..checked]) {
            return Err(Malformed("the header of a batch does not have its checksum"));
        }
        if header.count == 0 {
            return Err(Malformed("a batch of no records"));
        }
        Ok((header, part.len() - input.0.len()))
    }
}
