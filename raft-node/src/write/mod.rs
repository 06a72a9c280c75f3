//! From a validated command to its outcome.
//!
//! `admission` bounds, in bytes, what is admitted and not yet answered; `proposer` merges waiting
//! commands into Raft entries. Both know nothing of gRPC or of files.
//!
//! Never here: validation of what users send (api/), any opinion on whether a command may succeed
//! (state-machine, inside apply).
pub mod admission;
pub mod proposer;
