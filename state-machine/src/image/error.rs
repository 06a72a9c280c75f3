//! Why a store failed. Every error names the store's directory.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::view::ViewError;

/// The store failed. What the call was to write is not written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What is stored is damaged.
    #[error("the state in {} is damaged: {why}", dir.display())]
    Damaged {
        /// Which store.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A copy is never made over something else.
    #[error("{} exists, so no checkpoint can be made there", dir.display())]
    Exists {
        /// Where.
        dir: PathBuf,
    },
    /// Nothing is applied to a store that was opened for reading.
    #[error("the state in {} was opened for reading only", dir.display())]
    ReadOnly {
        /// Which store.
        dir: PathBuf,
    },
    /// The file system failed.
    #[error("{}: {source}", dir.display())]
    Io {
        /// Which directory.
        dir: PathBuf,
        /// What.
        source: io::Error,
    },
}

impl From<StoreError> for ViewError {
    /// As a failure to read.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged { dir, why } => {
                Self::corrupt(format!("the state in {}", dir.display()), why)
            }
            other => Self::Storage(other.to_string()),
        }
    }
}

/// The file system's error, about `dir`.
pub(super) fn io(dir: &Path) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io { dir: dir.to_owned(), source }
}

/// A view's error, about the store in `dir`.
pub(super) fn view(dir: &Path) -> impl Fn(ViewError) -> StoreError {
    move |error| StoreError::Damaged { dir: dir.to_owned(), why: error.to_string() }
}
