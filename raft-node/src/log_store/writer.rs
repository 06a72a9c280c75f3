//! The sync thread: takes everything that waits, from all groups, and makes it durable with one
//! write and one sync.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use quorate_state_machine::planted;
use tokio::sync::oneshot;

use super::{
    Options,
    buffer::AlignedBuffer,
    durability::Method,
    evict::Evictions,
    frame::{BATCH_HEADER, BatchHeader, Frame, Kind, blocks, frame_len, put_frame},
    group::{Done, Group, RawEntry},
    prepare::Preparer,
    segment::{self, Header, Segment},
    shared::{Counters, Op, Shared},
    state::GroupState,
};

/// Bytes of frames in one batch: bounds the buffer, and how long the first waits for the last.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// A frame to write.
pub(super) struct Piece {
    frame: Frame,
    pub payload: Bytes,
    group: Arc<Group>,
    /// Of the slot, for entries.
    serial: u32,
}

enum Completion {
    Done(Done),
    Reply(oneshot::Sender<io::Result<()>>),
}

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub dir: PathBuf,
    pub options: Options,
    pub method: Method,
    /// The current segment.
    pub file: File,
    /// Oldest first; the last one is the current one.
    pub segments: VecDeque<Arc<Segment>>,
    /// Where the next batch goes in it.
    pub at: u64,
    /// Number of the next batch.
    pub number: u64,
    /// As of what is written; behind the tables by what is queued.
    pub states: BTreeMap<u32, GroupState>,
    pub preparer: Preparer,
    pub buffer: AlignedBuffer,
    pub evictions: Evictions,
    /// Nobody else opens the directory while this is open.
    pub _lock: File,
}

impl Writer {
    /// Until the log is closed, or fails.
    pub fn run(mut self) {
        if let Err(error) = self.tidy() {
            self.fail(&error, VecDeque::new());
            return;
        }
        let mut ops = Vec::new();
        loop {
            self.shared.take(&mut ops);
            let closing = ops.iter().any(|op| matches!(op, Op::Close));
            if ops.iter().any(|op| matches!(op, Op::Append { .. })) {
                crate::crash_point!("log.append.queued");
            }
            let mut waiting = VecDeque::new();
            if let Err(error) = self.write(ops.drain(..), closing, &mut waiting) {
                self.fail(&error, waiting);
                return;
            }
            if closing {
                for op in self.shared.close("the Raft log is closed") {
                    op.fail("the Raft log is closed");
                }
                return;
            }
        }
    }

    /// Final: what the disk holds of the failed write is unknown, and a second sync that succeeds
    /// would prove nothing.
    fn fail(&self, error: &io::Error, waiting: VecDeque<(usize, Completion)>) {
        let segment = self.current();
        let why = format!("{}: {error}", segment.path.display());
        tracing::error!(%error, segment = %segment.path.display(), "writing the Raft log failed");
        self.shared.failed.send_replace(Some(why.clone()));
        for (_, completion) in waiting {
            complete(completion, Err(io::Error::other(why.clone())));
        }
        for op in self.shared.close(&why) {
            op.fail(&why);
        }
    }

    fn current(&self) -> &Arc<Segment> {
        self.segments.back().expect("there is always a current segment")
    }

    fn write(
        &mut self,
        ops: impl Iterator<Item = Op>,
        closing: bool,
        waiting: &mut VecDeque<(usize, Completion)>,
    ) -> io::Result<()> {
        let mut pieces = Vec::new();
        for op in ops {
            match op {
                // A planted fault: what gets to the disk in time is the vote of the term before.
                Op::Vote { group, mut vote, reply } if planted::is("skip_vote_fsync") => {
                    (vote.term, vote.committed) = (vote.term.saturating_sub(1), false);
                    take_apart(Op::Vote { group, vote, reply }, &mut pieces, waiting);
                }
                op => take_apart(op, &mut pieces, waiting),
            }
        }
        if !pieces.is_empty() || closing {
            self.add_commit_points(&mut pieces);
        }
        let mut written = 0;
        // A call with nothing to write is done when everything before it is.
        while written < pieces.len() || !waiting.is_empty() {
            if written < pieces.len() {
                let count = self.fitting(&pieces[written..])?;
                let batch = &pieces[written..written + count];
                self.write_batch(batch)?;
                written += count;
                let entries = batch.iter().filter(|piece| piece.frame.kind == Kind::Entry);
                let (count, bytes) = entries.fold((0, 0), |(count, bytes), piece| {
                    (count + 1, bytes + piece.payload.len() as u64)
                });
                Counters::add(&self.shared.counters.entries, count);
                Counters::add(&self.shared.counters.payload_bytes, bytes);
            }
            while waiting.front().is_some_and(|(needs, _)| *needs <= written) {
                let (_, completion) = waiting.pop_front().expect("looked at right above");
                complete(completion, Ok(()));
            }
        }
        self.evictions.run(&self.shared.cached, self.options.cache_bytes);
        Ok(())
    }

