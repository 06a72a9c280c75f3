//! Reading from any replica, with a proven bound on how old the answer is.
//!
//! A replica knows how fresh it is from evidence that a quorum confirmed, on its own clock. So it
//! can serve a bounded read without asking the leader, and refuses when it can't prove the bound.
//!
//! ```text
//! cargo run --release -p quorate-client --example bounded_follower_read
//! ```

use std::{error::Error, time::Duration};

use quorate_client::{Client, Consistency, ErrorKind, OnUnmet};

/// Which log, so that the others are left alone.
const LOG: &str = "example-bounded";

/// Reads the same log from each replica.
pub async fn run(client: &Client) -> Result<(), Box<dyn Error>> {
    client.create_log(LOG, true).await?;
    let appended = client.append(LOG, ["to be seen everywhere"]).await?;

    // Not older than a second, and in any case with what was just appended in it.
    let bounded = Consistency::bounded(Duration::from_secs(1)).at_least(appended.position.clone());
    for node in client.endpoints() {
        let read = client.read(LOG).from_offset(appended.first_offset);
        let reader = read.consistency(bounded.clone()).at(&node).open().await?;
        let header = reader.header().clone();
        let age_ms = header.age_ms.ok_or("a bounded read proves its age")?;
        let records = reader.collect().await?;
        assert!(age_ms <= 1000 && !records.is_empty());
        println!("node {} ({:?}): at most {age_ms} ms old", header.served_by, header.role());
    }

    // Nobody can prove an age of nothing; whoever would rather know than wait says so.
    let now_or_never = Consistency::bounded(Duration::ZERO).on_unmet(OnUnmet::Fail);
    match client.describe_log(LOG, &now_or_never).await {
        Ok((_, header)) => println!("an age of {:?} ms, proven", header.age_ms),
        Err(error) if error.kind() == ErrorKind::TooStale => {
            println!("refused; what could be offered: {:?}", error.age());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let nodes = std::env::var("QUORATE_ENDPOINTS")
        .unwrap_or_else(|_| "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103".to_owned());
    let client = Client::builder().endpoints(nodes.split(',')).build()?;
    run(&client).await
}
