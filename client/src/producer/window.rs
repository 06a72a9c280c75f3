//! What a producer has not got answered yet: packing, numbering, and what each refusal means for
//! everything behind it. No I/O, no clock.
//!
//! Why resending is exactly once and in order: a batch keeps its sequence and its bytes from the
//! moment it is numbered; the log takes sequence n only as its producer's next one, and recognises
//! it when it comes again; and whoever resends begins at the oldest unanswered batch. So whatever
//! copies old connections still deliver, each batch is appended once, and none before the one in
//! front of it.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    append::Appended,
    batch::{Batch, MAX_BATCH_RECORDS},
    errors::{Effect, Error, ErrorKind, Result},
    runtime::{Instant, Moment},
};

/// Batches that are sent at once, however small (what "at once" gives to callers that were just
/// answered: `driver`). Behind them, records gather until there is a
/// full batch or an answer: that is what packs the records of many callers without a timer.
pub(super) const EAGER_BATCHES: usize = 4;

/// One caller's records.
pub(super) struct Submission {
    pub(super) batch: Batch,
    /// A batch of its own, neither split nor packed with others.
    pub(super) exact: bool,
    pub(super) at: Instant,
    pub(super) caller: Caller,
}

/// Who waits for an answer.
pub(super) struct Caller {
    pub(super) answer: oneshot::Sender<Result<Appended>>,
    /// Its share of the bound on bytes, given back with the answer.
    pub(super) _bytes: OwnedSemaphorePermit,
}

/// A numbered batch.
struct InFlight {
    sequence: u64,
    batch: Batch,
    /// Records of each caller, in order.
    callers: Vec<(u32, Caller)>,
    /// When the oldest of them came.
    since: Instant,
    /// On the present connection.
    sent: bool,
    /// On any connection that may have delivered it: an earlier copy may take effect.
    doubtful: bool,
    first_sent: Option<Moment>,
}

/// What a refusal means.
#[derive(Debug)]
pub(super) enum Verdict {
    /// This batch is answered (it was appended long ago); the others go on.
    Answered,
    /// Connect again and resend everything.
    Resend(Error),
    /// The log forgot this producer, and nothing that is unanswered was ever appended: it may go
    /// on under another id.
    Forgotten(Error),
    /// This producer can't go on.
    Fatal(Error),
}

pub(super) struct Window {
    max_batches: usize,
    target_bytes: usize,
    pending: VecDeque<Submission>,
    pending_bytes: usize,
    in_flight: VecDeque<InFlight>,
    next_sequence: u64,
    submitted: u64,
    answered: u64,
    /// Waiting until so many submissions are answered.
    flushes: VecDeque<(u64, oneshot::Sender<Result<()>>)>,
}

impl Window {
    pub(super) fn new(next_sequence: u64, max_batches: usize, target_bytes: usize) -> Self {
        Self {
            max_batches,
            target_bytes,
            pending: VecDeque::new(),
            pending_bytes: 0,
            in_flight: VecDeque::new(),
            next_sequence,
            submitted: 0,
            answered: 0,
            flushes: VecDeque::new(),
        }
    }

    pub(super) fn submit(&mut self, submission: Submission) {
        self.submitted += 1;
        self.pending_bytes += submission.batch.bytes().len();
        self.pending.push_back(submission);
    }

    /// Answers `done` once everything submitted so far is answered.
    pub(super) fn flush(&mut self, done: oneshot::Sender<Result<()>>) {
        self.flushes.push_back((self.submitted, done));
        self.answer_flushes();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.pending.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Submissions so far.
    pub(super) fn submitted(&self) -> u64 {
        self.submitted
    }

    /// Of which so many are answered.
    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    /// What is not packed yet is enough for a batch.
    pub(super) fn has_full_batch(&self) -> bool {
        self.pending_bytes >= self.target_bytes
    }

    /// Since when the oldest caller waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let numbered = self.in_flight.front().map(|front| front.since);
        numbered.or(self.pending.front().map(|front| front.at))
    }

