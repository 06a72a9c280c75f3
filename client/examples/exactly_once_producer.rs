//! Moving a file into a log so that a crash in the middle, and running it again, neither loses nor
//! repeats a line.
//!
//! The trick is in the numbers: the same input is always cut into the same batches, which get the
//! sequences 0, 1, 2, ... of one producer id that is kept somewhere (here: in a variable). What the
//! log has seen, it recognises.
//!
//! ```text
//! cargo run --release -p quorate-client --example exactly_once_producer
//! ```

use std::error::Error;

use quorate_client::{Batch, Client, ErrorKind, ProducerId};

/// Which log, so that the others are left alone.
const LOG: &str = "example-exactly-once";

/// Lines a batch.
const BATCH: usize = 10;

/// Appends `lines` as the producer `id`, up to the batch `crash_at`. Says how many batches were
/// new to the log.
async fn ingest(
    client: &Client,
    id: ProducerId,
    lines: &[String],
    crash_at: usize,
) -> Result<usize, Box<dyn Error>> {
    let producer = client.producer(LOG).resume(id, 0).open().await?;
    let mut tickets = Vec::new();
    for lines in lines.chunks(BATCH).take(crash_at) {
        // Waits only when too many bytes are in flight; answers are awaited later.
        let batch = Batch::of(lines.iter().cloned())?;
        tickets.push(producer.append_batch(batch).await?);
    }
    let mut new = 0;
    for ticket in tickets {
        match ticket.await {
            Ok(appended) => new += usize::from(!appended.deduplicated),
            // Appended so long ago that the log forgot the offsets, but not that it has it.
            Err(error) if error.kind() == ErrorKind::SequenceStale => {}
            Err(error) => return Err(error.into()),
        }
    }
    producer.close().await?;
    Ok(new)
}

/// Appends a file in two runs, of which the first one ends in the middle.
pub async fn run(client: &Client) -> Result<(), Box<dyn Error>> {
    let log = client.create_log(LOG, true).await?.log;
    let lines: Vec<String> = (0..1000).map(|n| format!("line {n}")).collect();
    let id = ProducerId::random();

    let first = ingest(client, id, &lines, 37).await?;
    println!("the first run appended {first} batches, then it crashed");
    let second = ingest(client, id, &lines, usize::MAX).await?;
    println!("the second run began at the beginning and appended {second} batches");
    assert_eq!(first + second, lines.len().div_ceil(BATCH));

    let read = client.read(LOG).from_offset(log.next_offset).open().await?.collect().await?;
    let read: Vec<_> = read.iter().map(|record| &record.record.value[..]).collect();
    assert_eq!(read, lines.iter().map(String::as_bytes).collect::<Vec<_>>());
    println!("the log holds every line once, in order");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let nodes = std::env::var("QUORATE_ENDPOINTS")
        .unwrap_or_else(|_| "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103".to_owned());
    let client = Client::builder().endpoints(nodes.split(',')).build()?;
    run(&client).await
}
