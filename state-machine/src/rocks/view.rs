//! RocksDB as a [`View`]: live (for apply, which is alone in writing) and frozen (for reads).

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use rocksdb::{
    DB, DBAccess, DBRawIteratorWithThreadMode, ErrorKind, ReadOptions, SnapshotWithThreadMode,
};
use self_cell::self_cell;

use crate::{
    keys::Key,
    planted,
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
    if planted::is("no_checksum_check") {
        options.set_verify_checksums(false);
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        memory::Memory,
        rocks::{Store, StoreOptions},
        view::{Write, Writes},
    };

    /// Keys that are prefixes and neighbours of each other.
    fn a_key() -> impl Strategy<Value = Key> {
        prop::collection::vec(prop::sample::select(&[0, 1, 0xfe, 0xff][..]), 1..3)
            .prop_map(|bytes| Key::from_slice(&bytes))
    }

    fn a_write() -> impl Strategy<Value = Write> {
        prop_oneof![
            5 => (a_key(), 0..3000_usize)
                .prop_map(|(key, bytes)| Write::Put(key, vec![7; bytes].into())),
            1 => a_key().prop_map(Write::Delete),
            1 => (a_key(), a_key())
                .prop_map(|(a, b)| Write::DeleteRange(a.clone().min(b.clone()), a.max(b))),
        ]
    }

    fn rows(view: &impl View, from: &[u8], to: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        view.scan(from, to, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            if rows.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        rows
    }

    #[test]
    fn views_are_the_model_at_every_bound() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let clear = Writes(vec![Write::DeleteRange(
            Key::from_slice(&[0]),
            Key::from_slice(&[0xff, 0xff, 0xff]),
        )]);
        let writes = prop::collection::vec(a_write(), 0..25);
        proptest!(ProptestConfig::with_cases(200), |(
            writes in writes, from in a_key(), to in a_key(), limit in 1..4_usize, flush: bool,
        )| {
            store.write(&clear).unwrap();
            let mut model = Memory::new();
            model.write(Writes(writes.clone()));
            store.write(&Writes(writes)).unwrap();
            if flush {
                store.flush().unwrap();
            }
            let (live, frozen) = (Live(&store.db), Frozen::new(store.db.clone()));
            // From here on only the live view may show something else.
            for view in [&live as &dyn View, &frozen] {
                prop_assert_eq!(view.get(&from).unwrap(), model.get(&from).unwrap());
                prop_assert_eq!(rows(&view, &from, &to, limit), rows(&model, &from, &to, limit));
                prop_assert_eq!(
                    view.first_key(&from, &to).unwrap(),
                    model.first_key(&from, &to).unwrap()
                );
                prop_assert_eq!(
                    view.last_key(&from, &to).unwrap(),
                    model.last_key(&from, &to).unwrap()
                );
            }
            store.write(&clear).unwrap();
            prop_assert_eq!(live.last_key(&from, &to).unwrap(), None);
            prop_assert_eq!(frozen.get(&from).unwrap(), model.get(&from).unwrap());
            prop_assert_eq!(
                frozen.last_key(&from, &to).unwrap(),
                model.last_key(&from, &to).unwrap()
            );
        });
    }
}
