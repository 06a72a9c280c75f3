//! How fresh must a read be? Four kinds of data, four answers, from dear to cheap.
//!
//! ```text
//! cargo run --release -p quorate-client --example which_level
//! ```

use std::{error::Error, time::Duration};

use quorate_client::{
    AppendOptions, Client, Consistency, ErrorKind, OnUnmet, Route, Session, SessionToken,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A payment must see every payment before it, and nobody may come in between: a linearizable
/// read, and an append that is judged by what was read. Costs a round of a quorum and an fsync.
async fn pay(client: &Client, account: &str, amount: i64) -> Outcome<bool> {
    loop {
        let records = client.read(account).open().await?;
        let next_offset = records.header().next_offset;
        let mut balance = 0;
        for record in records.collect().await? {
            balance += String::from_utf8(record.record.value.to_vec())?.parse::<i64>()?;
        }
        if balance + amount < 0 {
            return Ok(false);
        }
        let unchanged =
            AppendOptions { expected_offset: Some(next_offset), ..AppendOptions::default() };
        match client.append_with(account, [amount.to_string()], &unchanged).await {
            Ok(_) => return Ok(true),
            // Somebody was quicker: look again.
            Err(error) if error.kind() == ErrorKind::OffsetMismatch => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Who edits his profile must see his edit on the next page, and others may see it a moment later:
/// a session. Its token travels in a cookie, from web server to web server. Costs nothing but a
/// short wait where a replica is behind.
async fn edit_and_show(client: &Client, name: &'static str) -> Outcome<Vec<u8>> {
    let session = client.session();
    session.append("example-profile", [name]).await?;
    let cookie = session.token().to_string();

    // The next request, at another web server, asks whatever replica.
    let token: SessionToken = cookie.parse()?;
    let session: Session = client.resume_session(&token);
    let newest = session.read("example-profile").last(1).open().await?.collect().await?;
    Ok(newest.last().ok_or("the edit is there")?.record.value.to_vec())
}

/// A feed may be anything that was true once; what counts is speed: whatever the nearest replica
/// has.
async fn feed(client: &Client) -> Outcome<usize> {
    let nearest = client.with_route(Route::Nearest);
    let read = nearest.read("example-feed").consistency(Consistency::eventual()).last(20);
    Ok(read.open().await?.collect().await?.len())
}

/// A position on a map is worth something for half a minute: a bound that any replica can prove
/// for itself, and if it can't, an old position that says how old it is, rather than none.
async fn location(client: &Client) -> Outcome<Option<u64>> {
    let recent = Consistency::bounded(Duration::from_secs(30)).on_unmet(OnUnmet::ServeAndMark);
    let reader = client.read("example-location").consistency(recent).last(1).open().await?;
    Ok(reader.header().age_ms)
}

/// One of each.
pub async fn run(client: &Client) -> Outcome {
    for log in ["example-account", "example-profile", "example-feed", "example-location"] {
        client.create_log(log, true).await?;
        client.append(log, ["0"]).await?;
    }
    assert!(pay(client, "example-account", 10).await?);
    assert!(pay(client, "example-account", -10).await?);
    assert!(!pay(client, "example-account", -1_000_000).await?, "there is not so much on it");
    assert_eq!(edit_and_show(client, "Ada").await?, b"Ada");
    println!("the feed has {} entries to show", feed(client).await?);
    match location(client).await? {
        Some(age_ms) => println!("the position is at most {age_ms} ms old"),
        None => println!("nobody knows how old the position is"),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let nodes = std::env::var("QUORATE_ENDPOINTS")
        .unwrap_or_else(|_| "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103".to_owned());
    let client = Client::builder().endpoints(nodes.split(',')).build()?;
    run(&client).await
}
