//! One writer at a time, without a lock that could expire behind the writer's back.
//!
//! Whoever takes over raises the log's writer epoch. From then on the log itself refuses the old
//! writer, in the moment the append would take effect: it need not notice that it was replaced,
//! and no pause of it, however long, can make a late write slip in.
//!
//! ```text
//! cargo run --release -p quorate-client --example fenced_writer
//! ```

use std::error::Error;

use quorate_client::{Client, Effect, ErrorKind, Producer};

/// Which log, so that the others are left alone.
const LOG: &str = "example-fenced";

/// Becomes the log's only writer. The records of former writers all lie before the offset.
async fn take_over(client: &Client) -> Result<(Producer, u64), Box<dyn Error>> {
    let fenced = client.fence(LOG, None, None).await?;
    let producer = client
        .producer(LOG)
        .writer_epoch(fenced.writer_epoch)
        .incarnation(fenced.incarnation)
        .open()
        .await?;
    println!("writer of epoch {} from offset {} on", fenced.writer_epoch, fenced.next_offset);
    Ok((producer, fenced.next_offset))
}

/// Two writers, one after the other, the first of which does not know that it is over.
pub async fn run(client: &Client) -> Result<(), Box<dyn Error>> {
    client.create_log(LOG, true).await?;

    let (old, start) = take_over(client).await?;
    old.append(["by the old one"]).await?.await?;

    // The old writer hangs, say; another one takes its place and reads what it left.
    let (new, end) = take_over(client).await?;
    assert_eq!(end, start + 1);
    new.append(["by the new one"]).await?.await?;

    // The old one wakes up.
    let refused = old.append(["too late"]).await?.await;
    let error = refused.err().ok_or("a fenced writer was taken")?;
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Fenced, Effect::None));
    println!("the old writer is told: {error}");
    // So is anybody who comes without an epoch.
    let error = client.append(LOG, ["who am I"]).await.err().ok_or("no epoch was asked for")?;
    assert_eq!(error.kind(), ErrorKind::Fenced);

    let left = client.read(LOG).from_offset(start).open().await?.collect().await?;
    let left: Vec<_> = left.iter().map(|record| &record.record.value[..]).collect();
    assert_eq!(left, [&b"by the old one"[..], b"by the new one"]);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let nodes = std::env::var("QUORATE_ENDPOINTS")
        .unwrap_or_else(|_| "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103".to_owned());
    let client = Client::builder().endpoints(nodes.split(',')).build()?;
    run(&client).await
}
