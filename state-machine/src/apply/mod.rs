//! What entries do to the state: (view, entries) to (writes, outcomes), and nothing else.
//!
//! Entries are applied in batches for speed, and how the stream is cut into batches must not
//! matter: everything a later entry of the batch may look at goes through [`session::Session`],
//! which lays the batch's own changes over the view. Digests are folded per command for the same
//! reason.
//!
//! A refusal is an outcome. An error ([`ViewError`]) is a local failure to read, says nothing about
//! the replicated state, and leaves nothing written.

mod append;
mod logs;
mod session;

use bytes::Bytes;

use self::session::Session;
use crate::{
    digest,
    entry::{CommandView, EntryView},
    outcome::{Accepted, Outcome, Refused},
    types::{LogPoint, Offset, TimestampMs},
    view::{View, ViewError, Writes},
};

/// A committed entry. Neither `payload` nor `membership` makes it a blank one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyItem {
    /// Where it is in the Raft log.
    pub at: LogPoint,
    /// A packed entry ([`crate::entry`]).
    pub payload: Option<Bytes>,
    /// The Raft membership from here on; opaque, and local (in no digest).
    pub membership: Option<Bytes>,
}

/// Applies entries to what `view` shows. The writes are to be carried out atomically; the outcomes
/// are one list per item, one outcome per command in it.
///
/// # Errors
/// [`ViewError`] if the state could not be read, is damaged, or is not the one that these entries
/// follow.
pub fn commit<V: View>(
    view: &V,
    items: &[ApplyItem],
) -> Result<(Writes, Vec<Vec<Outcome>>), ViewError> {
    let mut session = Session::open(view)?;
    let outcomes =
        items.iter().map(|item| entry(&mut session, item)).collect::<Result<_, ViewError>>()?;
    Ok((session.finish(), outcomes))
}

/// How a command is folded into the digest when it was not refused.
const ACCEPTED: u8 = 0;

fn entry<V: View>(
    session: &mut Session<'_, V>,
    item: &ApplyItem,
) -> Result<Vec<Outcome>, ViewError> {
    session.begin(item.at)?;
    if let Some(blob) = &item.membership {
        session.membership(blob.clone());
    }
    let mut outcomes = Vec::new();
    if let Some(payload) = &item.payload {
        match EntryView::parse(payload) {
            Ok(entry) => {
                outcomes.reserve_exact(entry.len());
                session.raise_log_time(entry.timestamp());
                session.fold(&entry.timestamp().0.to_le_bytes());
                for (position, content) in entry.contents().enumerate() {
                    let command = entry.decode(content);
                    fold_command(session, content, command.as_ref().ok());
                    let context = Context {
                        at: item.at,
                        position: u16::try_from(position).expect("an entry counts in 16 bits"),
                        timestamp: entry.timestamp(),
                    };
                    let done = match command {
                        Ok(command) => run(session, context, &command)?,
                        Err(why) => Done::refused(None, Refused::Undecodable(why.to_string())),
                    };
                    outcomes.push(done.outcome(session, item.at));
                }
            }
            // The judgement depends on the entry's bytes alone, so every replica comes to it.
            Err(why) => {
                fold_command(session, payload, None);
                let done = Done::refused(None, Refused::Undecodable(why.to_string()));
                outcomes.push(done.outcome(session, item.at));
            }
        }
    }
    session.end(item.at);
    Ok(outcomes)
}

/// Folds what is asked, so that a replica that applied another command differs even if both were
/// refused. Batches are in it by their checksums; the bytes of accepted ones come with their log's
/// digest.
fn fold_command<V>(
    session: &mut Session<'_, V>,
    content: &[u8],
    command: Option<&CommandView<'_>>,
) {
    match command {
        Some(CommandView::Append(parts)) => {
            for part in parts {
                session.fold_name(part.log);
                session.fold(part.header_bytes());
            }
        }
        Some(_) => session.fold(content),
        None => session.fold(&digest::of_bytes(content).0),
    }
}

/// What a command knows of its entry.
#[derive(Clone, Copy, Debug)]
struct Context {
    at: LogPoint,
    position: u16,
    timestamp: TimestampMs,
}

/// What a command came to, before it is stamped.
struct Done {
    next_offset: Offset,
    writer_epoch: Option<crate::types::WriterEpoch>,
    result: Result<Accepted, Refused>,
}

impl Done {
    fn accepted(log: Option<&crate::values::LogMeta>, accepted: Accepted) -> Self {
        Self::new(log, Ok(accepted))
    }

    fn refused(log: Option<&crate::values::LogMeta>, refused: Refused) -> Self {
        Self::new(log, Err(refused))
    }

    fn new(log: Option<&crate::values::LogMeta>, result: Result<Accepted, Refused>) -> Self {
        Self {
            next_offset: log.map_or(Offset(0), |l| l.next_offset),
            writer_epoch: log.and_then(|l| l.writer_epoch),
            result,
        }
    }

    /// Stamps the outcome, and folds into the digest what every replica must have decided alike.
    fn outcome<V>(self, session: &mut Session<'_, V>, at: LogPoint) -> Outcome {
        let code = match &self.result {
            Ok(_) => ACCEPTED,
            Err(refused) => refused.code(),
        };
        session.fold(&[code]);
        session.fold(&self.next_offset.0.to_le_bytes());
        session.fold(&self.writer_epoch.map_or(0, |e| e.0).to_le_bytes());
        if let Ok(Accepted::Appended(parts)) = &self.result {
            // For the repeated ones: what was appended now is in its log's row.
            for part in parts {
                session.fold(&[u8::from(part.deduplicated)]);
                session.fold(&part.first_offset.0.to_le_bytes());
                session.fold(&part.timestamp.0.to_le_bytes());
            }
        }
        Outcome {
            at,
            next_offset: self.next_offset,
            writer_epoch: self.writer_epoch,
            result: self.result,
        }
    }
}

fn run<V: View>(
    session: &mut Session<'_, V>,
    context: Context,
    command: &CommandView<'_>,
) -> Result<Done, ViewError> {
    match *command {
        CommandView::Append(ref parts) => append::append(session, context, parts),
        CommandView::CreateLog { name, if_absent, read_level } => {
            logs::create(session, context, name, if_absent, read_level)
        }
        CommandView::DeleteLog { name, incarnation } => logs::delete(session, name, incarnation),
        CommandView::TrimLog { name, before, incarnation } => {
            logs::trim(session, name, before, incarnation)
        }
        CommandView::Fence { name, min_epoch, incarnation } => {
            logs::fence(session, name, min_epoch, incarnation)
        }
        CommandView::SetReadLevel { name, read_level, incarnation } => {
            logs::set_read_level(session, name, read_level, incarnation)
        }
        CommandView::MarkDigest => {
            session.mark(context.at.index)?;
            Ok(Done::accepted(None, Accepted::Marked(context.at.index)))
        }
    }
}

/// For names that a decoded command carries.
fn owned(name: &str) -> crate::types::LogName {
    crate::types::LogName::new(name).expect("a decoded command carries checked names")
}
