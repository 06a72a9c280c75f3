//! `quorate append`.
//!
//! A thread reads the input and cuts it into batches ([`crate::input`]), the SDK's producer carries
//! them, numbered, and this waits for the answers. [`resume`] finds out what the log has already,
//! [`pump`] moves batches, [`tally`] counts and sums up.

mod pump;
mod resume;
mod tally;

use std::cell::RefCell;

use quorate_client::{AppendOptions, Client, MAX_BATCH_RECORDS, ProducerId};

use self::{pump::Pump, tally::Tally};
use super::interrupt;
use crate::{
    args::{AppendArgs, Global},
    exit::{Exit, Failure},
    input::{
        batches::{BatchRule, Batches},
        source::{self, Source},
        split::Splitter,
    },
    output::{Output, progress::Progress},
    sdk,
};

/// Largest input that is one batch for `--expected-offset`: what shares a Raft entry at most.
const ONE_BATCH_BYTES: usize = 1 << 20;

/// Appends the input.
///
/// # Errors
/// The input can't be read; the cluster's refusal. What was acknowledged before it stays.
pub async fn run(args: &AppendArgs, global: &Global, output: Output) -> Result<(), Failure> {
    let source = source::open(&args.file)?;
    let client = sdk::client(global)?;
    if args.create {
        client.create_log(&args.log, true).await?;
    }
    match args.expected_offset {
        Some(expected) => at_offset(args, expected, source, &client, output).await,
        None => all(args, global, source, &client, output).await,
    }
}

/// The whole input as one batch, at an offset or not at all.
async fn at_offset(
    args: &AppendArgs,
    expected: u64,
    source: Source,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    let rule = BatchRule {
        max_bytes: ONE_BATCH_BYTES,
        max_records: MAX_BATCH_RECORDS as u32,
        key_separator: separator(args),
        eager: false,
    };
    let (framing, name) = (args.format, source.name);
    let read = move || {
        let mut batches = Batches::new(Splitter::new(source.reader, framing), rule);
        Ok((batches.next_batch()?, batches.next_batch()?.is_some()))
    };
    let read = tokio::task::spawn_blocking(read).await;
    let read = read.map_err(|e| Failure::refused(format!("the reader died: {e}")))?;
    let (batch, more) = read.map_err(|e| pump::input_failure(&e, &name))?;
    if more {
        return Err(Failure::refused(format!("{name} does not fit into one batch")).advise(
            "--expected-offset is about one batch of at most 1MiB; append the rest after it",
        ));
    }
    let Some(batch) = batch else { return Err(Failure::refused(format!("{name} is empty"))) };
    let options = AppendOptions {
        expected_offset: Some(expected),
        writer_epoch: args.writer_epoch,
        // Makes a repetition recognisable, so that the SDK may repeat when an answer is lost.
        producer: Some((ProducerId::random(), 0)),
        incarnation: None,
    };
    let tally = RefCell::new(Tally::new());
    let appended = client.append_with(&args.log, batch.batch.clone(), &options).await?;
    tally.borrow_mut().acknowledged(&pump::Sent::of(&batch), &appended);
    tally.into_inner().write(&args.log, None, output)
}

/// The input as it comes, batch after batch.
async fn all(
    args: &AppendArgs,
    global: &Global,
    source: Source,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    // Whoever gives an id means to resume, or to be resumable: then content alone makes the
    // batches. A pipe without an id is somebody talking, and should not wait for a full batch.
    let eager = source.len.is_none() && args.producer_id.is_none();
    let id = match (args.producer_id, eager) {
        (Some(id), _) => Some(ProducerId(id)),
        (None, true) => None,
        (None, false) => Some(ProducerId::random()),
    };
    let begin = resume::look(client, args, id).await?;
    let producer = client.producer(&args.log).delivery_timeout(Some(global.append_timeout()));
    let producer = match args.writer_epoch {
        Some(epoch) => producer.writer_epoch(epoch),
        None => producer,
    };
    let producer = match id {
        Some(id) => producer.resume(id, begin.sequence),
        None => producer,
    };
    let producer = producer.open().await?;
    let progress = Progress::bytes(output, source.len);
    if let (Some(id), None) = (id, args.producer_id) {
        let line = format!(
            "producer id {id} (if this is cut off: the same command with --producer-id {id})"
        );
        progress.note(output, &line);
    }
    if let Some(known) = begin.known {
        let line = format!("the log has {known} batches of this input already");
        progress.note(output, &line);
    }
    let rule = BatchRule {
        max_bytes: args.batch_bytes,
        max_records: args.batch_records,
        key_separator: separator(args),
        eager,
    };
    let tally = RefCell::new(Tally::new());
    let pump = Pump { producer, begin, rate: args.rate, tally: &tally, progress: &progress };
    let ended = tokio::select! {
        biased;
        ended = pump.run(source, args.format, rule) => ended,
        interrupted = interrupt() => Err(Failure { what: "interrupted".into(), ..interrupted }),
    };
    progress.done();
    let tally = tally.into_inner();
    match ended {
        Ok(()) => tally.write(&args.log, id, output),
        Err(failure) => Err(last_words(failure, &tally, id)),
    }
}

/// What was achieved before the end, and how to go on.
fn last_words(failure: Failure, tally: &Tally, id: Option<ProducerId>) -> Failure {
    // Of another input than the producer's, no record can be said to be in the log.
    let foreign = failure.advice.as_deref() == Some(pump::OTHER_INPUT);
    if failure.exit == Exit::Ok || failure.exit == Exit::Usage || foreign {
        return failure;
    }
    let resumable = failure.exit == Exit::Unknown
        || failure.exit == Exit::Interrupted
        || failure.advice.is_none();
    let what = format!("{}: {}", tally.so_far(), failure.what);
    match id {
        Some(id) if resumable => Failure { what, ..failure }.advise(format!(
            "the same command with --producer-id {id} goes on without losing or repeating a record"
        )),
        _ => Failure { what, ..failure },
    }
}

fn separator(args: &AppendArgs) -> Option<Vec<u8>> {
    args.key_separator.as_ref().map(|s| s.clone().into_bytes())
}
