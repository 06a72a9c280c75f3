//! The binary `quorate`.

use tikv_jemallocator::Jemalloc;

/// As in the node (docs/adr/0014): with hundreds of thousands of requests on their way, the C
/// library's allocator was a third of what the load generator did.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> std::process::ExitCode {
    quorate_cluster::run(std::env::args_os()).into()
}
