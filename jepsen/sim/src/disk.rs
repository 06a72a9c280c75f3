//! The disks under the Raft logs: what a process sees, what would survive a crash now, and the
//! frames between the two, which one sync after the other makes durable, in order.
//!
//! It keeps the contract of `log_store`: frames of all groups in one stream; after a crash
//! everything confirmed is there, and of what was not, a prefix may be.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    io,
};

use quorate_jepsen_core::seed::Seed;
use quorate_raft_node::{
    log_store::{Done, GroupState, Point, RawEntry, VoteRecord},
    raft::{compaction::LogSize, log_storage::RaftLog},
};
use quorate_state_machine::planted;
use tokio::sync::oneshot;

use crate::{
    cluster,
    world::{self, HostId},
};

/// One group's log.
#[derive(Clone, Debug, Default)]
struct Image {
    state: GroupState,
    entries: BTreeMap<u64, RawEntry>,
}

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<RawEntry>),
    Vote(VoteRecord),
    Committed(Option<Point>),
    Truncate(Option<u64>),
    Purge(Point),
}

impl Image {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(entries) => {
                for entry in entries {
                    let next = self.state.next_index();
                    assert!(
                        next.is_none_or(|next| next == entry.index),
                        "entry {} does not follow the log, which goes on at {next:?}",
                        entry.index
                    );
                    self.state.last = Some((entry.term, entry.index));
                    self.entries.insert(entry.index, entry.clone());
                }
            }
            Op::Vote(vote) => self.state.vote = Some(*vote),
            Op::Committed(point) => self.state.committed = *point,
            Op::Truncate(last_kept) => {
                let next = last_kept.map_or(0, |kept| kept + 1);
                drop(self.entries.split_off(&next));
                let last =
                    self.entries.last_key_value().map(|(_, entry)| (entry.term, entry.index));
                self.state.last = last.or(self.state.purged);
            }
            Op::Purge((term, index)) => {
                self.entries = self.entries.split_off(&(index + 1));
                self.state.purged = Some((*term, *index));
                if self.state.last.is_none_or(|(_, last)| last <= *index) {
                    self.state.last = self.state.purged;
                }
            }
        }
    }
}

enum Confirm {
    Callback(Done),
    Reply(oneshot::Sender<io::Result<()>>),
    Nobody,
}

struct Frame {
    group: u32,
    op: Op,
    confirm: Confirm,
}

/// One host's disk.
struct Disk {
    seed: Seed,
    durable: BTreeMap<u32, Image>,
    seen: BTreeMap<u32, Image>,
    waiting: VecDeque<Frame>,
    syncing: bool,
    /// Its host is to die soon after the next vote.
    die_after_vote: bool,
    /// Counts starts of its host.
    life: u64,
    /// A sync takes this long, in ticks: shortest and longest.
    sync_ticks: (u64, u64),
    usual_ticks: (u64, u64),
    stats: DiskStats,
}

/// What a disk went through.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskStats {
    /// Syncs done.
    pub syncs: u64,
    /// Entries that a crash took back.
    pub lost_entries: u64,
    /// Votes that a crash took back.
    pub lost_votes: u64,
}

thread_local! {
    static DISKS: RefCell<BTreeMap<HostId, Disk>> = const { RefCell::new(BTreeMap::new()) };
}

fn with<T>(host: HostId, f: impl FnOnce(&mut Disk) -> T) -> T {
    DISKS.with_borrow_mut(|disks| f(disks.get_mut(&host).expect("every node has a disk")))
}

/// A new, empty disk, whose syncs take so many ticks.
pub fn create(host: HostId, seed: &Seed, usual_ticks: (u64, u64)) {
    let disk = Disk {
        seed: seed.fork(&format!("disk-{host}")),
        durable: BTreeMap::new(),
        seen: BTreeMap::new(),
        waiting: VecDeque::new(),
        syncing: false,
        die_after_vote: false,
        life: 0,
        usual_ticks,
        sync_ticks: usual_ticks,
        stats: DiskStats::default(),
    };
    DISKS.with_borrow_mut(|disks| disks.insert(host, disk));
}

/// From here on a sync takes so many ticks.
pub fn set_sync_ticks(host: HostId, least: u64, most: u64) {
    with(host, |disk| disk.sync_ticks = (least, most));
}

