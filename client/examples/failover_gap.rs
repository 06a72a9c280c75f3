//! How long appends are interrupted: one record after the other at a steady rate, and every pause
//! between two acknowledgements that is longer than usual, as it happens. Kill a node meanwhile.
//!
//! `cargo run --release -p quorate-client --example failover_gap -- 60 http://127.0.0.1:7101 …`
use std::time::{Duration, Instant};

use quorate_client::{Batch, Client};

/// A steady 200 a second.
const PERIOD: Duration = Duration::from_millis(5);

/// Pauses from here on are told.
const NOTABLE: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().unwrap_or_default().parse().unwrap_or(60);
    let endpoints: Vec<String> = arguments.collect();
    let client = Client::builder().endpoints(endpoints).build()?;
    let log = "failover-gap";
    client.create_log(log, true).await?;
    let producer = client.producer(log).open().await?;
    let (began, mut last) = (Instant::now(), Instant::now());
    while began.elapsed() < Duration::from_secs(seconds) {
        let sent = Instant::now();
        producer.append_batch(Batch::of(["tick"])?).await?.await?;
        let gap = last.elapsed();
        if gap > NOTABLE {
            println!("{:.3} s: {} ms", began.elapsed().as_secs_f64(), gap.as_millis());
        }
        last = Instant::now();
        if let Some(rest) = PERIOD.checked_sub(sent.elapsed()) {
            tokio::time::sleep(rest).await;
        }
    }
    producer.close().await?;
    Ok(())
}
