//! The reference model: state as an ordered map. What it says is right by definition; every other
//! home must agree with it.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use bytes::Bytes;

use crate::{
    apply::{ApplyItem, commit},
    keys::Key,
    outcome::Outcome,
    read::Reader,
    view::{View, ViewError, Visit, Write, Writes},
};

/// State in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    rows: BTreeMap<Vec<u8>, Bytes>,
}

impl Memory {
    /// Empty state.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies entries as one batch.
    ///
    /// # Errors
    /// [`ViewError`] if the state is damaged; nothing is changed then.
    pub fn apply(&mut self, items: &[ApplyItem]) -> Result<Vec<Vec<Outcome>>, ViewError> {
        let (writes, outcomes) = commit(&*self, items)?;
        self.write(writes);
        Ok(outcomes)
    }

    /// Carries out writes, in order.
    pub fn write(&mut self, writes: Writes) {
        for write in writes.0 {
            match write {
                // Copied, because a slice would keep its whole Raft entry in memory.
                Write::Put(key, value) => {
                    self.rows.insert(key.into_vec(), Bytes::copy_from_slice(&value));
                }
                Write::Delete(key) => {
                    self.rows.remove(key.as_slice());
                }
                Write::DeleteRange(from, to) => {
                    let gone: Vec<_> = self.range(&from, &to).map(|(key, _)| key.clone()).collect();
                    gone.iter().for_each(|key| {
                        self.rows.remove(key);
                    });
                }
            }
        }
    }

    /// Reads of the current state.
    ///
    /// # Errors
    /// [`ViewError`] if the group's row is damaged.
    pub fn reader(&self) -> Result<Reader<&Self>, ViewError> {
        Reader::new(self)
    }

    /// Every row, in key order.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], &Bytes)> {
        self.rows.iter().map(|(key, value)| (key.as_slice(), value))
    }

    fn range(&self, from: &[u8], to: &[u8]) -> impl DoubleEndedIterator<Item = (&Vec<u8>, &Bytes)> {
        // An inverted range is empty, as everywhere else; BTreeMap would panic.
        let to = to.max(from);
        self.rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)))
    }
}

impl View for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), ViewError> {
        for (key, value) in self.range(from, to) {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Key>, ViewError> {
        Ok(self.range(from, to).next_back().map(|(key, _)| Key::from_slice(key)))
    }
}
