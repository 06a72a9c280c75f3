//! Reading the log back at start.
//!
//! What ends the log and what is damage: batch n + 1 is written only after batch n is durable. So a
//! batch that can't be read, with no later batch anywhere, is one whose write was under way at the
//! crash; nobody was told that it is durable, and it is cut off. If any later batch is there, the
//! unreadable one *was* durable: that is damage, and this replica must not go on as if it had never
//! promised what was in it.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    OpenError,
    durability::Disk,
    frame::{BATCH_HEADER, BLOCK, BatchHeader, Frame, Kind, blocks, parse_frame},
    segment::{self, Header, Segment},
    state::{EntryIs, GroupState},
    table::Table,
};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments read.
    pub segments: u64,
    /// Batches in them.
    pub batches: u64,
    /// Entries that are not purged.
    pub entries: u64,
    /// Bytes of an unfinished batch that were cut off.
    pub cut_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} entries in {} batches of {} segments, read in {} ms",
            self.entries,
            self.batches,
            self.segments,
            self.elapsed.as_millis()
        )?;
        if self.cut_bytes > 0 {
            write!(f, "; cut off an unfinished batch of {} bytes", self.cut_bytes)?;
        }
        Ok(())
    }
}

/// The log as read.
pub(super) struct Recovered {
    pub tables: BTreeMap<u32, Table>,
    pub segments: Vec<Arc<Segment>>,
    /// There is no batch in the last segment.
    pub last_is_empty: bool,
    pub spares: Vec<PathBuf>,
    /// Number of the next batch.
    pub next_batch: u64,
    pub report: RecoveryReport,
}

impl Recovered {
    pub fn states(&self) -> BTreeMap<u32, GroupState> {
        self.tables.iter().map(|(group, table)| (*group, table.state)).collect()
    }
}

/// Makes durable what the page cache holds of the last segment, then drops it from there. A process
/// that was killed between write and sync left a batch there that only looks durable, and a sync
/// that failed left one that the disk may never have seen: what is read below is promised on.
fn settle(path: &Path, disk: &dyn Disk) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    disk.sync(&file)?;
    // SAFETY: the call has no memory effects; the descriptor is open.
    let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

struct Replay {
    tables: BTreeMap<u32, Table>,
    next_batch: u64,
    report: RecoveryReport,
}

