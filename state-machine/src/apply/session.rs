//! The state as the next entry of a batch must see it: the view, and over it what the batch has
//! changed so far. Hot rows (logs, producers) are kept parsed, read once and written once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::owned;
use crate::{
    Malformed,
    dedupe::{self, Head},
    digest,
    keys::{self, BATCH, BatchKey, CHUNK, EXPIRY, Key, PRODUCER},
    limits::{DIGEST_MARKS, MAX_MARKED_LOGS},
    types::{Incarnation, LogIndex, LogName, LogPoint, Offset, ProducerId, TimestampMs},
    values::{DigestMark, GroupMeta, LogMeta, MarkedLog},
    view::{View, ViewError, Writes},
};

struct Cached<T> {
    /// `None`: there is no such row.
    value: Option<T>,
    dirty: bool,
}

pub(super) struct Session<'v, V> {
    view: &'v V,
    pub(super) group: GroupMeta,
    logs: BTreeMap<LogName, Cached<LogMeta>>,
    producers: BTreeMap<(Incarnation, ProducerId), Cached<Head>>,
    /// Other rows that later entries may look at; `None` is a deleted one.
    rows: BTreeMap<Key, Option<Bytes>>,
    /// Batches appended by this session, in order.
    appended: BTreeMap<Incarnation, Vec<BatchKey>>,
    /// Batches and deleted ranges, in order. The cached rows follow behind them at the end.
    writes: Writes,
    /// What the current entry decided.
    folded: Vec<u8>,
}

/// The logs' ranges in the tables that begin with an incarnation.
const OF_INCARNATION: [u8; 4] = [BATCH, PRODUCER, CHUNK, EXPIRY];

impl<'v, V: View> Session<'v, V> {
    pub(super) fn open(view: &'v V) -> Result<Self, ViewError> {
        let group = match view.get(&keys::group())? {
            Some(row) => GroupMeta::decode(&row).map_err(ViewError::damaged("the group's row"))?,
            None => GroupMeta::default(),
        };
        Ok(Self {
            view,
            group,
            logs: BTreeMap::new(),
            producers: BTreeMap::new(),
            rows: BTreeMap::new(),
            appended: BTreeMap::new(),
            writes: Writes::default(),
            folded: Vec::new(),
        })
    }

    pub(super) fn begin(&mut self, at: LogPoint) -> Result<(), ViewError> {
        if let Some(applied) = self.group.applied
            && (at.index <= applied.index || at.term < applied.term)
        {
            return Err(ViewError::corrupt(
                "the order of entries",
                format!(
                    "entry {}.{} does not follow {}.{}, the last one applied",
                    at.term, at.index, applied.term, applied.index
                ),
            ));
        }
        Ok(())
    }

    pub(super) fn raise_log_time(&mut self, timestamp: TimestampMs) {
        self.group.log_time = self.group.log_time.max(timestamp);
    }

    pub(super) fn membership(&mut self, blob: Bytes) {
        self.rows.insert(keys::membership(), Some(blob));
    }

    /// Reads a log's row, once per session.
    fn load_log(&mut self, name: &str) -> Result<(), ViewError> {
        if self.logs.contains_key(name) {
            return Ok(());
        }
        let row = self.view.get(&keys::log(name))?;
        let meta = row.map(|row| LogMeta::decode(&row)).transpose();
        let value = meta.map_err(ViewError::damaged(&format!("the row of log {name:?}")))?;
        self.logs.insert(owned(name), Cached { value, dirty: false });
        Ok(())
    }

    pub(super) fn log(&mut self, name: &str) -> Result<Option<&LogMeta>, ViewError> {
        self.load_log(name)?;
        Ok(self.logs[name].value.as_ref())
    }

    /// Sets or removes a log's row, and folds it into the digest.
    pub(super) fn set_log(&mut self, name: &str, meta: Option<LogMeta>) {
        self.fold_name(name);
        match &meta {
            Some(meta) => meta.encode_to(&mut self.folded),
            None => self.folded.push(0),
        }
        if let Some(slot) = self.logs.get_mut(name) {
            *slot = Cached { value: meta, dirty: true };
        } else {
            self.logs.insert(owned(name), Cached { value: meta, dirty: true });
        }
    }