/// Its syncs take as long as at the beginning.
pub fn as_usual(host: HostId) {
    with(host, |disk| disk.sync_ticks = disk.usual_ticks);
}

/// The host dies soon after the next time that it saves a vote.
pub fn die_after_vote(host: HostId) {
    with(host, |disk| disk.die_after_vote = true);
}

/// Nobody dies after a vote any more.
pub fn disarm() {
    DISKS.with_borrow_mut(|disks| disks.values_mut().for_each(|d| d.die_after_vote = false));
}

/// What a disk went through so far.
#[must_use]
pub fn stats(host: HostId) -> DiskStats {
    with(host, |disk| disk.stats)
}

/// The host's process has died: of what was not confirmed, a prefix may be there.
pub fn crash(host: HostId) {
    let lost = with(host, |disk| {
        disk.life += 1;
        disk.syncing = false;
        let keep = disk.seed.below(disk.waiting.len() as u64 + 1) as usize;
        let lost = disk.waiting.split_off(keep);
        for frame in &disk.waiting {
            disk.durable.entry(frame.group).or_default().apply(&frame.op);
        }
        let kept = std::mem::take(&mut disk.waiting);
        let mut lost_ops = lost.iter().map(|frame| (frame.group, &frame.op));
        // The frame at the cut may be there in part.
        if let Some((group, Op::Append(entries))) = lost_ops.next() {
            let part = disk.seed.below(entries.len() as u64 + 1) as usize;
            let op = Op::Append(entries[..part].to_vec());
            disk.durable.entry(group).or_default().apply(&op);
        }
        for frame in &lost {
            match &frame.op {
                Op::Append(entries) => disk.stats.lost_entries += entries.len() as u64,
                Op::Vote(_) => disk.stats.lost_votes += 1,
                _ => {}
            }
        }
        disk.seen = disk.durable.clone();
        (kept, lost)
    });
    // Callbacks of a dead process are dropped outside of the borrow.
    drop(lost);
}

/// One group's log on the disk of the host that made it.
#[derive(Clone, Copy, Debug)]
pub struct DiskLog {
    host: HostId,
    group: u32,
    life: u64,
}

impl DiskLog {
    /// The log of `group` on the disk of `host`.
    #[must_use]
    pub fn open(host: HostId, group: u32) -> Self {
        let life = with(host, |disk| disk.life);
        Self { host, group, life }
    }

    fn image<T>(&self, f: impl FnOnce(&Image) -> T) -> T {
        with(self.host, |disk| f(disk.seen.entry(self.group).or_default()))
    }

    /// The index of the last entry, synced or not; 0 if there is none.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.state().last.map_or(0, |(_, index)| index)
    }

    /// Neither vote nor entry, now or ever.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        let state = self.state();
        state.vote.is_none() && state.last.is_none() && state.purged.is_none()
    }

    fn submit(&self, op: Op, confirm: Confirm) {
        let (host, life) = (self.host, self.life);
        let mut confirm = Some(confirm);
        let start = with(host, |disk| {
            if disk.life != life {
                // The last words of a process that is dead already.
                return None;
            }
            disk.seen.entry(self.group).or_default().apply(&op);
            let confirm = confirm.take().expect("taken once");
            disk.waiting.push_back(Frame { group: self.group, op, confirm });
            let idle = !std::mem::replace(&mut disk.syncing, true);
            idle.then(|| disk.sync_takes())
        });
        if let Some(ticks) = start {
            world::after(host, ticks, move || sync(host, life));
        }
    }
}

impl Disk {
    fn sync_takes(&mut self) -> u64 {
        let (least, most) = self.sync_ticks;
        let usual = least + self.seed.below(most - least + 1);
        // What was confirmed too early must be at risk for a while.
        let early = ["skip_log_fsync", "skip_vote_fsync", "ack_before_quorum"];
        if early.into_iter().any(planted::is) {
            return usual + 40;
        }
        // Now and then a disk takes its time.
        if self.seed.one_in(200) { usual + self.seed.below(60) } else { usual }
    }
}

