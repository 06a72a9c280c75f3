//! From an admitted append to a Raft entry.
