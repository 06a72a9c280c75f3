//! Merges waiting commands into Raft entries.
//!
//! One task per group. It takes what is waiting, up to about 1 MiB, and proposes it as one entry;
//! there is no linger: while [`MAX_ENTRIES_IN_FLIGHT`] entries are on their way, the next one
//! grows. One entry carries one leader timestamp; every command keeps its own outcome.

use std::sync::Arc;

use quorate_state_machine::{
    command::Command, entry::EntryBuilder, outcome::Outcome, types::TimestampMs,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::admission::Permit;
use crate::{
    clock::Clock,
    observe::Metrics,
    raft::group::{Group, WriteFailure},
    runtime,
};

/// An entry stops growing here. Large enough that per-entry costs (frame, sync, apply) vanish
/// behind its bytes, small enough to keep several in flight within one AppendEntries.
const TARGET_ENTRY_BYTES: usize = 1024 * 1024;

/// Commands in one entry; keeps the work of one apply short.
const MAX_COMMANDS: usize = 4096;

/// Entries proposed and not yet answered. Two keep the disk and the network busy at once; a few
/// more absorb jitter. Higher values make entries smaller, not throughput higher.
const MAX_ENTRIES_IN_FLIGHT: usize = 4;

/// What a command came to: its outcome, or why it has none.
pub type Answer = Result<Outcome, WriteFailure>;

struct Waiting {
    command: Command,
    /// Released when the answer is known.
    permit: Permit,
    answer: oneshot::Sender<Answer>,
}

/// Handle to a group's proposer. Commands from one caller keep their order.
#[derive(Clone)]
pub struct Proposer {
    /// Unbounded in number, bounded in bytes: everything in it holds a [`Permit`].
    queue: mpsc::UnboundedSender<Waiting>,
}

impl Proposer {
    /// Starts the task of `group`'s proposer. It ends when the last handle is gone.
    #[must_use]
    pub fn start(group: Group, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        runtime::spawn(run(group, clock, metrics, waiting));
        Self { queue }
    }

    /// Queues a command. The receiver yields its answer; a closed channel means that the group's
    /// core stopped first, and the effect is unknown.
    #[must_use]
    pub fn submit(&self, command: Command, permit: Permit) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        // A failed send drops `answer`: the receiver sees the closed channel, as documented.
        let _ = self.queue.send(Waiting { command, permit, answer });
        receiver
    }
}

async fn run(
    group: Group,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    mut waiting: mpsc::UnboundedReceiver<Waiting>,
) {
    let in_flight = Arc::new(Semaphore::new(MAX_ENTRIES_IN_FLIGHT));
    // A command that did not fit into the previous entry.
    let mut held_back: Option<Waiting> = None;
    loop {
        let first = match held_back.take() {
            Some(first) => first,
            None => match waiting.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        // Waiting for the slot before draining the queue is what lets the entry grow.
        let slot = in_flight.clone().acquire_owned().await.expect("the semaphore is never closed");
        let mut entry = EntryBuilder::new();
        let mut callers = Vec::new();
        let mut next = Some(first);
        while let Some(Waiting { command, permit, answer }) = next.take() {
            entry.push(&command);
            callers.push((answer, permit));
            if entry.len() >= TARGET_ENTRY_BYTES || callers.len() >= MAX_COMMANDS {
                break;
            }
            next = waiting.try_recv().ok();
            if let Some(big) =
                next.take_if(|w| entry.len() + w.command.encoded_len() > TARGET_ENTRY_BYTES)
            {
                held_back = Some(big);
                break;
            }
        }
        metrics.entry_proposed(group.id, callers.len(), entry.len());
        let bytes = entry.finish(TimestampMs(clock.wall_ms()));
        let proposed = group
            .propose(bytes, move |result| {
                answer_all(callers, result);
                drop(slot);
            })
            .await;
        if let Err(failure) = proposed {
            // The closure was dropped with its callers: they see a closed channel.
            tracing::warn!(group = group.id.0, ?failure, "the proposer stops with its group");
            return;
        }
    }
}

fn answer_all(
    callers: Vec<(oneshot::Sender<Answer>, Permit)>,
    result: Result<Vec<Outcome>, WriteFailure>,
) {
    match result {
        Ok(outcomes) => {
            assert_eq!(outcomes.len(), callers.len(), "one outcome per command of an entry");
            for ((answer, permit), outcome) in callers.into_iter().zip(outcomes) {
                drop(permit);
                // The caller may have gone (deadline, closed connection).
                let _ = answer.send(Ok(outcome));
            }
        }
        Err(failure) => {
            for (answer, permit) in callers {
                drop(permit);
                let _ = answer.send(Err(failure.clone()));
            }
        }
    }
}