/// Everything that waits becomes durable, and is confirmed in order.
fn sync(host: HostId, life: u64) {
    let frames = with(host, |disk| {
        if disk.life != life {
            return VecDeque::new();
        }
        let frames = std::mem::take(&mut disk.waiting);
        for frame in &frames {
            disk.durable.entry(frame.group).or_default().apply(&frame.op);
        }
        disk.stats.syncs += 1;
        frames
    });
    world::trace(format_args!("n{host} sync {} frames", frames.len()));
    for frame in frames {
        match frame.confirm {
            Confirm::Callback(done) => done(Ok(())),
            // Who waited may be gone.
            Confirm::Reply(reply) => drop(reply.send(Ok(()))),
            Confirm::Nobody => {}
        }
    }
    let again = with(host, |disk| {
        if disk.life != life {
            return None;
        }
        disk.syncing = !disk.waiting.is_empty();
        disk.syncing.then(|| disk.sync_takes())
    });
    if let Some(ticks) = again {
        world::after(host, ticks, move || sync(host, life));
    }
}

fn gone() -> io::Error {
    io::Error::other("the disk is gone")
}

impl RaftLog for DiskLog {
    fn state(&self) -> GroupState {
        self.image(|image| image.state)
    }

    fn append(&self, entries: Vec<RawEntry>, done: Done) {
        quorate_raft_node::crash_point!("log.append.queued");
        if planted::is("skip_log_fsync") {
            self.submit(Op::Append(entries), Confirm::Nobody);
            return done(Ok(()));
        }
        self.submit(Op::Append(entries), Confirm::Callback(done));
        quorate_raft_node::crash_point!("log.append.written");
    }

    async fn save_vote(&self, vote: VoteRecord) -> io::Result<()> {
        let host = self.host;
        if with(host, |disk| std::mem::take(&mut disk.die_after_vote)) {
            // A candidate asks for votes, and a voter answers, once its vote is durable.
            world::after(host, world::dice(7), move || cluster::die(host));
        }
        if planted::is("skip_vote_fsync") {
            self.submit(Op::Vote(vote), Confirm::Nobody);
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.submit(Op::Vote(vote), Confirm::Reply(reply));
        let saved = answer.await.map_err(|_| gone())?;
        quorate_raft_node::crash_point!("log.vote.synced");
        saved
    }

    fn save_committed(&self, point: Option<Point>) {
        self.submit(Op::Committed(point), Confirm::Nobody);
    }

    async fn truncate_after(&self, last_kept: Option<u64>) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        self.submit(Op::Truncate(last_kept), Confirm::Reply(reply));
        quorate_raft_node::crash_point!("log.truncate.written");
        answer.await.map_err(|_| gone())?
    }

    async fn purge(&self, term: u64, index: u64) -> io::Result<()> {
        if self.image(|image| image.state.purged.is_some_and(|(_, purged)| purged >= index)) {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.submit(Op::Purge((term, index)), Confirm::Reply(reply));
        quorate_raft_node::crash_point!("log.purge.written");
        answer.await.map_err(|_| gone())?
    }

    async fn read(&self, from: u64, to: u64, max_bytes: u64) -> io::Result<Vec<RawEntry>> {
        Ok(self.image(|image| {
            let mut bytes = 0;
            let there = image.entries.range(from..to.max(from)).map(|(_, entry)| entry.clone());
            there
                .enumerate()
                .take_while(|(at, entry)| {
                    bytes += entry.payload.len() as u64;
                    *at == 0 || bytes <= max_bytes
                })
                .map(|(_, entry)| entry)
                .collect()
        }))
    }
}

/// What an entry takes on a disk besides its payload.
const ENTRY_BYTES: u64 = 64;

impl LogSize for DiskLog {
    fn bytes_between(&self, after: u64, upto: u64) -> u64 {
        self.image(|image| {
            let between = image.entries.range(after + 1..=upto.max(after + 1));
            between.map(|(_, entry)| entry.payload.len() as u64 + ENTRY_BYTES).sum()
        })
    }

    fn index_keeping(&self, bytes: u64) -> u64 {
        self.image(|image| {
            let mut kept = 0;
            for (index, entry) in image.entries.iter().rev() {
                kept += entry.payload.len() as u64 + ENTRY_BYTES;
                if kept >= bytes {
                    return index.saturating_sub(1);
                }
            }
            0
        })
    }
}