    /// Sequences begin again, for another producer id. Only after [`Verdict::Forgotten`]: nothing
    /// that carries an old number can be appended any more.
    pub(super) fn renumber(&mut self) {
        self.next_sequence = 0;
        for batch in &mut self.in_flight {
            batch.sequence = self.next_sequence;
            (batch.sent, batch.doubtful, batch.first_sent) = (false, false, None);
            self.next_sequence += 1;
        }
    }

    /// Since when the oldest batch that may have been appended already is resent.
    pub(super) fn in_doubt_since(&self) -> Option<Moment> {
        let oldest = self.in_flight.front().filter(|front| front.doubtful);
        oldest.and_then(|front| front.first_sent)
    }

    /// The sequence behind the last answered batch.
    pub(super) fn acknowledged(&self) -> u64 {
        self.in_flight.front().map_or(self.next_sequence, |front| front.sequence)
    }

    /// Packs and numbers what may go out now.
    pub(super) fn pack(&mut self) {
        while self.in_flight.len() < self.max_batches {
            let Some(first) = self.pending.front() else { return };
            let gathering = self.in_flight.len() >= EAGER_BATCHES
                && !first.exact
                && self.pending_bytes < self.target_bytes;
            if gathering {
                return;
            }
            let since = first.at;
            let (mut batches, mut callers) = (Vec::new(), Vec::new());
            let (mut bytes, mut records) = (0, 0);
            while let Some(next) = self.pending.front() {
                let exact = next.exact;
                let fits = !exact
                    && bytes + next.batch.bytes().len() <= self.target_bytes
                    && records + next.batch.record_count() as usize <= MAX_BATCH_RECORDS;
                if !callers.is_empty() && !fits {
                    break;
                }
                let next = self.pending.pop_front().expect("it was just looked at");
                bytes += next.batch.bytes().len();
                records += next.batch.record_count() as usize;
                callers.push((next.batch.record_count(), next.caller));
                batches.push(next.batch);
                if exact {
                    break;
                }
            }
            self.pending_bytes -= bytes;
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            let batch = Batch::concat(&batches);
            self.in_flight.push_back(InFlight {
                sequence,
                batch,
                callers,
                since,
                sent: false,
                doubtful: false,
                first_sent: None,
            });
        }
    }

    /// Hands out, in order, what is not on the present connection yet. Says whether these are the
    /// first batches on it that wait for an answer.
    pub(super) fn send(&mut self, now: Moment, mut send: impl FnMut(u64, &Batch)) -> bool {
        let from = self.in_flight.partition_point(|batch| batch.sent);
        let first = from == 0 && !self.in_flight.is_empty();
        for batch in self.in_flight.range_mut(from..) {
            batch.sent = true;
            batch.first_sent.get_or_insert(now);
            send(batch.sequence, &batch.batch);
        }
        first
    }

    /// The connection is gone; `delivered`: what was on it may have arrived.
    pub(super) fn disconnected(&mut self, delivered: bool) {
        for batch in &mut self.in_flight {
            batch.doubtful |= batch.sent && delivered;
            batch.sent = false;
        }
    }

    /// The oldest batch, if `tag` is its answer. Answers come in the order of requests.
    fn front(&self, tag: u64) -> Result<&InFlight> {
        match self.in_flight.front() {
            Some(front) if front.sequence == tag && front.sent => Ok(front),
            front => {
                let expected = front.map(|front| front.sequence);
                let message = format!("an answer to batch {tag} came instead of {expected:?}");
                Err(Error::broken(Effect::Unknown, message))
            }
        }
    }