pub(super) fn recover(
    dir: &Path,
    store_id: [u8; 16],
    segment_bytes: u64,
    disk: &dyn Disk,
) -> Result<Recovered, OpenError> {
    let started = Instant::now();
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    let (paths, found_spares) = segment::list(dir).map_err(io)?;
    let mut spares = Vec::new();
    for spare in found_spares {
        // One that was not finished, or of another size, is no use.
        if std::fs::metadata(&spare).map_err(io)?.len() == segment_bytes {
            spares.push(spare);
        } else {
            std::fs::remove_file(&spare).map_err(io)?;
        }
    }
    if let Some((_, path)) = paths.last_key_value() {
        settle(path, disk).map_err(|source| OpenError::Io { path: path.clone(), source })?;
    }
    let mut replay =
        Replay { tables: BTreeMap::new(), next_batch: 1, report: RecoveryReport::default() };
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    let mut last_is_empty = false;
    for (id, path) in paths {
        let corrupt = |at: u64, why: String| OpenError::Corrupt { path: path.clone(), at, why };
        let bytes =
            std::fs::read(&path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let (header, first) = Header::parse(&bytes).map_err(|why| corrupt(0, why.to_owned()))?;
        if header.store_id != store_id {
            return Err(OpenError::ForeignStore { path });
        }
        if header.id != id {
            return Err(corrupt(0, format!("it says that it is segment {:x}", header.id)));
        }
        match segments.last() {
            None => replay.begin(&header),
            Some(last) if last.id + 1 != id => {
                return Err(corrupt(0, format!("segment {:x} before it is missing", last.id + 1)));
            }
            Some(_) => replay.check(&header).map_err(|why| corrupt(0, why))?,
        }
        let open = Segment::open(id, path.clone(), header.salt, segment_bytes);
        let segment =
            Arc::new(open.map_err(|source| OpenError::Io { path: path.clone(), source })?);
        replay.segment(&segment, &bytes, first).map_err(|(at, why)| corrupt(at, why))?;
        last_is_empty = replay.next_batch == header.first_batch;
        segments.push(segment);
    }
    for (group, table) in &mut replay.tables {
        if let Some(index) = table.first_without_place() {
            return Err(OpenError::Corrupt {
                path: dir.to_owned(),
                at: 0,
                why: format!(
                    "entry {index} of group {group} is missing: an old segment was removed"
                ),
            });
        }
        table.state.trust_committed_up_to_last();
    }
    replay.report.segments = segments.len() as u64;
    replay.report.entries = replay.tables.values().map(|t| t.len() as u64).sum();
    replay.report.elapsed = started.elapsed();
    Ok(Recovered {
        tables: replay.tables,
        segments,
        last_is_empty,
        spares,
        next_batch: replay.next_batch,
        report: replay.report,
    })
}

impl Replay {
    /// The oldest segment's header stands for everything before it. Entries that it says are there
    /// were in older segments; they were purged or copied later, or are missing.
    fn begin(&mut self, header: &Header) {
        self.next_batch = header.first_batch;
        for (group, state) in &header.groups {
            let mut table = Table::default();
            table.state = *state;
            if let Some((_, last)) = state.last {
                for index in state.first_index()..=last {
                    table.push(index, 0, 0, 0);
                }
            }
            self.tables.insert(*group, table);
        }
    }

    /// A later segment's header repeats what the segments before it amount to.
    fn check(&self, header: &Header) -> Result<(), String> {
        if header.first_batch != self.next_batch {
            return Err(format!(
                "it begins with batch {}, but {} is the next one: what is between was durable and \
                 can't be read",
                header.first_batch, self.next_batch
            ));
        }
        for (group, state) in &header.groups {
            let ours = self.tables.get(group).map(|table| table.state).unwrap_or_default();
            let essence = |s: &GroupState| (s.vote, s.purged, s.last);
            if essence(&ours) != essence(state) {
                return Err(format!(
                    "it expects group {group} at {state:?}, but the segments before it amount to \
                     {ours:?}"
                ));
            }
        }
        Ok(())
    }

    fn segment(
        &mut self,
        segment: &Arc<Segment>,
        bytes: &[u8],
        first: usize,
    ) -> Result<(), (u64, String)> {
        let mut at = first;
        while at + BLOCK <= bytes.len() {
            let Some(header) = BatchHeader::parse(&bytes[at..], segment.salt) else { break };
            let body = at + BATCH_HEADER;
            let end = body + header.length as usize;
            if header.number != self.next_batch || end > bytes.len() {
                break;
            }
            if crc32c::crc32c(&bytes[body..end]) != header.crc {
                break;
            }
            self.batch(segment, &bytes[body..end], body as u64)
                .map_err(|(at, why)| (at, why.to_owned()))?;
            self.next_batch += 1;
            self.report.batches += 1;
            at = blocks(end);
        }
        // Nothing that was written later may be there.
        for later in (at..bytes.len().saturating_sub(BATCH_HEADER - 1)).step_by(BLOCK) {
            match BatchHeader::parse(&bytes[later..], segment.salt) {
                Some(header) if header.number > self.next_batch => {
                    return Err((
                        at as u64,
                        format!(
                            "batch {} can't be read, but batch {} at byte {later} can: it was \
                             durable, and is damaged",
                            self.next_batch, header.number
                        ),
                    ));
                }
                Some(header) if later == at => self.report.cut_bytes = u64::from(header.length),
                _ => {}
            }
        }
        Ok(())
    }

    fn batch(
        &mut self,
        segment: &Arc<Segment>,
        mut body: &[u8],
        mut at: u64,
    ) -> Result<(), (u64, &'static str)> {
        while !body.is_empty() {
            let (frame, payload, length) = parse_frame(body).map_err(|why| (at, why))?;
            let table = self.tables.entry(frame.group).or_default();
            table.replay(&frame, payload.len(), segment, at).map_err(|why| (at, why))?;
            if frame.kind == Kind::Entry {
                segment.holds(frame.group, frame.index);
            }
            body = &body[length..];
            at += length as u64;
        }
        Ok(())
    }
}

impl Table {
    fn replay(
        &mut self,
        frame: &Frame,
        length: usize,
        segment: &Arc<Segment>,
        at: u64,
    ) -> Result<(), &'static str> {
        match frame.kind {
            Kind::Entry => {
                let length = u32::try_from(length).map_err(|_| "an entry beyond 4 GiB")?;
                if self.state.classify(frame.index)? == EntryIs::Next {
                    self.push(frame.index, frame.term, frame.entry_kind, length);
                }
                // A copy of an entry that is purged by now is of no interest.
                if let Some(slot) = self.slot_mut(frame.index) {
                    slot.term = frame.term;
                    slot.kind = frame.entry_kind;
                    slot.length = length;
                    slot.segment = Some(segment.clone());
                    slot.at = u32::try_from(at).map_err(|_| "a segment beyond 4 GiB")?;
                }
            }
            Kind::Truncate => {
                self.cut_after(frame.index);
            }
            Kind::Purge => {
                self.cut_upto(frame.index);
            }
            Kind::Vote | Kind::Committed => {}
        }
        self.state.follow(frame);
        Ok(())
    }
}
