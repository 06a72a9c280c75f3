//! `quorate-node`: one node of a cluster.

mod allocator;

fn main() {
    quorate_raft_node::program::main()
}
