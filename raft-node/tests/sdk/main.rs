//! The Rust client against three real nodes: its examples do what they say, and its producers keep
//! every record once and in order while leaders die.

#[path = "../service/cluster.rs"]
#[allow(dead_code, reason = "shared with the service's tests, which use more of it")]
mod cluster;

use std::time::{Duration, Instant};

use cluster::Cluster;
use quorate_client::{Client, Endpoint, ErrorKind};

/// An example of the client; they assert what they claim.
macro_rules! examples {
    ($($name:ident = $path:literal;)+) => {
        $(
            #[path = $path]
            #[allow(dead_code, reason = "a test calls `run`, not `main`")]
            mod $name;
        )+

        /// Each runs twice: the second time on what the first one left.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn the_examples_do_what_they_say() {
            let cluster = Cluster::start(3, "").await;
            let client = client(&cluster);
            for round in 1..=2 {
                $(
                    println!("-- {} ({round})", stringify!($name));
                    $name::run(&client).await.expect(stringify!($name));
                )+
            }
        }
    };
}

examples! {
    append = "../../../client/examples/append.rs";
    exactly_once_producer = "../../../client/examples/exactly_once_producer.rs";
    tail_with_resume = "../../../client/examples/tail_with_resume.rs";
    fenced_writer = "../../../client/examples/fenced_writer.rs";
    bounded_follower_read = "../../../client/examples/bounded_follower_read.rs";
    which_level = "../../../client/examples/which_level.rs";
}

fn client(cluster: &Cluster) -> Client {
    let nodes = (0..3).map(|n| cluster.url(n));
    let patience = Duration::from_secs(60);
    Client::builder().endpoints(nodes).request_timeout(patience).build().expect("three addresses")
}

/// Kills the leader twice under a pipelined producer and concurrent callers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_once_and_in_order_while_leaders_die() {
    const RECORDS: u64 = 3000;
    let mut cluster = Cluster::start(3, "").await;
    let client = client(&cluster);
    client.create_log("pipelined", false).await.expect("a log");
    client.create_log("shared", false).await.expect("a log");

    let producer = client.producer("pipelined").target_batch_bytes(200);
    let producer = producer.open().await.expect("a producer");
    let pipelined = async {
        let mut tickets = std::collections::VecDeque::new();
        for n in 0..RECORDS {
            // In step with the other callers, so that leaders die under both.
            if tickets.len() >= 100 {
                let ticket: quorate_client::AppendTicket = tickets.pop_front().expect("not empty");
                ticket.await.expect("an append");
            }
            tickets.push_back(producer.append([n.to_string()]).await.expect("admission"));
        }
        for (n, ticket) in (RECORDS - tickets.len() as u64..).zip(tickets) {
            assert_eq!(ticket.await.expect("an append").first_offset, n);
        }
    };
    let callers = futures::future::join_all((0..50_u64).map(|caller| {
        let client = client.clone();
        async move {
            for n in 0..RECORDS / 50 {
                client.append("shared", [format!("{caller} {n}")]).await.expect("an append");
            }
        }
    }));
    let (killed, progress) = (client.clone(), client.clone());
    let killer = async {
        for part in 1..=2 {
            reached(&progress, "pipelined", RECORDS * part / 4).await;
            let leader = cluster.leader().await;
            cluster.kill(leader);
            reached(&killed, "pipelined", RECORDS * part / 4 + 1).await;
            cluster.run(leader);
        }
    };
    let ((), _, ()) = futures::join!(pipelined, callers, killer);

    let read = client.read("pipelined").open().await.expect("a read").collect().await;
    let read: Vec<_> = read.expect("records").into_iter().map(|r| r.record.value).collect();
    assert_eq!(read, (0..RECORDS).map(|n| n.to_string()).collect::<Vec<_>>());

    let read = client.read("shared").open().await.expect("a read").collect().await;
    let mut next = [0; 50];
    for record in read.expect("records") {
        let text = String::from_utf8(record.record.value.to_vec()).expect("text");
        let (caller, n) = text.split_once(' ').expect("two numbers");
        let (caller, n): (usize, u64) = (caller.parse().unwrap(), n.parse().unwrap());
        assert_eq!(n, next[caller], "caller {caller}: each record once, in the order of its calls");
        next[caller] += 1;
    }
    assert_eq!(next, [RECORDS / 50; 50]);
}

/// Each replica in turn, right after the append, also while one of them is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_reads_its_own_writes_on_every_replica() {
    let mut cluster = Cluster::start(3, "").await;
    let client = client(&cluster);
    client.create_log("mine", false).await.expect("a log");
    client.create_log("other", false).await.expect("a log");
    let mut session = client.session();
    for n in 0..300_u64 {
        session.append("mine", [n.to_string()]).await.expect("an append");
        // Whoever goes on with the token is the same session.
        let cookie = session.token().to_string();
        session = client.resume_session(&cookie.parse().expect("its own text"));
        let at = Endpoint::new(&cluster.url(n as usize % 3)).expect("an address");
        let read = session.read("mine").from_offset(n).at(&at);
        let seen = read.open().await.expect("a read").collect().await.expect("records");
        assert_eq!(seen.len(), 1, "record {n} at {at}");
    }

    // A replica that is away costs the others nothing, and is used again when it is back.
    let away = (cluster.leader().await + 1) % 3;
    cluster.kill(away);
    for n in 300..330_u64 {
        session.append("mine", [n.to_string()]).await.expect("an append");
        let read = session.read("mine").from_offset(n).open().await.expect("a read");
        assert_eq!(read.collect().await.expect("records").len(), 1);
    }
    cluster.run(away);
    let back = Endpoint::new(&cluster.url(away)).expect("an address");
    let began = Instant::now();
    loop {
        let read = session.read("mine").from_offset(329).open().await.expect("a read");
        if *read.endpoint() == back {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "nobody asks {back} any more");
    }

    // Another log's deletion is no business of this one's; its own is.
    session.append("other", ["last"]).await.expect("an append");
    client.delete_log("other", None).await.expect("a deletion");
    session.read("mine").open().await.expect("the session goes on");
    client.delete_log("mine", None).await.expect("a deletion");
    client.create_log("mine", false).await.expect("a new log");
    let refused = session.read("mine").open().await.err().expect("what was seen is gone");
    assert_eq!(refused.kind(), ErrorKind::BadPosition);
}

/// Waits until the log has so many records.
async fn reached(client: &Client, log: &str, records: u64) {
    let mut tailer = client.tail(log).open().await.expect("a tail");
    while tailer.header().next_offset < records {
        tailer.next().await.expect("the tail goes on");
    }
}