    pub(super) fn put_batch(&mut self, key: BatchKey, stored: Bytes) {
        self.writes.put(key.key(), stored);
        self.appended.entry(key.incarnation).or_default().push(key);
    }

    /// The batch that holds `offset`, or the next one behind it.
    pub(super) fn batch_at(
        &self,
        incarnation: Incarnation,
        offset: Offset,
    ) -> Result<Option<BatchKey>, ViewError> {
        let behind = keys::behind_incarnation(BATCH, incarnation);
        // Batches of this session lie behind everything the view shows.
        if let Some(key) = self.view.first_key(&keys::batches_from(incarnation, offset), &behind)? {
            return BatchKey::parse(&key).map(Some).map_err(ViewError::damaged("a batch's key"));
        }
        let appended = self.appended.get(&incarnation).map_or(&[][..], Vec::as_slice);
        let at = appended.partition_point(|key| key.last_offset < offset);
        Ok(appended.get(at).copied())
    }

    /// Deletes the batches that end at offsets from `from` (inclusive) to `to` (exclusive).
    pub(super) fn delete_batches(&mut self, incarnation: Incarnation, from: Offset, to: Offset) {
        let (from, to) =
            (keys::batches_from(incarnation, from), keys::batches_from(incarnation, to));
        self.writes.delete_range(from, to);
    }

    /// Deletes everything stored for an incarnation. Nothing can ask for it afterwards: its log's
    /// row is gone, and no other log gets the number.
    pub(super) fn delete_incarnation(&mut self, incarnation: Incarnation) {
        for table in OF_INCARNATION {
            let from = keys::of_incarnation(table, incarnation);
            let behind = keys::behind_incarnation(table, incarnation);
            self.rows.retain(|key, _| *key < from || *key >= behind);
            self.writes.delete_range(from, behind);
        }
        self.producers.retain(|(of, _), _| *of != incarnation);
        self.appended.remove(&incarnation);
    }

    pub(super) fn producer(
        &mut self,
        incarnation: Incarnation,
        id: ProducerId,
    ) -> Result<Option<&Head>, ViewError> {
        if !self.producers.contains_key(&(incarnation, id)) {
            let row = self.view.get(&keys::producer(incarnation, id))?;
            let head = row.map(|row| Head::decode(&row)).transpose();
            let value = head.map_err(ViewError::damaged("a producer's row"))?;
            self.producers.insert((incarnation, id), Cached { value, dirty: false });
        }
        Ok(self.producers[&(incarnation, id)].value.as_ref())
    }

    pub(super) fn set_producer(
        &mut self,
        incarnation: Incarnation,
        id: ProducerId,
        head: Option<Head>,
    ) {
        self.producers.insert((incarnation, id), Cached { value: head, dirty: true });
    }

    pub(super) fn row(&self, key: &Key) -> Result<Option<Bytes>, ViewError> {
        match self.rows.get(key) {
            Some(row) => Ok(row.clone()),
            None => self.view.get(key),
        }
    }

    pub(super) fn set_row(&mut self, key: Key, row: Option<Bytes>) {
        self.rows.insert(key, row);
    }

