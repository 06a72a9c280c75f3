//! What a write of apply's tells who keeps recent state in memory, without a look at the storage.

use crate::{
    keys::{BATCH, LOG, TERM, parse_log, parse_term},
    outcome::LogDescription,
    read::StoredBatch,
    types::{Incarnation, LogIndex, LogName, Term},
    values::LogMeta,
    view::Write,
};

/// A write of apply's that readers ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A batch was stored.
    Batch(Incarnation, StoredBatch),
    /// A log is like this now.
    Log(LogDescription),
    /// No log has this name any more.
    Gone(LogName),
    /// A term began with this entry.
    Term(LogIndex, Term),
}

impl Seen {
    /// Reads a write; `None` for those that no reader asks for. Batches are not copied.
    ///
    /// # Panics
    /// If the write is not one of apply's.
    #[must_use]
    pub fn of(write: &Write) -> Option<Self> {
        const OURS: &str = "apply writes rows in the form that it reads";
        let name = |key: &[u8]| LogName::new(parse_log(key).expect(OURS)).expect(OURS);
        match write {
            Write::Put(key, value) => match *key.first()? {
                BATCH => StoredBatch::of_write(write).map(|(log, batch)| Self::Batch(log, batch)),
                LOG => Some(Self::Log(LogMeta::decode(value).expect(OURS).describe(name(key)))),
                TERM => {
                    let term = u64::from_be_bytes(value.as_ref().try_into().expect(OURS));
                    Some(Self::Term(parse_term(key).expect(OURS), Term(term)))
                }
                _ => None,
            },
            Write::Delete(key) if key.first() == Some(&LOG) => Some(Self::Gone(name(key))),
            Write::Delete(_) | Write::DeleteRange(..) => None,
        }
    }
}
