//! From the input to the log: read, number, send, wait.

use std::{cell::RefCell, time::Duration};

use quorate_client::{AppendTicket, ErrorKind, Producer};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{resume::Begin, tally::Tally};
use crate::{
    exit::Failure,
    input::{
        batches::{BatchRule, Batches, InputBatch, InputError},
        source::Source,
        split::{Framing, Splitter},
    },
    output::{progress::Progress, units},
};

/// Batches read ahead of sending: enough to never wait for the disk, small enough to not matter.
const READ_AHEAD: usize = 8;

/// Batches admitted to the producer whose answers are waited for. The producer itself bounds bytes.
const AWAITED: usize = 256;

/// What is remembered of a batch until it is answered.
pub struct Sent {
    sequence: u64,
    first_record: u64,
    /// Records in it.
    pub records: u32,
    /// Bytes of the input up to its end.
    pub input_end: u64,
}

impl Sent {
    /// Of a batch about to be sent.
    pub fn of(batch: &InputBatch) -> Self {
        let &InputBatch { sequence, first_record, records, input_end, .. } = batch;
        Self { sequence, first_record, records, input_end }
    }
}

/// Moves batches.
pub struct Pump<'a> {
    /// Carries them.
    pub producer: Producer,
    /// What to leave out.
    pub begin: Begin,
    /// Records a second at most.
    pub rate: Option<u64>,
    /// What was acknowledged.
    pub tally: &'a RefCell<Tally>,
    /// Shows it.
    pub progress: &'a Progress,
}

type Input = mpsc::Receiver<Result<InputBatch, InputError>>;

impl Pump<'_> {
    /// Until the end of the input is acknowledged.
    ///
    /// # Errors
    /// The first thing that went wrong; what was sent behind it is not acknowledged either.
    pub async fn run(
        self,
        source: Source,
        framing: Framing,
        rule: BatchRule,
    ) -> Result<(), Failure> {
        let name = source.name.clone();
        let input = read(source, framing, rule)?;
        let (awaited, answers) = mpsc::channel(AWAITED);
        let (same, compared) = oneshot::channel();
        self.tally.borrow_mut().start();
        let (sent, answered) =
            tokio::join!(self.send(input, &name, awaited, compared), self.wait(answers, same));
        // When both failed, the answer is the cause and the sending the consequence.
        answered?;
        let batches = sent?;
        self.producer.close().await?;
        match self.begin.known {
            Some(known) if known > batches => Err(Failure::refused(format!(
                "the log has {known} batches of this producer, but the input makes only {batches}"
            ))
            .advise(OTHER_INPUT)),
            _ => Ok(()),
        }
    }

    /// Sends the input; answers with the number of its batches.
    async fn send(
        &self,
        mut input: Input,
        name: &str,
        awaited: mpsc::Sender<(Sent, AppendTicket)>,
        compared: oneshot::Receiver<()>,
    ) -> Result<u64, Failure> {
        let mut compared = self.begin.compares().then_some(compared);
        let mut pace = Pace::new(self.rate);
        let mut batches = 0;
        loop {
            let next = tokio::select! {
                next = input.recv() => next,
                // An answer was a refusal. Input may never come again; that must not hide it.
                () = awaited.closed() => return Ok(batches),
            };
            let Some(batch) = next else { return Ok(batches) };
            let batch = batch.map_err(|e| input_failure(&e, name))?;
            batches += 1;
            let sent = Sent::of(&batch);
            if batch.sequence < self.begin.sequence {
                self.progress.skipped(sent.input_end);
                self.tally.borrow_mut().skipped(&sent);
                continue;
            }
            // Nothing new goes out before the log has said of everything old that it is the same:
            // behind a batch that it refuses as different, the next new one would still fit.
            if self.begin.known.is_some_and(|known| batch.sequence >= known)
                && let Some(compared) = compared.take()
                && compared.await.is_err()
            {
                return Ok(batches);
            }
            pace.wait_for(sent.records).await;
            let ticket = self.producer.append_batch(batch.batch).await?;
            if awaited.send((sent, ticket)).await.is_err() {
                return Ok(batches);
            }
        }
    }

    /// Waits for the answers, which come in order.
    async fn wait(
        &self,
        mut answers: mpsc::Receiver<(Sent, AppendTicket)>,
        same: oneshot::Sender<()>,
    ) -> Result<(), Failure> {
        let mut same = Some(same);
        while let Some((sent, ticket)) = answers.recv().await {
            let appended = ticket.await.map_err(|error| refusal(error, &sent))?;
            let mut tally = self.tally.borrow_mut();
            tally.acknowledged(&sent, &appended);
            self.progress.at(sent.input_end, tally.records());
            if self.begin.known == Some(sent.sequence + 1)
                && let Some(same) = same.take()
            {
                // Nobody waits when the input ended here.
                let _ = same.send(());
            }
        }
        Ok(())
    }
}

/// What to do when the producer's batches are not those of this input.
pub const OTHER_INPUT: &str =
    "give the file and the settings of the first run, or another --producer-id for another input";

fn refusal(error: quorate_client::Error, sent: &Sent) -> Failure {
    if error.kind() != ErrorKind::SequenceReused {
        return error.into();
    }
    let (first, last) = (sent.first_record + 1, sent.first_record + u64::from(sent.records));
    let what = format!(
        "records {} to {} are not what this producer appended as its batch {}",
        units::grouped(first),
        units::grouped(last),
        sent.sequence
    );
    Failure { what, ..error.into() }.advise(OTHER_INPUT)
}

/// The failure for an input that can't be read, or not be appended.
pub fn input_failure(error: &InputError, name: &str) -> Failure {
    Failure::refused(format!("{name}: {error}"))
}

/// Starts reading, on a thread of its own: reading a pipe or a terminal blocks for as long as it
/// likes, and the end of the program must not wait for it.
fn read(source: Source, framing: Framing, rule: BatchRule) -> Result<Input, Failure> {
    let (batches, input) = mpsc::channel(READ_AHEAD);
    let read = move || {
        let mut reader = Batches::new(Splitter::new(source.reader, framing), rule);
        loop {
            let (item, last) = match reader.next_batch() {
                Ok(Some(batch)) => (Ok(batch), false),
                Ok(None) => return,
                Err(error) => (Err(error), true),
            };
            // Nobody listens any more when sending failed.
            if batches.blocking_send(item).is_err() || last {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("input".into()).spawn(read);
    thread.map_err(|e| Failure::refused(format!("a thread can't be started: {e}")))?;
    Ok(input)
}

/// Holds back to a rate.
struct Pace {
    rate: Option<u64>,
    started: Instant,
    records: u64,
}

impl Pace {
    fn new(rate: Option<u64>) -> Self {
        Self { rate, started: Instant::now(), records: 0 }
    }

    /// Waits until so many more records may go out.
    async fn wait_for(&mut self, records: u32) {
        let Some(rate) = self.rate else { return };
        let due = Duration::from_secs_f64(self.records as f64 / rate as f64);
        tokio::time::sleep_until(self.started + due).await;
        self.records += u64::from(records);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept() {
        let mut pace = Pace::new(Some(100));
        let began = Instant::now();
        for _ in 0..11 {
            pace.wait_for(50).await;
        }
        // The first goes out at once; each other waits for the time of those before it.
        assert_eq!(began.elapsed().as_millis() / 10, 500);
    }
}