    /// The first `limit` entries of the expiry index that are due, oldest first.
    pub(super) fn expired(
        &self,
        incarnation: Incarnation,
        limit: usize,
    ) -> Result<Vec<(u64, ProducerId)>, ViewError> {
        let from = keys::expiry_from(incarnation, 0);
        let to = keys::expiry_from(incarnation, dedupe::first_live_bucket(self.group.log_time));
        let mine = self.rows.range(from.clone()..to.clone());
        let mut due: BTreeSet<Key> =
            mine.filter(|(_, row)| row.is_some()).map(|(key, _)| key.clone()).collect();
        let mut left = limit;
        self.view.scan(&from, &to, &mut |key, _| {
            if !self.rows.contains_key(key) {
                due.insert(Key::from_slice(key));
                left -= 1;
            }
            if left == 0 {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        })?;
        due.iter()
            .take(limit)
            .map(|key| {
                let parsed = keys::parse_expiry(key);
                let (_, bucket, id) = parsed.map_err(ViewError::damaged("an expiry entry"))?;
                Ok((bucket, id))
            })
            .collect()
    }

    /// Records the digests as they are before this command's entry ends.
    pub(super) fn mark(&mut self, index: LogIndex) -> Result<(), ViewError> {
        let mut logs = BTreeMap::new();
        let mut damage = None;
        self.view.scan(&keys::log(""), &keys::behind_logs(""), &mut |key, row| {
            let parsed = keys::parse_log(key).and_then(|name| {
                let name = LogName::new(name)
                    .map_err(|_| Malformed("the key of a log holds no log name"))?;
                Ok((name, LogMeta::decode(row)?))
            });
            match parsed {
                Ok((name, meta)) => {
                    if !self.logs.contains_key(&name) {
                        logs.insert(name, meta);
                    }
                    // The session's own logs only add to these.
                    if logs.len() < MAX_MARKED_LOGS {
                        std::ops::ControlFlow::Continue(())
                    } else {
                        std::ops::ControlFlow::Break(())
                    }
                }
                Err(why) => {
                    damage = Some(ViewError::corrupt("the row of a log", why.0));
                    std::ops::ControlFlow::Break(())
                }
            }
        })?;
        if let Some(damage) = damage {
            return Err(damage);
        }
        for (name, cached) in &self.logs {
            if let Some(meta) = &cached.value {
                logs.insert(name.clone(), meta.clone());
            }
        }
        let mark = DigestMark {
            digest: self.group.digest,
            logs: logs
                .into_iter()
                .take(MAX_MARKED_LOGS)
                .map(|(name, meta)| MarkedLog {
                    name,
                    incarnation: meta.incarnation,
                    start_offset: meta.start_offset,
                    next_offset: meta.next_offset,
                    digest: meta.digest,
                })
                .collect(),
        };
        self.rows.insert(keys::mark(index), Some(mark.encode().into()));
        // Two marks in one entry are one.
        if self.group.marks.last() != Some(&index) {
            self.group.marks.push(index);
        }
        while self.group.marks.len() > DIGEST_MARKS {
            let oldest = self.group.marks.remove(0);
            self.rows.insert(keys::mark(oldest), None);
        }
        Ok(())
    }

    /// Everything the session changed.
    pub(super) fn finish(self) -> Writes {
        let mut writes = self.writes;
        for (key, row) in self.rows {
            match row {
                Some(row) => writes.put(key, row),
                None => writes.delete(key),
            }
        }
        for ((incarnation, id), cached) in self.producers {
            match cached.value {
                _ if !cached.dirty => {}
                Some(head) => writes.put(keys::producer(incarnation, id), head.encode()),
                None => writes.delete(keys::producer(incarnation, id)),
            }
        }
        for (name, cached) in self.logs {
            match cached.value {
                _ if !cached.dirty => {}
                Some(meta) => writes.put(keys::log(name.as_str()), meta.encode()),
                None => writes.delete(keys::log(name.as_str())),
            }
        }
        writes.put(keys::group(), self.group.encode());
        writes
    }
}

impl<V> Session<'_, V> {
    /// Adds to what the current entry decided.
    pub(super) fn fold(&mut self, bytes: &[u8]) {
        self.folded.extend_from_slice(bytes);
    }

    pub(super) fn fold_name(&mut self, name: &str) {
        self.folded.push(u8::try_from(name.len()).expect("a name's length is one byte"));
        self.folded.extend_from_slice(name.as_bytes());
    }

    pub(super) fn end(&mut self, at: LogPoint) {
        let GroupMeta { log_time, epoch_floor, logs, .. } = self.group;
        for number in [log_time.0, epoch_floor, logs] {
            self.fold(&number.to_le_bytes());
        }
        // Once per term: what tells a position of this history from one of another.
        if self.group.applied.is_none_or(|applied| applied.term != at.term) {
            let term = Bytes::copy_from_slice(&at.term.0.to_be_bytes());
            self.rows.insert(keys::term(at.index), Some(term));
        }
        self.group.applied = Some(at);
        self.group.digest = digest::of_entry(self.group.digest, at, &self.folded);
        self.folded.clear();
    }
}
