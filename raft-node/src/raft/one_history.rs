//! Do a group's log and its state belong together? Pure.
//!
//! Each outlives the other's crash, and what one lacks the other has: the state is made durable
//! before the log is purged up to it, and a vote before anything that it leads to. So a log or a
//! state that lacks more was lost, and the replica must not go on: one that has forgotten its votes
//! may vote twice, and one that lacks entries would answer from a history with a hole.

use quorate_state_machine::types::LogPoint;

use crate::log_store::GroupState;

const WHAT_TO_DO: &str = "Restore the whole data directory as it was; or, if it is gone, remove \
    this node from the cluster for good, and add a new one with an empty data directory under a \
    node id that was never used";

/// `log`: as it was read at the start. `applied`: of the state as it is on the disk.
///
/// # Errors
/// What was lost, and what to do.
pub fn check(log: &GroupState, applied: Option<LogPoint>) -> Result<(), String> {
    if let Some(applied) = applied
        && *log == GroupState::default()
    {
        return Err(format!(
            "the state has applied entry {} of a Raft log that holds neither vote nor entry: the \
             log was lost, and with it what this node has promised. {WHAT_TO_DO}",
            applied.index
        ));
    }
    let applied = applied.map(|at| at.index.0);
    if let Some((_, purged)) = log.purged
        && applied.is_none_or(|applied| applied < purged)
    {
        let applied = applied.map_or("nothing".to_owned(), |applied| format!("entry {applied}"));
        return Err(format!(
            "the Raft log was purged up to entry {purged}, because the state held all of that, but \
             the state has applied {applied}: it was lost, or is an older copy. {WHAT_TO_DO}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_state_machine::types::{LogIndex, Term};

    use super::*;
    use crate::log_store::VoteRecord;

    fn applied(index: u64) -> Option<LogPoint> {
        Some(LogPoint { term: Term(2), index: LogIndex(index) })
    }

    #[test]
    fn what_was_lost_is_seen() {
        let vote = Some(VoteRecord { term: 2, node: 1, committed: true });
        let voted = GroupState { vote, ..GroupState::default() };
        let used = GroupState { last: Some((2, 20)), ..voted };
        let purged = GroupState { purged: Some((1, 10)), ..used };
        for (log, applied, word) in [
            (GroupState::default(), None, ""),
            (GroupState::default(), applied(3), "neither vote nor entry"),
            (voted, None, ""),
            (used, None, ""),
            (used, applied(5), ""),
            (used, applied(25), ""),
            (purged, applied(10), ""),
            (purged, applied(25), ""),
            (purged, applied(9), "applied entry 9"),
            (purged, None, "applied nothing"),
        ] {
            match check(&log, applied) {
                Ok(()) => assert_eq!(word, "", "{log:?} {applied:?}"),
                Err(why) => {
                    assert!(!word.is_empty() && why.contains(word), "{log:?} {applied:?}: {why}");
                    assert!(why.contains("never used"), "{why}");
                }
            }
        }
    }
}
