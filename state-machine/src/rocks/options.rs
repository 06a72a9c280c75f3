//! RocksDB's settings, each with its reason.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, LogLevel, Options, WriteOptions};

use crate::store::Compression;

/// Batches of at least this many bytes go to blob files: compaction moves their keys, not them.
/// Measured: from about 1 KiB on, apply is faster and its slow end several times shorter.
const MIN_BLOB_BYTES: u64 = 1024;

/// Share of the oldest blob files that garbage collection looks at in a compaction.
const BLOB_GC_AGE: f64 = 0.5;

/// Share of garbage in those that forces their compaction: bounds what a trim leaves behind.
const BLOB_GC_GARBAGE: f64 = 0.5;

/// Switches the collection of garbage in blob files. It is off unless there is garbage: every
/// compaction would copy all batches in the older half of the files, alive as they are, and a log
/// that is only appended to would be written several times over.
pub(super) fn blob_gc(on: bool) -> [(&'static str, &'static str); 1] {
    [("enable_blob_garbage_collection", if on { "true" } else { "false" })]
}

/// Whether to collect garbage, when it was (`on`) or was not collected before: from half of the
/// bytes in blob files on, until it is less than a quarter.
pub(super) fn wants_blob_gc(on: bool, garbage: u64, total: u64) -> bool {
    let share = if on { 4 } else { 2 };
    total > 0 && garbage.saturating_mul(share) >= total
}

/// Full memtables waiting for their flush before apply has to wait too.
const MEMTABLES: i32 = 4;

/// File descriptors of one group's state.
const OPEN_FILES: i32 = 512;

/// A blob file, bytes. It goes when nothing in it is alive any more, so smaller files give space
/// back sooner after a trim; this is still many batches to a file.
const BLOB_FILE_BYTES: u64 = 64 << 20;

/// A table, bytes. Where batches are blobs a table is keys only, so this is some 100,000 batches:
/// the unit in which a compaction after a trim works.
const TABLE_BYTES: u64 = 16 << 20;

/// Writing back in steps of this many bytes while a file grows, so that the sync at its end does
/// not hold up the Raft log's sync on the same disk. Direct writes have nothing to write back.
const WRITE_BACK_BYTES: u64 = 1 << 20;

/// One write of a flush or a compaction, bytes, and the buffer that it is collected in. The Raft
/// log's next write, for which appends wait, queues behind it on the same disk: with the library's
/// 1 MiB, records of 1 KiB took a seventh longer. Half of this gains no more, and costs more calls.
const WRITE_BYTES: u64 = 256 << 10;

/// Range deletions in a memtable before it is flushed. Each new one makes the next read sort all of
/// the memtable's again; in a table they are sorted once.
pub(super) const RANGE_DELETIONS: u32 = 64;

/// How everything is written: without RocksDB's own log.
pub(super) fn unlogged() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

/// Settings of a store. Clones share the block cache, so that all groups of a node have one bound.
#[derive(Clone)]
pub struct StoreOptions {
    memtable_bytes: usize,
    cache: Cache,
    compression: Compression,
    direct: bool,
}

impl StoreOptions {
    /// `memtable_bytes` for one memtable of each group (up to four live at a time);
    /// `block_cache_bytes` for all groups together.
    #[must_use]
    pub fn new(memtable_bytes: usize, block_cache_bytes: usize, compression: Compression) -> Self {
        let cache = Cache::new_lru_cache(block_cache_bytes);
        Self { memtable_bytes, cache, compression, direct: false }
    }

    /// Whether flushes and compactions write around the page cache, and compactions read around it
    /// (docs/adr/0012). The file system must take `O_DIRECT`. Default: no.
    #[must_use]
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    pub(super) fn rocksdb(&self) -> Options {
        let compression = match self.compression {
            Compression::None => DBCompressionType::None,
            Compression::Lz4 => DBCompressionType::Lz4,
            Compression::Zstd => DBCompressionType::Zstd,
        };
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        // Memory of indexes and filters is under the cache's bound too.
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_bloom_filter(10.0, false);
        table.set_format_version(6);

        let mut options = Options::default();
        // A store is made in one place only (`open`), never by a missing file.
        options.create_if_missing(false);
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(self.memtable_bytes);
        options.set_max_write_buffer_number(MEMTABLES);
        options.set_max_open_files(OPEN_FILES);
        options.set_compression_type(compression);
        options.set_target_file_size_base(TABLE_BYTES);
        options.set_bytes_per_sync(WRITE_BACK_BYTES);
        options.set_writable_file_max_buffer_size(WRITE_BYTES);
        options.set_use_direct_io_for_flush_and_compaction(self.direct);
        options.set_enable_blob_files(true);
        options.set_blob_file_size(BLOB_FILE_BYTES);
        options.set_min_blob_size(MIN_BLOB_BYTES);
        options.set_blob_compression_type(compression);
        options.set_enable_blob_gc(false);
        options.set_blob_gc_age_cutoff(BLOB_GC_AGE);
        options.set_blob_gc_force_threshold(BLOB_GC_GARBAGE);
        // There is no WAL: what a flush makes durable must be one consistent state, whatever the
        // number of column families.
        options.set_atomic_flush(true);
        options.set_paranoid_checks(true);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(2);
        options.set_log_level(LogLevel::Warn);
        options.set_stats_dump_period_sec(0);
        options
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self::new(16 << 20, 16 << 20, Compression::None)
    }
}
