//! Appending, conditions, reading back, and what an error says.
//!
//! ```text
//! cluster/quickstart.sh                                   # a cluster on this machine
//! cargo run --release -p quorate-client --example append
//! ```

use std::error::Error;

use quorate_client::{AppendOptions, Client, Effect, ErrorKind, Record};

/// Which log, so that the others are left alone.
const LOG: &str = "example-append";

/// Appends some records and reads them back.
pub async fn run(client: &Client) -> Result<(), Box<dyn Error>> {
    client.create_log(LOG, true).await?;

    // The short way. Exactly once, whatever happens to connections and leaders; concurrent calls
    // of all clones of a client are packed and pipelined together.
    let first = client.append(LOG, ["a value", "another"]).await?;
    println!("offsets {}..{}", first.first_offset, first.next_offset);

    // Keys and headers.
    let record = Record::new("paid").with_key("order-7").with_header("trace", "4bf92f35");
    let second = client.append(LOG, [record]).await?;

    // Optimistic concurrency: only if nobody appended meanwhile.
    let unchanged =
        AppendOptions { expected_offset: Some(second.next_offset), ..AppendOptions::default() };
    client.append_with(LOG, ["as expected"], &unchanged).await?;
    match client.append_with(LOG, ["too late"], &unchanged).await {
        Err(error) if error.kind() == ErrorKind::OffsetMismatch => {
            // Every error says what became of the call. This one was judged and changed nothing.
            assert_eq!(error.effect(), Effect::None);
            println!("the log went on to {:?} meanwhile", error.next_offset());
        }
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("an append in the past was taken".into()),
    }

    // Linearizable unless told otherwise: everything acknowledged before is in it.
    let mut reader = client.read(LOG).from_offset(first.first_offset).open().await?;
    while let Some(batch) = reader.next_batch().await? {
        for record in batch.records() {
            let record = record?;
            println!("{:>6} {}", record.offset, String::from_utf8_lossy(&record.record.value));
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Of a local cluster. One address that answers is enough.
    let nodes = std::env::var("QUORATE_ENDPOINTS")
        .unwrap_or_else(|_| "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103".to_owned());
    let client = Client::builder().endpoints(nodes.split(',')).build()?;
    run(&client).await
}
