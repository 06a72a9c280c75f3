//! Whose turn it was: one log at a time has a name, and it is the one that answers.

use std::collections::BTreeMap;

use super::{Lives, ordered};
use crate::{
    check::{FinalLog, Findings, Kind},
    history::History,
    ids::{Incarnation, Moment, Offset, OpId, Stamp},
    op::{Answer, Call, Op},
};

/// Each creation in a group makes an incarnation of its own, whatever the names.
pub(super) fn never_reused(history: &History, lives: &Lives<'_>, found: &mut Findings) {
    let mut born: BTreeMap<(u32, Incarnation), &Op> = BTreeMap::new();
    for op in &history.ops {
        let Answer::Created { created: true, next_offset, stamp } = &op.answer else { continue };
        if *next_offset != Offset(0) {
            let what = format!("a log just created ends at offset {next_offset}");
            found.add(Kind::CreatedNotEmpty, op.call.log(), &[op.id], what);
        }
        let Some(incarnation) = lives.answered(op) else { continue };
        let group = stamp.map_or(0, |stamp| stamp.group);
        if let Some(other) = born.insert((group, incarnation), op) {
            let what = format!("incarnation {incarnation} was created twice");
            found.add(Kind::IncarnationReused, op.call.log(), &[other.id, op.id], what);
        }
    }
}

