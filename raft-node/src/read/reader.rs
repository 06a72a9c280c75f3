//! What each consistency level needs before the data may be read.
//!
//! The order is the proof: the moment is noted when the read arrives, then comes the evidence, then
//! the wait until it is applied here, then the data, and only then is an age stated.

use std::time::Duration;

use quorate_state_machine::{
    outcome::LogDescription,
    planted,
    store::ReadView,
    types::{Incarnation, LogIndex, LogName, LogPoint},
};

use super::{
    ReadFailure,
    freshener::{Freshener, Patience},
    levels::{Ask, AtLeast, Basis, Evidence, Level, OnUnmet, Satisfied, Served},
    read_index::ReadIndexer,
    recent::Glimpse,
};
use crate::{
    clock::BootInstant,
    raft::group::{Group, Role},
    runtime,
};

/// For a replica that must not wait until its caller gives up: a proof that is there has to be
/// applied within this. A follower learns what is committed with the next message of its leader,
/// a heartbeat at the latest.
const APPLY_PATIENCE: Duration = Duration::from_millis(500);

/// A group's reading side.
#[derive(Clone)]
pub struct Reader {
    group: Group,
    indexer: ReadIndexer,
    freshener: Freshener,
}

impl Reader {
    /// Puts the parts together.
    #[must_use]
    pub fn new(group: Group, indexer: ReadIndexer, freshener: Freshener) -> Self {
        Self { group, indexer, freshener }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Where proofs come from.
    #[must_use]
    pub fn freshener(&self) -> &Freshener {
        &self.freshener
    }

    /// Upper bound on the age of what an answer shows, as of now. `None`: unknown.
    #[must_use]
    pub fn age(&self, basis: &Basis) -> Option<Duration> {
        let age = self.freshener.age(self.group.id, basis.applied.index)?;
        self.freshener.stated(self.group.id, age);
        Some(age)
    }

    /// Gets the evidence that a read asks for, and waits until what it needs is applied.
    ///
    /// # Errors
    /// [`ReadFailure`].
    pub async fn satisfy(&self, ask: &Ask) -> Result<Satisfied, ReadFailure> {
        self.freshener.touch(self.group.id);
        let satisfied = self.level(ask).await?;
        let position_unmet = !self.reach_all(ask).await?;
        Ok(Satisfied { position_unmet, ..satisfied })
    }

    /// The state in which what was asked for is satisfied.
    ///
    /// # Errors
    /// [`ReadFailure`].
    pub fn look(&self, ask: &Ask, satisfied: Satisfied) -> Result<Served, ReadFailure> {
        let view = self.group.view().map_err(ReadFailure::Local)?;
        let basis = satisfied.basis(view.applied().unwrap_or_default());
        let applied = basis.applied.index;
        for point in ask.at_least.iter().filter(|point| point.at.index <= applied) {
            check_history(&view, point)?;
        }
        Ok(Served { view, basis })
    }

    /// The same for one log, from memory. `None` says nothing: [`Self::look`] then.
    #[must_use]
    pub fn glimpse(
        &self,
        ask: &Ask,
        satisfied: Satisfied,
        name: &LogName,
    ) -> Option<(Basis, LogDescription)> {
        let glimpse = self.group.recent().glimpse(name)?;
        suffices(&glimpse, satisfied.needs, &ask.at_least)
            .then(|| (satisfied.basis(glimpse.applied), glimpse.log))
    }

    /// Evidence of the asked level, or of less where that is allowed; and which level it is.
    async fn level(&self, ask: &Ask) -> Result<Satisfied, ReadFailure> {
        let satisfied = |given, (evidence, needs)| Satisfied {
            evidence,
            given,
            needs,
            position_unmet: false,
            elsewhere: ask.elsewhere,
        };
        match self.evidence(ask, ask.level).await {
            Ok(evidence) => Ok(satisfied(ask.level, evidence)),
            Err(failure @ (ReadFailure::Stopped(_) | ReadFailure::Local(_))) => Err(failure),
            Err(_) if ask.on_unmet == OnUnmet::ServeAndMark && ask.floor != ask.level => {
                Ok(satisfied(ask.floor, self.evidence(ask, ask.floor).await?))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Gets what proves the level, and waits until it is applied; says up to where that is.
    async fn evidence(&self, ask: &Ask, level: Level) -> Result<(Evidence, LogIndex), ReadFailure> {
        let moment = match level {
            Level::Eventual => return Ok((Evidence::None, LogIndex(0))),
            Level::Linearizable => ask.arrived,
            Level::Bounded(max) => ask.arrived.before(max),
        };
        if level == Level::Linearizable && self.is_unproven_leader() {
            return Ok((Evidence::ReadIndex, LogIndex(0)));
        }
        if level == Level::Linearizable {
            if self.group.role() == Role::Leader {
                match self.confirmed().await {
                    Ok(point) => {
                        self.applied(point.index).await?;
                        return Ok((Evidence::ReadIndex, point.index));
                    }
                    // Deposed meanwhile: a replica like any other.
                    Err(ReadFailure::NotLeader(_) | ReadFailure::NoQuorum)
                        if ask.on_unmet != OnUnmet::Redirect => {}
                    Err(failure) => return Err(failure),
                }
            } else if ask.on_unmet == OnUnmet::Redirect {
                return Err(ReadFailure::NotLeader(self.group.leader()));
            }
        }
        let patience = match ask.on_unmet {
            OnUnmet::Wait => Patience::Wait,
            OnUnmet::Redirect | OnUnmet::Fail | OnUnmet::ServeAndMark => Patience::OneProbe,
        };
        let proof = match self.freshener.proof(self.group.id, moment, patience).await {
            Ok(proof) => proof,
            Err(failure @ (ReadFailure::Stopped(_) | ReadFailure::Local(_))) => {
                return Err(failure);
            }
            Err(failure) if patience == Patience::Wait => return Err(failure),
            Err(_) => return Err(self.too_stale(level)),
        };
        match patience {
            Patience::Wait => self.applied(proof.index).await?,
            Patience::OneProbe if self.applied_soon(proof.index).await? => {}
            Patience::OneProbe => return Err(self.too_stale(level)),
        }
        Ok((Evidence::Probe, proof.index))
    }

    /// A read index of this node's own quorum. Tells the freshener, whose evidence it is, too.
    async fn confirmed(&self) -> Result<LogPoint, ReadFailure> {
        let ticket = self.freshener.ticket(self.group.id);
        let point = self.indexer.read_index().await?;
        self.freshener.witness(self.group.id, ticket, point);
        Ok(point)
    }

    /// Waits a moment for `index`; `false` if it does not come.
    async fn applied_soon(&self, index: LogIndex) -> Result<bool, ReadFailure> {
        match runtime::timeout(APPLY_PATIENCE, self.applied(index)).await {
            Ok(applied) => applied.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Always false but for planted faults: leadership is no evidence, and neither is a lease.
    fn is_unproven_leader(&self) -> bool {
        if planted::is("stale_leader_read") {
            let leader = self.group.leader_address();
            return leader.is_some_and(|(id, _)| id == self.group.node_id());
        }
        if planted::is("lease_ignores_pause") {
            let age = self.group.vitals().quorum_ack_age;
            return age.is_some_and(|age| {
                age.saturating_sub(planted::unseen()) < self.group.leader_lease()
            });
        }
        false
    }

    /// The refusal of a level that can't be had, with what could have been offered.
    fn too_stale(&self, level: Level) -> ReadFailure {
        let applied = self.group.watch_applied().borrow().index;
        ReadFailure::TooStale {
            asked: match level {
                Level::Bounded(max) => Some(max),
                Level::Linearizable | Level::Eventual => None,
            },
            age: self.freshener.age(self.group.id, applied),
            leader: self.group.leader(),
        }
    }

    async fn applied(&self, index: LogIndex) -> Result<(), ReadFailure> {
        if planted::is("no_wait_for_apply") || self.group.wait_applied(index).await {
            Ok(())
        } else {
            Err(ReadFailure::Stopped("the state machine is gone".to_owned()))
        }
    }

    /// Waits for the points; only for a moment where the caller does not want to. `false`: one is
    /// not applied, and that is to be marked.
    async fn reach_all(&self, ask: &Ask) -> Result<bool, ReadFailure> {
        if planted::is("token_ignored") {
            return Ok(true);
        }
        let all = async {
            for point in &ask.at_least {
                self.reach(point, ask.arrived).await?;
            }
            Ok(())
        };
        if ask.on_unmet == OnUnmet::Wait {
            return all.await.map(|()| true);
        }
        match runtime::timeout(APPLY_PATIENCE, all).await {
            Ok(reached) => reached.map(|()| true),
            Err(_) if ask.on_unmet == OnUnmet::ServeAndMark => Ok(false),
            Err(_) => {
                let applied = self.group.watch_applied().borrow().index;
                let asked = ask.at_least.iter().map(|point| point.at.index).max();
                Err(ReadFailure::Behind {
                    asked: asked.unwrap_or_default(),
                    applied,
                    age: self.freshener.age(self.group.id, applied),
                    leader: self.group.leader(),
                })
            }
        }
    }

    /// Waits until `point` is applied, but not for a point that will never come: what was
    /// acknowledged (or read anywhere) before this read arrived is at or below a read index from
    /// after its arrival.
    async fn reach(&self, point: &AtLeast, arrived: BootInstant) -> Result<(), ReadFailure> {
        let index = point.at.index;
        if self.group.watch_applied().borrow().index >= index {
            return Ok(());
        }
        let foretold = async {
            match self.freshener.proof(self.group.id, arrived, Patience::Wait).await {
                Ok(proof) if proof.index < index => Err(ReadFailure::LostPosition(format!(
                    "entry {} was never committed in this history (the group ends at {}): the \
                     token comes from a history that was lost, or from a restored copy",
                    index, proof.index
                ))),
                Ok(_) => std::future::pending().await,
                Err(failure) => Err(failure),
            }
        };
        tokio::select! {
            biased;
            applied = self.applied(index) => applied,
            refused = foretold => refused,
        }
    }
}

/// Does what is in memory reflect what is needed, and can it be told that the points are of this
/// history? It may be a step behind, and of a state that is being replaced.
fn suffices(glimpse: &Glimpse, needs: LogIndex, at_least: &[AtLeast]) -> bool {
    let known = [Incarnation(0), glimpse.log.incarnation];
    glimpse.applied.index >= needs
        && at_least.iter().all(|point| {
            glimpse.term_at(point.at.index) == Some(point.at.term)
                && known.contains(&point.incarnation)
        })
}

/// Is the point part of the history that this view shows?
fn check_history(view: &ReadView, point: &AtLeast) -> Result<(), ReadFailure> {
    if let Some(term) = view.term_at(point.at.index).map_err(ReadFailure::Local)?
        && term != point.at.term
    {
        return Err(ReadFailure::LostPosition(format!(
            "entry {} has term {term} here, not {}: the token comes from a history that was lost",
            point.at.index, point.at.term
        )));
    }
    if point.incarnation != Incarnation(0)
        && !view.exists(point.incarnation).map_err(ReadFailure::Local)?
    {
        return Err(ReadFailure::LostPosition(
            "the log that the token comes from was deleted".to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_state_machine::types::{Offset, Term, TimestampMs};

    use super::*;

    #[test]
    fn what_is_in_memory_is_served_only_where_it_is_known_to_suffice() {
        let at = |term, index| LogPoint { term: Term(term), index: LogIndex(index) };
        let log = LogDescription {
            name: LogName::new("a").unwrap(),
            incarnation: Incarnation(7),
            start_offset: Offset(0),
            next_offset: Offset(1),
            writer_epoch: None,
            created: TimestampMs(1),
            last_timestamp: TimestampMs(1),
            stored_bytes: 1,
            producers: 0,
            read_level: None,
        };
        let glimpse = Glimpse { applied: at(3, 20), log, term: Some((LogIndex(10), Term(3))) };
        let after = |term, index, incarnation| {
            let point = AtLeast { at: at(term, index), incarnation: Incarnation(incarnation) };
            suffices(&glimpse, LogIndex(0), &[point])
        };
        assert!(suffices(&glimpse, LogIndex(20), &[]));
        assert!(!suffices(&glimpse, LogIndex(21), &[]), "a state that was replaced since");
        assert!(after(3, 10, 7) && after(3, 20, 0));
        assert!(!after(3, 21, 7), "not applied");
        assert!(!after(2, 15, 7) && !after(4, 15, 7), "of another history");
        assert!(!after(2, 9, 7) && !after(3, 9, 7), "of an earlier term: a view knows");
        assert!(!after(3, 15, 8), "another log, which may be deleted: a view knows");
        let good = AtLeast { at: at(3, 15), incarnation: Incarnation(0) };
        let bad = AtLeast { at: at(2, 15), incarnation: Incarnation(0) };
        assert!(!suffices(&glimpse, LogIndex(0), &[good, bad]), "each of them counts");
    }
}
