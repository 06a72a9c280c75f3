//! RocksDB as a [`View`]: live (for apply, which is alone in writing) and frozen (for reads).

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use rocksdb::{
    DB, DBAccess, DBRawIteratorWithThreadMode, ErrorKind, ReadOptions, SnapshotWithThreadMode,
};
use self_cell::self_cell;

use crate::{
    keys::Key,
    view::{View, ViewError, Visit},
};

fn storage(error: rocksdb::Error) -> ViewError {
    match error.kind() {
        ErrorKind::Corruption => ViewError::corrupt("a stored file", error.into_string()),
        _ => ViewError::Storage(error.into_string()),
    }
}

/// The state as of the last write.
pub(super) struct Live<'a>(pub &'a DB);

impl View for Live<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        let value = self.0.get_pinned(key).map_err(storage)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), ViewError> {
        if from >= to {
            return Ok(());
        }
        scan(self.0.raw_iterator_opt(range(from, to)), visit)
    }

    fn last_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Key>, ViewError> {
        if from >= to {
            return Ok(None);
        }
        last_key(self.0.raw_iterator_opt(range(from, to)))
    }
}

self_cell!(
    struct Held {
        owner: Arc<DB>,
        #[covariant]
        dependent: Snapshot,
    }
);

type Snapshot<'a> = SnapshotWithThreadMode<'a, DB>;

/// The state as of one moment; later writes don't show. Keeps the database open.
pub struct Frozen(Held);

impl Frozen {
    pub(super) fn new(db: Arc<DB>) -> Self {
        Self(Held::new(db, |db| db.snapshot()))
    }

    fn snapshot(&self) -> &Snapshot<'_> {
        self.0.borrow_dependent()
    }
}

impl View for Frozen {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        let value = self.snapshot().get_pinned(key).map_err(storage)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), ViewError> {
        if from >= to {
            return Ok(());
        }
        scan(self.snapshot().raw_iterator_opt(range(from, to)), visit)
    }

    fn last_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Key>, ViewError> {
        if from >= to {
            return Ok(None);
        }
        last_key(self.snapshot().raw_iterator_opt(range(from, to)))
    }
}

fn range(from: &[u8], to: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    options
}

fn scan<D: DBAccess>(
    mut rows: DBRawIteratorWithThreadMode<'_, D>,
    visit: &mut Visit<'_>,
) -> Result<(), ViewError> {
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        if let ControlFlow::Break(()) = visit(key, value) {
            return Ok(());
        }
        rows.next();
    }
    // The end, or an error: a shorter answer must not pass for a whole one.
    rows.status().map_err(storage)
}

fn last_key<D: DBAccess>(
    mut rows: DBRawIteratorWithThreadMode<'_, D>,
) -> Result<Option<Key>, ViewError> {
    rows.seek_to_last();
    let key = rows.key().map(Key::from_slice);
    rows.status().map_err(storage)?;
    Ok(key)
}