/// What is known of one incarnation.
#[derive(Default)]
struct Life<'a> {
    /// Every answer that it gave, by its position.
    answers: Vec<(u64, &'a Op)>,
    created: Option<(u64, OpId)>,
    deleted: Option<(u64, &'a Op)>,
}

pub(super) fn check(name: &str, ops: &[&Op], lives: &Lives<'_>, found: &mut Findings) {
    let mut by_incarnation: BTreeMap<Incarnation, Life<'_>> = BTreeMap::new();
    for op in ops {
        let Some(incarnation) = lives.answered(op) else { continue };
        if let Some(asked) = lives.asked(op)
            && asked != incarnation
        {
            let what = format!("it was for incarnation {asked}, and {incarnation} answered");
            found.add(Kind::WrongIncarnation, name, &[op.id], what);
        }
        let index = op.answer.stamp().map(|stamp: Stamp| stamp.log_index);
        let Some(index) = index else { continue };
        let life = by_incarnation.entry(incarnation).or_default();
        life.answers.push((index, op));
        match &op.answer {
            Answer::Created { created: true, .. } => life.created = Some((index, op.id)),
            // Of two deletions the first counts: the second one is wrong.
            Answer::Deleted { .. } if life.deleted.is_none_or(|(first, _)| index < first) => {
                life.deleted = Some((index, op));
            }
            _ => {}
        }
    }
    for life in by_incarnation.values_mut() {
        life.answers.sort_by_key(|(index, op)| (*index, op.id));
    }
    let mut in_turn: Vec<_> = by_incarnation.iter().collect();
    in_turn.sort_by_key(|(incarnation, life)| (life.answers[0].0, **incarnation));
    for (incarnation, life) in &in_turn {
        within_its_life(name, **incarnation, life, found);
        after_its_deletion(name, **incarnation, life, found);
    }
    for pair in in_turn.windows(2) {
        one_after_the_other(name, pair[0], pair[1], found);
    }
    replaced(name, ops, lives, found);
    missed(name, ops, lives, &by_incarnation, found);
}

/// By positions: nothing before the creation, nothing after the deletion. One log index carries many
/// commands, so equal ones say nothing.
fn within_its_life(name: &str, incarnation: Incarnation, life: &Life<'_>, found: &mut Findings) {
    let (first, last) = (life.answers[0], life.answers[life.answers.len() - 1]);
    if let Some((created, op)) = life.created
        && first.0 < created
    {
        let what = format!(
            "incarnation {incarnation} was created at log index {created}, and answered as of {}",
            first.0
        );
        found.add(Kind::IncarnationsMixed, name, &[op, first.1.id], what);
    }
    if let Some((deleted, op)) = life.deleted
        && last.0 > deleted
    {
        let what = format!(
            "incarnation {incarnation} was deleted at log index {deleted}, and answered as of {}",
            last.0
        );
        found.add(Kind::IncarnationsMixed, name, &[op.id, last.1.id], what);
    }
}

/// By time, whatever the positions say.
fn after_its_deletion(name: &str, incarnation: Incarnation, life: &Life<'_>, found: &mut Findings) {
    let Some((_, deletion)) = life.deleted else { return };
    let Some(gone) = deletion.returned else { return };
    for (_, op) in &life.answers {
        if ordered(op) && op.invoked > gone {
            let what = format!("incarnation {incarnation} had been deleted");
            found.add(Kind::DeletedLogAnswers, name, &[deletion.id, op.id], what);
        }
    }
}

fn one_after_the_other(
    name: &str,
    (one, earlier): (&Incarnation, &Life<'_>),
    (two, later): (&Incarnation, &Life<'_>),
    found: &mut Findings,
) {
    let (last, first) = (earlier.answers[earlier.answers.len() - 1], later.answers[0]);
    if last.0 > first.0 {
        let what = format!(
            "incarnation {two} answered as of log index {}, {one} as of {} and of {}",
            first.0, earlier.answers[0].0, last.0
        );
        found.add(Kind::IncarnationsMixed, name, &[first.1.id, last.1.id], what);
    }
}

/// Who asks after the next one answered gets no answer of the one before.
fn replaced(name: &str, ops: &[&Op], lives: &Lives<'_>, found: &mut Findings) {
    for op in ops.iter().filter(|op| ordered(op)) {
        if let Some(later) = lives.replaced_before(op, op.invoked) {
            let what = "another log had its name already".to_owned();
            found.add(Kind::DeletedLogAnswers, name, &[later, op.id], what);
        }
    }
}

/// From when to when a log was there for certain: by positions, and by time.
struct Certain {
    indexes: (u64, u64),
    /// An answer that came, and the call of one that came later: in between it was there.
    times: Option<(Moment, Moment)>,
}

/// Nobody is told that a log is gone that is there.
fn missed(
    name: &str,
    ops: &[&Op],
    lives: &Lives<'_>,
    by_incarnation: &BTreeMap<Incarnation, Life<'_>>,
    found: &mut Findings,
) {
    let certain: BTreeMap<Incarnation, Certain> = by_incarnation
        .iter()
        .map(|(incarnation, life)| {
            let (first, last) = (life.answers[0].0, life.answers[life.answers.len() - 1].0);
            let ordered = || life.answers.iter().map(|(_, op)| *op).filter(|op| ordered(op));
            let from = ordered().filter_map(|op| op.returned).min();
            let to = ordered().map(|op| op.invoked).max();
            (*incarnation, Certain { indexes: (first, last), times: from.zip(to) })
        })
        .collect();
    for op in ops {
        let Answer::Refused { kind, stamp, .. } = &op.answer else { continue };
        let meant = match (kind.as_str(), lives.asked(op)) {
            ("LOG_NOT_FOUND", _) => None,
            ("LOG_RECREATED", Some(asked)) => Some(asked),
            _ => continue,
        };
        for (incarnation, certain) in &certain {
            if meant.is_some_and(|meant| meant != *incarnation) {
                continue;
            }
            let at = stamp.map(|stamp| stamp.log_index);
            let by_index = at.is_some_and(|at| certain.indexes.0 < at && at < certain.indexes.1);
            let by_time = ordered(op)
                && op
                    .returned
                    .zip(certain.times)
                    .is_some_and(|(returned, (from, to))| from < op.invoked && returned < to);
            if by_index || by_time {
                let what = format!("refused as {kind}, and incarnation {incarnation} was there");
                found.add(Kind::LogMissing, name, &[op.id], what);
            }
        }
    }
}

/// Who has the name at the end is the last one that had it; and it is gone only if somebody deleted it.
pub(super) fn at_the_end(
    name: &str,
    ops: &[&Op],
    log: &FinalLog,
    lives: &Lives<'_>,
    found: &mut Findings,
) {
    let Some(last) = lives.ranks.get(name).and_then(|lives| lives.last()) else { return };
    let deletions = |of: Incarnation| {
        let deletes = ops.iter().filter(|op| matches!(op.call, Call::Delete { .. }));
        deletes.filter(move |op| lives.asked(op).is_none_or(|asked| asked == of))
    };
    match log.incarnation {
        None => {
            let mut may_have = deletions(last.incarnation)
                .filter(|op| !matches!(op.answer, Answer::Refused { .. }));
            if may_have.next().is_none() {
                let what =
                    format!("incarnation {} is gone, and nobody deleted it", last.incarnation);
                found.add(Kind::LogMissing, name, &[], what);
            }
        }
        Some(incarnation) => {
            let deleted = deletions(incarnation)
                .find(|op| lives.answered(op) == Some(incarnation))
                .map(|op| op.id);
            let known = lives.ranks[name].iter().any(|life| life.incarnation == incarnation);
            let replaced = known && incarnation != last.incarnation;
            if deleted.is_some() || replaced {
                let what = format!("incarnation {incarnation} is there at the end");
                found.add(Kind::DeletedLogAnswers, name, deleted.as_slice(), what);
            }
        }
    }
}
