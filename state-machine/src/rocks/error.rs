//! Why a store failed. Every error names the store's directory.

use std::{
    io,
    path::{Path, PathBuf},
};

use rocksdb::ErrorKind;

use super::FORMAT;
use crate::view::ViewError;

/// The store failed. What the call was to write is not written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There are files, but no store: a part of one is missing, or the path is wrong. Making a new
    /// store there would look like a group that lost everything it had acknowledged.
    #[error("{} is not empty and holds no complete store; nothing was changed", dir.display())]
    NotAStore {
        /// Where.
        dir: PathBuf,
    },
    /// Written by another version.
    #[error(
        "the state in {} has format {found}, but this build knows format {FORMAT}; start it with \
         the version that wrote it",
        dir.display()
    )]
    Format {
        /// Which store.
        dir: PathBuf,
        /// As stored.
        found: String,
    },
    /// What is stored is damaged. It is never served; the replica has to be rebuilt.
    #[error("the state in {} is damaged: {why}", dir.display())]
    Damaged {
        /// Which store.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// RocksDB failed otherwise, as on a full or failing disk.
    #[error("the state in {} failed: {why}", dir.display())]
    Failed {
        /// Which store.
        dir: PathBuf,
        /// RocksDB's words.
        why: String,
    },
    /// A checkpoint is never made over something else.
    #[error("{} exists, so no checkpoint can be made there", dir.display())]
    Exists {
        /// Where.
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

/// RocksDB's error, about the store in `dir`.
pub(super) fn rocks(dir: &Path) -> impl Fn(rocksdb::Error) -> StoreError {
    move |error| match error.kind() {
        ErrorKind::Corruption => {
            StoreError::Damaged { dir: dir.to_owned(), why: error.into_string() }
        }
        _ => StoreError::Failed { dir: dir.to_owned(), why: error.into_string() },
    }
}

/// A view's error, about the store in `dir`.
pub(super) fn view(dir: &Path) -> impl Fn(ViewError) -> StoreError {
    move |error| match error {
        ViewError::Corrupt { what, why } => {
            StoreError::Damaged { dir: dir.to_owned(), why: format!("{what}: {why}") }
        }
        ViewError::Storage(why) => StoreError::Failed { dir: dir.to_owned(), why },
    }
}

/// The file system's error, about `dir`.
pub(super) fn io(dir: &Path) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io { dir: dir.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_to_read_is_damage_only_where_the_store_is_damaged() {
        let dir = || PathBuf::from("/d");
        let why = || "block checksum mismatch".to_owned();
        let damaged = StoreError::Damaged { dir: dir(), why: why() };
        let said = ViewError::from(damaged);
        assert_eq!(said, ViewError::corrupt("the state in /d", why()));
        for other in [
            StoreError::Failed { dir: dir(), why: "IO error".to_owned() },
            StoreError::Io { dir: dir(), source: io::Error::other("IO error") },
        ] {
            let said = ViewError::from(other);
            assert!(matches!(&said, ViewError::Storage(why) if why.contains("IO error")), "{said}");
        }
    }
}