    /// The commit points that changed ride along.
    fn add_commit_points(&self, pieces: &mut Vec<Piece>) {
        let groups = self.shared.groups.read().unwrap_or_else(PoisonError::into_inner);
        for group in groups.values() {
            let mut table = group.table();
            if !std::mem::take(&mut table.unsaved_committed) {
                continue;
            }
            let Some((term, index)) = table.state.committed else { continue };
            let frame =
                Frame { kind: Kind::Committed, entry_kind: 0, group: group.number, term, index };
            let group = group.clone();
            pieces.push(Piece { frame, payload: Bytes::new(), group, serial: 0 });
        }
    }

    /// How many of the pieces go into the next batch; begins a new segment if not even one fits.
    fn fitting(&mut self, pieces: &[Piece]) -> io::Result<usize> {
        let needed = |piece: &Piece| frame_len(piece.payload.len());
        let first = blocks(BATCH_HEADER + needed(&pieces[0])) as u64;
        if self.at + first > self.options.segment_bytes {
            self.roll()?;
        }
        let room = (self.options.segment_bytes - self.at) as usize;
        if first > room as u64 {
            return Err(io::Error::other(format!(
                "an entry of {} bytes does not fit into a segment of {} bytes \
                 (log.segment_mb)",
                pieces[0].payload.len(),
                self.options.segment_bytes
            )));
        }
        // `room` is whole blocks, so what fits unpadded fits padded.
        let limit = room.min(MAX_BODY.max(first as usize)) - BATCH_HEADER;
        let mut body = 0;
        let fits = pieces.iter().take_while(|piece| {
            body += needed(piece);
            body <= limit
        });
        Ok(fits.count().max(1))
    }

    pub fn write_batch(&mut self, pieces: &[Piece]) -> io::Result<()> {
        let body: usize = pieces.iter().map(|p| frame_len(p.payload.len())).sum();
        let total = blocks(BATCH_HEADER + body);
        let bytes = self.buffer.take(total);
        let mut at = BATCH_HEADER;
        for piece in pieces {
            at += put_frame(&mut bytes[at..], &piece.frame, &piece.payload);
        }
        bytes[at..].fill(0);
        let segment = self.segments.back().expect("there is always a current segment").clone();
        let header = BatchHeader {
            salt: segment.salt,
            number: self.number,
            length: body as u32,
            crc: crc32c::crc32c(&bytes[BATCH_HEADER..at]),
        };
        bytes[..BATCH_HEADER].copy_from_slice(&header.encode());

        let started = Instant::now();
        self.options.disk.write(&self.file, self.at, bytes)?;
        let has = |kind: Kind| pieces.iter().any(|piece| piece.frame.kind == kind);
        if has(Kind::Entry) {
            crate::crash_point!("log.append.written");
        }
        if has(Kind::Truncate) {
            crate::crash_point!("log.truncate.written");
        }
        if has(Kind::Purge) {
            crate::crash_point!("log.purge.written");
        }
        let planted = planted::is("skip_log_fsync");
        // That fault is about entries: a vote is durable even then.
        if (self.method == Method::Fdatasync && !planted) || (planted && has(Kind::Vote)) {
            self.options.disk.sync(&self.file)?;
        }
        let counters = &self.shared.counters;
        counters.synced(started.elapsed());
        Counters::add(&counters.written_bytes, total as u64);
        if has(Kind::Entry) {
            crate::crash_point!("log.append.synced");
        }
        if has(Kind::Vote) {
            crate::crash_point!("log.vote.synced");
        }
        self.note(pieces, &segment);
        self.number += 1;
        self.at += total as u64;
        self.shared.end.store(segment.start + self.at, Ordering::Relaxed);
        if has(Kind::Purge) || has(Kind::Truncate) {
            self.free_segments();
        }
        Ok(())
    }

