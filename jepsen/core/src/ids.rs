//! The words of a history, each its own type so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A record's position in a log, dense from 0.
    Offset(u64)
);
number!(
    /// A writer epoch (fencing token) of a log.
    Epoch(u64)
);
number!(
    /// Tells a log from others that had its name before or have it later.
    Incarnation(u64)
);
number!(
    /// What makes a record unique in a whole history; its payload carries it.
    RecordId(u64)
);
number!(
    /// One sequential client of the test; at most one of its operations is open at a time.
    Process(u32)
);
number!(
    /// A node of the cluster under test.
    Node(u64)
);
number!(
    /// Nanoseconds since the start of the run on the one clock of the test runner.
    Moment(u64)
);
number!(
    /// Names an operation inside one history.
    OpId(u64)
);

impl Offset {
    /// The offset `records` further on.
    #[must_use]
    pub fn plus(self, records: usize) -> Self {
        Self(self.0 + records as u64)
    }
}

/// Where in the order of its group an answer was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The Raft group.
    pub group: u32,
    /// Term of the entry that decided.
    pub term: u64,
    /// Log index of the entry that decided.
    pub log_index: u64,
    /// The log's next offset right after that entry.
    pub next_offset: Offset,
    /// The log's writer epoch right after that entry; 0 when it was never fenced.
    pub writer_epoch: Epoch,
}
