//! The allocator of the node's programs, RocksDB in them too
//! ([ADR 0014](../../docs/adr/0014-what-is-shipped.md)). Tests that run a node inside of themselves
//! keep the C library's.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;
