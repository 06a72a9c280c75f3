//! Following a log, and going on later where one stopped.
//!
//! A tail survives broken streams and dead nodes by itself. What it can't survive is the end of
//! its own process: for that, the consumer stores the next offset together with what it made of
//! the records, in one transaction of its own if "exactly once" is to hold there, too.
//!
//! ```text
//! cargo run --release -p quorate-client --example tail_with_resume
//! ```

use std::error::Error;

use quorate_client::{Client, TailEvent};

/// Which log, so that the others are left alone.
const LOG: &str = "example-tail";

/// What a consumer keeps on its own disk.
#[derive(Default)]
struct Checkpoint {
    next_offset: u64,
    /// Of which log: a log deleted and created again begins at 0.
    incarnation: Option<u64>,
    sum: u64,
}

/// Follows the log until `until`, from where the checkpoint says.
async fn consume(
    client: &Client,
    saved: &mut Checkpoint,
    until: u64,
) -> Result<(), Box<dyn Error>> {
    let mut tail = client.tail(LOG).from_offset(saved.next_offset);
    if let Some(incarnation) = saved.incarnation {
        tail = tail.incarnation(incarnation);
    }
    let mut tailer = tail.open().await?;
    while saved.next_offset < until {
        match tailer.next().await? {
            TailEvent::Batch(batch) => {
                for record in batch.records() {
                    let record = record?;
                    saved.sum += String::from_utf8(record.record.value.to_vec())?.parse::<u64>()?;
                    saved.next_offset = record.offset + 1;
                }
            }
            // At least once a second, also when nothing is appended: how fresh this tail is.
            TailEvent::Header(header) => saved.incarnation = Some(header.incarnation),
            _ => {}
        }
    }
    println!("up to offset {}: the sum is {}", saved.next_offset, saved.sum);
    Ok(())
}

/// Consumes a log in two runs.
pub async fn run(client: &Client) -> Result<(), Box<dyn Error>> {
    let log = client.create_log(LOG, true).await?.log;
    let start = log.next_offset;
    let mut saved = Checkpoint { next_offset: start, ..Checkpoint::default() };

    client.append(LOG, (1..=50_u64).map(|n| n.to_string())).await?;
    consume(client, &mut saved, start + 50).await?;
    // The consumer is restarted; meanwhile the log goes on.
    client.append(LOG, (51..=100_u64).map(|n| n.to_string())).await?;
    consume(client, &mut saved, start + 100).await?;

    assert_eq!(saved.sum, 5050, "every record once");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let nodes = std::env::var("QUORATE_ENDPOINTS")
        .unwrap_or_else(|_| "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103".to_owned());
    let client = Client::builder().endpoints(nodes.split(',')).build()?;
    run(&client).await
}
