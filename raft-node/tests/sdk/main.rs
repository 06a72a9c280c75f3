//! The Rust client against three real nodes: its examples do what they say, and its producers keep
//! every record once and in order while leaders die.

#[path = "../service/cluster.rs"]
#[allow(dead_code, reason = "shared with the service's tests, which use more of it")]
mod cluster;

use cluster::Cluster;
use quorate_client::Client;

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
}

fn client(cluster: &Cluster) -> Client {
    let nodes = (0..3).map(|n| cluster.url(n));
    let timeout = std::time::Duration::from_secs(60);
    Client::builder().endpoints(nodes).request_timeout(timeout).build().expect("three addresses")
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

/// Waits until the log has so many records.
async fn reached(client: &Client, log: &str, records: u64) {
    let mut tailer = client.tail(log).open().await.expect("a tail");
    while tailer.header().next_offset < records {
        tailer.next().await.expect("the tail goes on");
    }
}
