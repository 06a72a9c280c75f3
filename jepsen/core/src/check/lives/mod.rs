//! Logs that are deleted and created again: a name then stands for several logs, one after the other,
//! each with an incarnation, and nothing of one may show in another (docs/adr/0004).
//!
//! The log that has the name at the end goes through all other checkers, with the calls that were
//! about it. Of those before it nothing is left to read back, so [`past`] judges them by what their
//! readers were shown, and [`identity`] whose turn it was when an answer was given.

mod identity;
mod past;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{FinalLog, Findings, fencing};
use crate::{
    history::History,
    ids::{Incarnation, Moment, OpId},
    op::{Answer, Call, Identity, Op},
};

/// Which incarnation each call was about.
#[derive(Debug)]
pub(super) struct Lives<'a> {
    of: HashMap<OpId, &'a Identity>,
    names: BTreeSet<&'a str>,
    /// By log, in the order of the positions of their answers.
    ranks: BTreeMap<&'a str, Vec<Ranked>>,
}

/// One of the logs that had a name.
#[derive(Clone, Copy, Debug)]
struct Ranked {
    incarnation: Incarnation,
    /// When it first answered somebody who asked for the present, and whom. What an old state shows
    /// was committed, and need not have been acknowledged.
    first: Option<(Moment, OpId)>,
}

/// Answers that must be of the state at or behind everything answered before the call.
fn ordered(op: &Op) -> bool {
    !matches!(op.call, Call::Read { linearizable: false, .. })
}

impl<'a> Lives<'a> {
    /// Those of a history.
    pub(super) fn of(history: &'a History) -> Self {
        let of: HashMap<OpId, &Identity> =
            history.identities.iter().map(|identity| (identity.op, identity)).collect();
        let about = history.ops.iter().filter(|op| of.contains_key(&op.id));
        let names = about.map(|op| op.call.log()).collect();
        let mut this = Self { of, names, ranks: BTreeMap::new() };
        let mut seen: BTreeMap<&str, BTreeMap<Incarnation, (u64, Option<(Moment, OpId)>)>> =
            BTreeMap::new();
        for op in &history.ops {
            let (Some(incarnation), Some(returned)) = (this.answered(op), op.returned) else {
                continue;
            };
            let index = op.answer.stamp().map_or(u64::MAX, |stamp| stamp.log_index);
            let lives = seen.entry(op.call.log()).or_default();
            let life = lives.entry(incarnation).or_insert((index, None));
            life.0 = life.0.min(index);
            if ordered(op) {
                let this = (returned, op.id);
                life.1 = Some(life.1.map_or(this, |first| first.min(this)));
            }
        }
        for (log, lives) in seen {
            let mut lives: Vec<_> = lives.into_iter().map(|(is, at)| (at.0, is, at.1)).collect();
            lives.sort_unstable();
            let ranked =
                lives.into_iter().map(|(_, incarnation, first)| Ranked { incarnation, first });
            this.ranks.insert(log, ranked.collect());
        }
        this
    }

    /// Who answered, as far as it is known. A refusal is of none.
    pub(super) fn answered(&self, op: &Op) -> Option<Incarnation> {
        let identity = self.of.get(&op.id)?;
        match op.answer {
            Answer::Refused { .. } | Answer::Unknown { .. } => None,
            _ => identity.answered.or(identity.asked),
        }
    }

    /// Whether this name stands for several logs.
    pub(super) fn has(&self, log: &str) -> bool {
        self.names.contains(log)
    }

    fn asked(&self, op: &Op) -> Option<Incarnation> {
        self.of.get(&op.id)?.asked
    }

    /// The calls that this log answered or, where that is not known, may have executed.
    pub(super) fn ops<'h>(
        &'h self,
        history: &'h History,
        log: &'h str,
        incarnation: Option<Incarnation>,
    ) -> impl Iterator<Item = &'h Op> {
        let may_be =
            move |told: Option<Incarnation>| told.is_none_or(|told| Some(told) == incarnation);
        let on_log = history.ops.iter().filter(move |op| op.call.log() == log);
        on_log.filter(move |op| {
            incarnation.is_none() || may_be(self.answered(op).or_else(|| self.asked(op)))
        })
    }

    /// Whether another log had the name of the one that answered before `before`; who was told so.
    pub(super) fn replaced_before(&self, op: &Op, before: Moment) -> Option<OpId> {
        let incarnation = self.answered(op)?;
        let ranks = self.ranks.get(op.call.log())?;
        let rank = ranks.iter().position(|life| life.incarnation == incarnation)?;
        let later = ranks[rank + 1..].iter().filter_map(|life| life.first);
        later.filter(|(returned, _)| *returned < before).min().map(|(_, op)| op)
    }

    /// Judges all logs that are deleted in the history.
    pub(super) fn check(
        &self,
        history: &History,
        logs: &BTreeMap<String, FinalLog>,
        found: &mut Findings,
    ) {
        identity::never_reused(history, self, found);
        for name in &self.names {
            let ops: Vec<&Op> = history.ops.iter().filter(|op| op.call.log() == *name).collect();
            let last = logs.get(*name);
            identity::check(name, &ops, self, found);
            if let Some(last) = last {
                identity::at_the_end(name, &ops, last, self, found);
            }
            // Epochs rise through all of them: who was fenced off in one stays so in the next.
            fencing::granted_once_and_upwards(name, &ops, found);
            past::check(name, &ops, last, self, found);
        }
    }
}
