//! Read indexes for many waiting reads at once.
//!
//! A round that began after a read arrived proves what that read needs (Raft dissertation, 6.4),
//! and it proves it for every read that had arrived by then. So reads that arrive while rounds are
//! on their way wait for the next one, together: a quorum round costs the same for one read or a
//! thousand.

use std::{sync::Arc, time::Duration};

use quorate_state_machine::types::LogPoint;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::ReadFailure;
use crate::{observe::Metrics, raft::group::Group, runtime};

/// Rounds under way at once. With one, a read that just missed a round waits for two; with two it
/// waits little more than one, at twice the rounds under load.
const ROUNDS_IN_FLIGHT: usize = 2;

/// Reads that may wait for a round; beyond it, callers wait for a place in the queue.
const QUEUE: usize = 64 * 1024;

type Answer = Result<LogPoint, ReadFailure>;

/// Handle to a group's read-index task.
#[derive(Clone)]
pub struct ReadIndexer {
    queue: mpsc::Sender<oneshot::Sender<Answer>>,
}

impl ReadIndexer {
    /// Starts the task. A round that is not confirmed within `round_timeout` fails its reads.
    #[must_use]
    pub fn start(group: Group, round_timeout: Duration, metrics: Arc<Metrics>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        runtime::spawn(run(group, round_timeout, waiting, metrics));
        Self { queue }
    }

    /// A read index from a round that starts after this call.
    ///
    /// # Errors
    /// [`ReadFailure`].
    pub async fn read_index(&self) -> Answer {
        let gone = || ReadFailure::Stopped("the read-index task is gone".to_owned());
        let (answer, receiver) = oneshot::channel();
        self.queue.send(answer).await.map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())?
    }
}

async fn run(
    group: Group,
    round_timeout: Duration,
    mut waiting: mpsc::Receiver<oneshot::Sender<Answer>>,
    metrics: Arc<Metrics>,
) {
    let rounds = Arc::new(Semaphore::new(ROUNDS_IN_FLIGHT));
    loop {
        let Some(first) = waiting.recv().await else { return };
        let slot = rounds.clone().acquire_owned().await.expect("the semaphore is never closed");
        // Everybody who has arrived before the round starts, and nobody later.
        let mut readers = vec![first];
        while let Ok(next) = waiting.try_recv() {
            readers.push(next);
        }
        metrics.read_round(group.id, readers.len());
        let group = group.clone();
        runtime::spawn(async move {
            let answer = group.read_index(round_timeout).await.map_err(ReadFailure::from);
            drop(slot);
            for reader in readers {
                // The reader may have gone.
                let _ = reader.send(answer.clone());
            }
        });
    }
}
