//! Logs that are deleted and created again, each time under the same name.
//!
//! One client creates and deletes; the others follow, knowing what anybody was told last, or less.

use std::{cell::RefCell, collections::BTreeMap};

use quorate_jepsen_core::{
    history::Event,
    ids::{Epoch, Incarnation, Offset, OpId},
    op::{Answer, Call, Identity},
};
use quorate_proto::v1 as wire;
use quorate_raft_node::runtime;

use super::{ATTEMPT, Client, stopped};
use crate::{
    record,
    rpc::{self, Failure},
};

thread_local! {
    /// Which incarnation of a log anybody heard of last.
    static KNOWN: RefCell<BTreeMap<String, Incarnation>> = const { RefCell::new(BTreeMap::new()) };
}

/// The name of such a log of a group.
#[must_use]
pub fn log_of(group: u32) -> String {
    super::tagged("reborn", group)
}

/// Whether the log is one of them.
#[must_use]
pub fn is(log: &str) -> bool {
    log.starts_with("reborn")
}

fn known(log: &str) -> Option<Incarnation> {
    KNOWN.with_borrow(|known| known.get(log).copied())
}

/// Tells the history which incarnation a call was for, and which answered.
pub fn told(log: &str, op: OpId, asked: Option<Incarnation>, answered: Option<u64>) {
    let answered = answered.map(Incarnation);
    if let Some(incarnation) = answered {
        KNOWN.with_borrow_mut(|known| known.insert(log.to_owned(), incarnation));
    }
    if asked.is_some() || answered.is_some() {
        record::event(Event::Identity(Identity { op, asked, answered }));
    }
}

/// Creates a log, if it is not there: an operation of the history.
///
/// # Errors
/// [`Failure`].
pub async fn create(client: &mut Client, log: &str) -> Result<Incarnation, Failure> {
    let op = record::invoke(client.process, Call::Create { log: log.to_owned() });
    let done = rpc::create(client.at, log.to_owned(), ATTEMPT).await;
    let answer = done.map(|created| {
        let info = created.log.unwrap_or_default();
        told(log, op, None, Some(info.incarnation));
        let answer = Answer::Created {
            created: created.created,
            next_offset: Offset(info.next_offset),
            stamp: created.stamp.map(rpc::stamp),
        };
        (answer, Incarnation(info.incarnation))
    });
    client.answered(op, answer)
}

impl Client {
    /// Notes what came, and goes elsewhere if it was a failure.
    fn answered<T>(
        &mut self,
        op: OpId,
        answer: Result<(Answer, T), Failure>,
    ) -> Result<T, Failure> {
        match answer {
            Ok((answer, told)) => {
                self.note(op, &Ok(answer));
                Ok(told)
            }
            Err(failure) => {
                self.move_on(&failure);
                self.note(op, &Err(failure.clone()));
                Err(failure)
            }
        }
    }

    /// Creates the log and deletes it, for ever; some of them are fenced.
    pub(super) async fn create_and_delete(mut self, log: String) {
        while !stopped() {
            let Ok(incarnation) = create(&mut self, &log).await else {
                self.pause().await;
                continue;
            };
            if self.seed.one_in(4) {
                self.own(&log, incarnation).await;
            }
            let lives_ms = self.seed.below(1200);
            runtime::sleep(std::time::Duration::from_millis(lives_ms)).await;
            // Whichever it is, or this one only.
            let asked = (!self.seed.one_in(4)).then_some(incarnation);
            while !stopped() {
                let op = record::invoke(self.process, Call::Delete { log: log.clone() });
                told(&log, op, asked, None);
                let done = rpc::delete(self.at, log.clone(), asked.map(|i| i.0), ATTEMPT).await;
                let done =
                    done.map(|gone| (Answer::Deleted { stamp: gone.stamp.map(rpc::stamp) }, ()));
                match self.answered(op, done) {
                    Err(failure) if failure.effect != wire::Effect::None => {}
                    Err(failure) if failure.detail.as_ref().is_none_or(|d| d.retryable) => {}
                    _ => break,
                }
                self.pause().await;
            }
            self.pause().await;
        }
    }

