//! `quorate-node`: one node of a cluster.

fn main() {
    quorate_raft_node::program::main()
}
