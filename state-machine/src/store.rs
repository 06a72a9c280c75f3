//! The home of a group's state as the rest of a node knows it: RocksDB, or (without the feature
//! `rocksdb`) an image of everything in one file. Both have the same calls.

#[cfg(not(feature = "rocksdb"))]
pub use crate::image::{ReadView, Store, StoreError, StoreOptions};
#[cfg(feature = "rocksdb")]
pub use crate::rocks::{ReadView, Store, StoreError, StoreOptions};

/// Compression of what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Fastest to apply.
    #[default]
    None,
    /// Saves about a third of the disk for text, at half the apply rate.
    Lz4,
    /// Saves more, costs more.
    Zstd,
}