    /// Takes the log and writes a few batches under its epoch.
    async fn own(&mut self, log: &str, incarnation: Incarnation) {
        let op = record::invoke(self.process, Call::Fence { log: log.to_owned() });
        let granted = rpc::fence(self.at, log.to_owned(), ATTEMPT).await.map(|granted| {
            told(log, op, None, Some(granted.incarnation));
            let epoch = Epoch(granted.writer_epoch);
            let answer = Answer::Fenced {
                epoch,
                next_offset: Offset(granted.next_offset),
                stamp: granted.stamp.map(rpc::stamp),
            };
            (answer, epoch)
        });
        let Ok(epoch) = self.answered(op, granted) else { return };
        for _ in 0..3 {
            let mut append = self.new_append(log);
            append.writer_epoch = Some(epoch);
            let asked = self.seed.one_in(2).then_some(incarnation);
            let op = record::invoke(self.process, Call::Append(append.clone()));
            let result = self.append_to(&append, None, asked).await;
            self.note_append(op, log, asked, result).ok();
            self.pause().await;
        }
    }

    /// Notes an append's answer, and which log gave it.
    fn note_append(
        &mut self,
        op: OpId,
        log: &str,
        asked: Option<Incarnation>,
        result: Result<(Answer, Option<u64>), Failure>,
    ) -> Result<Answer, Failure> {
        told(log, op, asked, result.as_ref().ok().and_then(|(_, incarnation)| *incarnation));
        let result = result.map(|(answer, _)| answer);
        self.note(op, &result);
        result
    }

    /// Appends to whatever log has the name, some to one only, at an offset, or under an epoch that
    /// one of them granted.
    pub(super) async fn write_to_any(mut self, log: String) {
        let mut known_end = Offset(0);
        while !stopped() {
            let mut append = self.new_append(&log);
            append.expected_offset = self.seed.one_in(3).then_some(known_end);
            append.writer_epoch = self.seed.one_in(6).then(|| Epoch(1 + self.seed.below(3)));
            let asked = known(&log).filter(|_| self.seed.one_in(2));
            let op = record::invoke(self.process, Call::Append(append.clone()));
            let result = self.append_to(&append, None, asked).await;
            match self.note_append(op, &log, asked, result) {
                Ok(Answer::Appended { next_offset, .. }) => known_end = next_offset,
                Err(Failure { detail: Some(detail), .. }) => {
                    known_end = detail.next_offset.map_or(Offset(0), Offset);
                }
                _ => {}
            }
            self.pause().await;
        }
    }

    /// As `produce`, for one log at a time: in the next one the producer begins anew, or
    /// tries to go on, which no log may let it.
    pub(super) async fn produce_to_each(mut self, log: String) {
        let mut id = self.new_id();
        let mut sequence = 0;
        let mut meant = None;
        while !stopped() {
            let now = known(&log);
            if now.is_none() {
                self.pause().await;
                continue;
            }
            if meant != now {
                meant = now;
                if !self.seed.one_in(3) {
                    sequence = 0;
                }
            }
            let mut append = self.new_append(&log);
            append.producer = Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
            let op = record::invoke(self.process, Call::Append(append.clone()));
            let mut lost = false;
            let result = loop {
                match self.append_to(&append, Some((id, sequence)), meant).await {
                    Err(failure) => {
                        lost |= failure.effect == wire::Effect::Unknown;
                        let again = failure.detail.as_ref().is_none_or(|d| d.retryable);
                        if stopped() || !again || failure.effect == wire::Effect::Applied {
                            let effect = match failure.effect {
                                wire::Effect::None if lost => wire::Effect::Unknown,
                                effect => effect,
                            };
                            break Err(Failure { effect, ..failure });
                        }
                    }
                    done => break done,
                }
                self.pause().await;
            };
            match self.note_append(op, &log, meant, result) {
                Ok(_) => sequence += 1,
                Err(failure) if failure.effect == wire::Effect::Applied => sequence += 1,
                Err(failure) if failure.effect == wire::Effect::None => {
                    if failure.kind == "PRODUCER_UNKNOWN" {
                        sequence = 0;
                    }
                    if failure.kind == "LOG_RECREATED" {
                        // Whoever hears that asks for the new one.
                        let _ = create(&mut self, &log).await;
                    }
                }
                Err(_) => (id, sequence) = (self.new_id(), 0),
            }
            self.pause().await;
        }
    }
}