    /// Tells the tables where the entries are, and follows every frame.
    fn note(&mut self, pieces: &[Piece], segment: &Arc<Segment>) {
        let mut at = self.at as usize + BATCH_HEADER;
        for run in pieces.chunk_by(|a, b| Arc::ptr_eq(&a.group, &b.group)) {
            let group = &run[0].group;
            let state = self.states.entry(group.number).or_default();
            let mut table = group.table();
            let mut newest = None;
            for piece in run {
                let Frame { kind, index, .. } = piece.frame;
                state.follow(&piece.frame);
                if kind == Kind::Entry {
                    newest = Some(index);
                    segment.holds(group.number, index);
                    // Truncated or purged meanwhile, or another entry has the index now: no slot.
                    if let Some(slot) = table.slot_mut(index)
                        && slot.serial == piece.serial
                    {
                        slot.segment = Some(segment.clone());
                        slot.at = u32::try_from(at).expect("segments are below 4 GiB");
                    }
                }
                at += frame_len(piece.payload.len());
            }
            drop(table);
            if let Some(upto) = newest {
                self.evictions.written(group, upto);
            }
        }
    }

    fn roll(&mut self) -> io::Result<()> {
        let spare = self.preparer.take()?;
        let header = Header {
            store_id: self.options.store_id,
            id: self.current().id + 1,
            salt: rand::random(),
            first_batch: self.number,
            groups: self.states.clone(),
        };
        let space = Header::space(header.groups.len()) as u64;
        let (file, segment) = segment::begin(
            &self.dir,
            &spare,
            self.options.segment_bytes,
            &header,
            self.method,
            &*self.options.disk,
        )?;
        crate::crash_point!("log.segment.rolled");
        self.file = file;
        self.at = space;
        self.segments.push_back(Arc::new(segment));
        self.tidy()
    }
}

impl Piece {
    pub fn entry(group: &Arc<Group>, entry: RawEntry, serial: u32) -> Self {
        let frame = Frame {
            kind: Kind::Entry,
            entry_kind: entry.kind,
            group: group.number,
            term: entry.term,
            index: entry.index,
        };
        Self { frame, payload: entry.payload, group: group.clone(), serial }
    }
}

fn take_apart(op: Op, pieces: &mut Vec<Piece>, waiting: &mut VecDeque<(usize, Completion)>) {
    let mut single = |group: Arc<Group>, kind, flag: bool, term, index, reply| {
        let frame = Frame { kind, entry_kind: u8::from(flag), group: group.number, term, index };
        pieces.push(Piece { frame, payload: Bytes::new(), group, serial: 0 });
        waiting.push_back((pieces.len(), Completion::Reply(reply)));
    };
    match op {
        Op::Vote { group, vote, reply } => {
            single(group, Kind::Vote, vote.committed, vote.term, vote.node, reply);
        }
        Op::Truncate { group, last, reply } => {
            let (term, index) = last.map_or((0, 0), |(term, index)| (term, index + 1));
            single(group, Kind::Truncate, false, term, index, reply);
        }
        Op::Purge { group, term, index, reply } => {
            single(group, Kind::Purge, false, term, index, reply);
        }
        Op::Append { group, entries, first_serial, done } => {
            let serials = (0..).map(|n| first_serial.wrapping_add(n));
            let entries = entries.into_iter().zip(serials);
            pieces.extend(entries.map(|(entry, serial)| Piece::entry(&group, entry, serial)));
            waiting.push_back((pieces.len(), Completion::Done(done)));
        }
        Op::Close => {}
    }
}

fn complete(completion: Completion, result: io::Result<()>) {
    match completion {
        Completion::Done(done) => done(result),
        // Who asked may have stopped waiting.
        Completion::Reply(reply) => drop(reply.send(result)),
    }
}
