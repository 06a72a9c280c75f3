//! Where state is read from and written to. Homes: [`crate::memory`], `crate::rocks`
//! and [`crate::image`].

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;

use crate::{codec::Malformed, keys::Key};

/// A local failure to read. Not an outcome: it says nothing about the replicated state, and stops
/// apply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The storage below failed.
    #[error("reading the state failed: {0}")]
    Storage(String),
    /// What was read is damaged. It is never served.
    #[error("damaged state: {what}: {why}")]
    Corrupt {
        /// Which stored thing.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

impl ViewError {
    pub(crate) fn corrupt(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), why: why.into() }
    }

    /// Turns what a decoder says into damage of `what`.
    pub(crate) fn damaged(what: &str) -> impl FnOnce(Malformed) -> Self {
        move |why| Self::corrupt(what, why.0)
    }
}

/// Called by [`View::scan`] for each row: key and value. [`ControlFlow::Break`] ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An ordered map of bytes, as of one moment.
pub trait View {
    /// The value under `key`.
    ///
    /// # Errors
    /// [`ViewError`].
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError>;

    /// Visits the rows from `from` (inclusive) to `to` (exclusive) in ascending order.
    ///
    /// # Errors
    /// [`ViewError`]; rows may have been visited before.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), ViewError>;

    /// The key of the first row from `from` (inclusive) to `to` (exclusive).
    ///
    /// # Errors
    /// [`ViewError`].
    fn first_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Key>, ViewError> {
        let mut first = None;
        self.scan(from, to, &mut |key, _| {
            first = Some(Key::from_slice(key));
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    /// The key of the last row from `from` (inclusive) to `to` (exclusive).
    ///
    /// # Errors
    /// [`ViewError`].
    fn last_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Key>, ViewError>;
}

impl<V: View + ?Sized> View for &V {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        (**self).get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), ViewError> {
        (**self).scan(from, to, visit)
    }

    fn last_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Key>, ViewError> {
        (**self).last_key(from, to)
    }
}

impl<V: View + ?Sized> View for Arc<V> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        (**self).get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), ViewError> {
        (**self).scan(from, to, visit)
    }

    fn last_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Key>, ViewError> {
        (**self).last_key(from, to)
    }
}

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a value.
    Put(Key, Bytes),
    /// Removes a key; fine if it is not there.
    Delete(Key),
    /// Removes every key from the first (inclusive) to the second (exclusive).
    DeleteRange(Key, Key),
}

/// Changes that happen together or not at all, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes(pub Vec<Write>);

impl Writes {
    pub(crate) fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.0.push(Write::Put(key, value.into()));
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.0.push(Write::Delete(key));
    }

    pub(crate) fn delete_range(&mut self, from: Key, to: Key) {
        debug_assert!(from <= to, "a range ends at or behind its begin");
        self.0.push(Write::DeleteRange(from, to));
    }
}
