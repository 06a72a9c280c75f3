//! Reading entries back from segments: neighbours with one call, and everything checked.

use std::{io, sync::Arc};

use bytes::Bytes;

use super::{
    frame::{BLOCK, Kind, parse_frame},
    group::RawEntry,
    segment::Segment,
    table::Slot,
};

/// Bytes of a segment that are read at once, unless one entry alone is larger.
const AT_ONCE: u64 = 1 << 20;

/// Bytes between two entries that are read along rather than with a second call: padding, and what
/// other groups wrote in between.
const GAP: u64 = 4 * BLOCK as u64;

/// Where an entry's payload is.
enum Source {
    Memory(Bytes),
    Disk { segment: Arc<Segment>, at: u64, end: u64 },
}

/// An entry that is to be read. Holds its segment, so that it is not used again meanwhile.
pub(super) struct Wanted {
    index: u64,
    term: u64,
    kind: u8,
    source: Source,
}

impl Wanted {
    /// # Panics
    /// If the entry is neither in memory nor on the disk: the cache keeps what is not written.
    pub fn new(index: u64, slot: &Slot, payload: Option<&Bytes>) -> Self {
        let source = match (payload, &slot.segment) {
            (Some(payload), _) => Source::Memory(payload.clone()),
            (None, Some(segment)) => Source::Disk {
                segment: segment.clone(),
                at: u64::from(slot.at),
                end: u64::from(slot.at) + slot.frame_bytes() as u64,
            },
            (None, None) => panic!("entry {index} is neither written nor in memory"),
        };
        Self { index, term: slot.term, kind: slot.kind, source }
    }
}

/// Entries that were looked up and not read yet. The disk is read outside of the table's lock; the
/// segments can't be used again meanwhile, as they are held by what is wanted from them.
pub struct Found {
    group: u32,
    wanted: Vec<Wanted>,
}

impl Found {
    pub(super) fn new(group: u32, wanted: Vec<Wanted>) -> Self {
        Self { group, wanted }
    }

    /// Whether some are on the disk only.
    #[must_use]
    pub fn on_disk(&self) -> bool {
        self.wanted.iter().any(|wanted| matches!(wanted.source, Source::Disk { .. }))
    }

    /// Reads them.
    ///
    /// # Errors
    /// The disk's, or damage: never a wrong entry.
    pub fn read(self) -> io::Result<Vec<RawEntry>> {
        entries(self.group, self.wanted)
    }
}

/// Reads what is wanted, in order.
///
/// # Errors
/// The disk's, or damage: never a wrong entry.
pub(super) fn entries(group: u32, wanted: Vec<Wanted>) -> io::Result<Vec<RawEntry>> {
    let mut out = Vec::with_capacity(wanted.len());
    // What was read last: its segment, where it begins there, the bytes.
    let mut buffer: Option<(Arc<Segment>, u64, Bytes)> = None;
    for n in 0..wanted.len() {
        let Wanted { index, term, kind, ref source } = wanted[n];
        let payload = match source {
            Source::Memory(payload) => payload.clone(),
            Source::Disk { segment, at, end } => {
                let held = buffer.take_if(|(of, from, bytes)| {
                    Arc::ptr_eq(of, segment) && *from <= *at && *end <= *from + bytes.len() as u64
                });
                let (of, from, bytes) = match held {
                    Some(held) => held,
                    None => {
                        let upto = end_of_run(segment, *at, *end, &wanted[n + 1..]);
                        let bytes = segment.read(*at, (upto - at) as usize)?;
                        (segment.clone(), *at, Bytes::from(bytes))
                    }
                };
                let frame = bytes.slice((at - from) as usize..(end - from) as usize);
                buffer = Some((of, from, bytes));
                payload_of(group, term, index, segment, *at, frame)?
            }
        };
        out.push(RawEntry { term, index, kind, payload });
    }
    Ok(out)
}

/// How far to read for the entry at `at..end` and its neighbours.
fn end_of_run(segment: &Arc<Segment>, at: u64, end: u64, following: &[Wanted]) -> u64 {
    let mut upto = end;
    for next in following {
        match &next.source {
            Source::Disk { segment: of, at: next_at, end: next_end }
                if Arc::ptr_eq(of, segment)
                    && (upto..=upto + GAP).contains(next_at)
                    && next_end - at <= AT_ONCE =>
            {
                upto = *next_end;
            }
            _ => break,
        }
    }
    upto
}

/// Checks that `bytes` is the frame of this entry, and answers with its payload.
fn payload_of(
    group: u32,
    term: u64,
    index: u64,
    segment: &Segment,
    at: u64,
    bytes: Bytes,
) -> io::Result<Bytes> {
    let damaged = |why: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "entry {index} of group {group} can't be read back from {} at byte {at}: {why}",
                segment.path.display(),
            ),
        )
    };
    let (frame, payload, _) = parse_frame(&bytes).map_err(damaged)?;
    let is_it =
        frame.kind == Kind::Entry && (frame.group, frame.term, frame.index) == (group, term, index);
    if !is_it {
        return Err(damaged("another frame is there"));
    }
    Ok(bytes.slice_ref(payload))
}