    /// Batch `tag` is appended: resolves its callers, each with its own offsets.
    ///
    /// # Errors
    /// The answer does not fit the batch: this connection can't be trusted.
    pub(super) fn acknowledge(&mut self, tag: u64, answer: &Appended) -> Result<()> {
        let front = self.front(tag)?;
        let records = u64::from(front.batch.record_count());
        if answer.first_offset.checked_add(records) != Some(answer.next_offset) {
            let message = format!(
                "{records} records were appended, but the answer says {}..{}",
                answer.first_offset, answer.next_offset
            );
            return Err(Error::broken(Effect::Unknown, message));
        }
        let done = self.in_flight.pop_front().expect("it was just looked at");
        let mut first_offset = answer.first_offset;
        for (records, caller) in done.callers {
            let next_offset = first_offset + u64::from(records);
            // A caller may have stopped waiting; its records are appended all the same.
            let _ =
                caller.answer.send(Ok(Appended { first_offset, next_offset, ..answer.clone() }));
            first_offset = next_offset;
            self.answered += 1;
        }
        self.answer_flushes();
        Ok(())
    }

    /// Batch `tag` is refused.
    pub(super) fn refuse(&mut self, tag: u64, error: Error) -> Verdict {
        if let Err(error) = self.front(tag) {
            return Verdict::Resend(error);
        }
        if error.kind() == ErrorKind::SequenceStale {
            let done = self.in_flight.pop_front().expect("it was just looked at");
            for (_, caller) in done.callers {
                let _ = caller.answer.send(Err(error.clone()));
                self.answered += 1;
            }
            self.answer_flushes();
            return Verdict::Answered;
        }
        let front = self.in_flight.front_mut().expect("it was just looked at");
        // Answered: this copy is accounted for by its effect.
        front.sent = false;
        // Whoever the log does not know can begin with sequence 0 only. So if this batch was not
        // appended before, nothing behind it was or will be, under these numbers.
        let unknown = error.kind() == ErrorKind::ProducerUnknown && error.effect() == Effect::None;
        if unknown && front.sequence > 0 && !front.doubtful {
            return Verdict::Forgotten(error);
        }
        if error.is_retryable() {
            front.doubtful |= error.effect() == Effect::Unknown;
            return Verdict::Resend(error);
        }
        Verdict::Fatal(error)
    }

    /// Resolves everybody: this producer can't go on because of `error`, which is about the oldest
    /// batch. What lies behind that batch can't be in the log unless it is.
    pub(super) fn fail(&mut self, error: &Error) {
        let mut behind = None;
        for batch in self.in_flight.drain(..) {
            let own = match behind {
                None => {
                    let doubtful = batch.doubtful || batch.sent;
                    let own = error.clone().after_unknown(doubtful, true);
                    behind = Some(own.effect());
                    own
                }
                Some(Effect::None) => secondary(error, Effect::None),
                Some(_) if !batch.doubtful && !batch.sent => secondary(error, Effect::None),
                Some(_) => secondary(error, Effect::Unknown),
            };
            for (_, caller) in batch.callers {
                let _ = caller.answer.send(Err(own.clone()));
            }
        }
        for submission in self.pending.drain(..) {
            let _ = submission.caller.answer.send(Err(secondary(error, Effect::None)));
        }
        self.pending_bytes = 0;
        for (_, done) in self.flushes.drain(..) {
            let _ = done.send(Err(error.clone()));
        }
    }

    fn answer_flushes(&mut self) {
        let due = self.flushes.partition_point(|(at, _)| *at <= self.answered);
        for (_, done) in self.flushes.drain(..due) {
            let _ = done.send(Ok(()));
        }
    }
}

/// The error of those who stand behind the one that failed.
pub(super) fn secondary(error: &Error, effect: Effect) -> Error {
    let message = format!("an earlier append of this producer failed: {}", error.message());
    error.clone().into_secondary(effect, message)
}

/// The wait for an answer before a connection is given up: doubles with every one in a row, so
/// that a slow cluster is not made slower by resending.
pub(super) fn answer_timeout(in_a_row: u32) -> Duration {
    const FIRST: Duration = Duration::from_secs(3);
    /// What a node itself waits for a quorum.
    const LAST: Duration = Duration::from_secs(30);
    FIRST.saturating_mul(1_u32.checked_shl(in_a_row).unwrap_or(u32::MAX)).min(LAST)
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
