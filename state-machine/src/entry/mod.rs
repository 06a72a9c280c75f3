//! The packed Raft entry: many commands, one timestamp, every batch verbatim.
//!
//! ```text
//! entry   = version u8 | timestamp_ms u64 | commands u16 | command...
//! command = length u32 | kind u8 | content
//! append  = parts u8 | { name length u8 | name | part length u32 | part }...
//! part    = header (conditions, count, checksums) | serialized RecordBatch
//! ```
//!
//! Integers are little-endian. `part` is what gets stored, as a slice of the entry: apply
//! concatenates nothing and copies nothing. What apply decides about it (offset, timestamp) goes
//! into the key it is stored under.
//!
//! Decoding has two levels, because they fail differently. If the frame (everything needed to tell
//! the commands apart) is wrong, the entry as a whole is undecodable, and has one outcome. If one
//! command is wrong, that command is undecodable, and its neighbours are not affected. Either way
//! the judgement depends on the entry's bytes alone, so every replica comes to the same.

mod build;
mod part;
mod view;

pub use self::{
    build::EntryBuilder,
    part::{MAX_PART_HEADER_BYTES, PartHeader},
    view::{CommandView, Commands, EntryError, EntryView, PartView},
};

/// Version of the entry format, its first byte. A change of the format, or of anything that decides
/// outcomes, needs a new one: replicas of different builds apply the same entries.
pub const FORMAT_VERSION: u8 = 1;

/// Bytes before the first command.
const HEADER_BYTES: usize = 1 + 8 + 2;

/// Bytes of an entry that carries one append, besides its parts.
pub const ENTRY_OVERHEAD: usize = HEADER_BYTES + 4 + 1 + 1;

/// Most bytes that a part of an append takes in an entry besides its batch.
pub const MAX_PART_OVERHEAD: usize =
    1 + crate::limits::MAX_LOG_NAME_BYTES + 4 + MAX_PART_HEADER_BYTES;

/// What a creation says besides the name. Other bits are of no build yet.
mod creation {
    pub const IF_ABSENT: u8 = 1;
    /// A read level follows.
    pub const READ_LEVEL: u8 = 2;
}

/// The kinds of commands. Numbers are never reused.
mod kind {
    pub const APPEND: u8 = 1;
    pub const CREATE: u8 = 2;
    pub const DELETE: u8 = 3;
    pub const TRIM: u8 = 4;
    pub const FENCE: u8 = 5;
    pub const MARK: u8 = 6;
    pub const READ_LEVEL: u8 = 7;
}
