//! The endpoint over a real socket.

use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use quorate_state_machine::types::{GroupId, Term};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

use super::*;
use crate::{
    observe::{
        health::{GroupLag, NotReady},
        metrics::sources::{AdmissionSample, ForwardSample, GroupSample, LogStoreSample},
    },
    peer::stats::PeerStats,
    runtime::Task,
};

#[derive(Default)]
struct Node {
    reasons: Mutex<Vec<NotReady>>,
    leaders: Mutex<Vec<GroupLeader>>,
    lags: Mutex<Vec<GroupLag>>,
    /// Bounds that were asked for.
    bounds: Mutex<Vec<Duration>>,
    peers: PeerStats,
    /// Held by a test to keep a scrape from ending.
    gate: tokio::sync::Mutex<()>,
    scraping: AtomicU32,
    most_scraping: AtomicU32,
}

impl Health for Node {
    fn not_ready(&self) -> Vec<NotReady> {
        self.reasons.lock().unwrap().clone()
    }

    async fn lags(&self, bound: Duration) -> Vec<GroupLag> {
        self.bounds.lock().unwrap().push(bound);
        self.lags.lock().unwrap().clone()
    }

    async fn probation(&self, bound: Duration) -> Vec<GroupLag> {
        self.lags(bound).await
    }

    fn leaders(&self) -> Vec<GroupLeader> {
        self.leaders.lock().unwrap().clone()
    }
}

impl Sources for Node {
    fn groups(&self) -> Vec<GroupSample> {
        Vec::new()
    }

    fn admission(&self) -> AdmissionSample {
        let now = self.scraping.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_scraping.fetch_max(now, Ordering::SeqCst);
        drop(self.gate.blocking_lock());
        self.scraping.fetch_sub(1, Ordering::SeqCst);
        AdmissionSample { in_flight_bytes: 5, limit_bytes: 10 }
    }

    fn forward(&self) -> ForwardSample {
        ForwardSample::default()
    }

    fn log_store(&self) -> LogStoreSample {
        LogStoreSample::default()
    }

    fn peers(&self) -> &PeerStats {
        &self.peers
    }
}

struct Server {
    address: SocketAddr,
    node: Arc<Node>,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    task: Task<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, (stop, stopped)) = (listener.local_addr().unwrap(), oneshot::channel());
        let (node, metrics) = (Arc::new(Node::default()), Arc::new(Metrics::new()));
        let stopped = async { drop(stopped.await) };
        let task = runtime::spawn(serve(listener, metrics.clone(), node.clone(), stopped));
        Self { address, node, metrics, stop, task }
    }

    /// Sends these bytes, gives status code and everything after the status line.
    async fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).expect("a status line").parse().unwrap();
        (status, answer)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, answer) = self.raw(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("headers end");
        (status, body.to_owned())
    }
}

fn leader(group: u32, node: Option<u64>, leads_here: bool) -> GroupLeader {
    GroupLeader {
        group: GroupId(group),
        term: Term(3),
        leader: node.map(|id| (id, format!("127.0.0.1:710{id}"))),
        leads_here,
    }
}

#[tokio::test]
async fn ready_until_somebody_objects() {
    let server = Server::start().await;
    assert_eq!(server.get("/livez").await, (200, "ok\n".into()));
    assert_eq!(server.get("/readyz").await, (200, "ready\n".into()));
    *server.node.reasons.lock().unwrap() = vec![
        NotReady { group: Some(GroupId(1)), why: "knows no leader".into() },
        NotReady { group: None, why: "shutting down".into() },
    ];
    let why = "group 1: knows no leader\nshutting down\n";
    assert_eq!(server.get("/readyz").await, (503, why.into()));
    assert_eq!(server.get("/livez").await, (200, "ok\n".into()), "alive all the same");
}

#[tokio::test]
async fn a_replica_behind_its_bound_is_not_sent_readers() {
    let server = Server::start().await;
    let ms = Duration::from_millis;
    let set = |lags: &[(u64, u64)]| {
        let lag = |(group, &(now, worst)): (usize, &(u64, u64))| GroupLag {
            group: GroupId(group as u32),
            now: Some(ms(now)),
            worst: Some(ms(worst)),
        };
        *server.node.lags.lock().unwrap() = lags.iter().enumerate().map(lag).collect();
    };
    set(&[(5, 5), (499, 700)]);
    assert_eq!(server.get("/readyz?max_lag=500ms").await, (200, "ready\n".into()));
    let why =
        "group 1: is on probation: it was up to 700 ms behind a moment ago, more than 500 ms\n";
    assert_eq!(server.get("/replica?max_lag=500").await, (503, why.into()));
    set(&[(501, 501), (5, 5)]);
    let why = "group 0: is up to 501 ms behind, more than 500 ms\n";
    for path in ["/readyz?max_lag=500ms", "/replica?max_lag=500ms"] {
        assert_eq!(server.get(path).await, (503, why.into()));
    }
    assert_eq!(server.get("/readyz").await.0, 200, "nobody asked");
    // Not a word about leaders: those are no reason against reading.
    *server.node.reasons.lock().unwrap() =
        vec![NotReady { group: Some(GroupId(1)), why: "knows no leader".into() }];
    assert_eq!(server.get("/replica").await, (200, "serve\n".into()));
    server.node.reasons.lock().unwrap().push(NotReady { group: None, why: "shutting down".into() });
    assert_eq!(server.get("/replica?max_lag=1s").await, (503, "shutting down\n".into()));
    let want = [ms(500), ms(500), ms(500), ms(500), DEFAULT_MAX_LAG, ms(1_000)];
    assert_eq!(*server.node.bounds.lock().unwrap(), want);
    for wrong in ["x", "-1", "1.5s", "", "ms", "99999999999"] {
        assert_eq!(server.get(&format!("/replica?max_lag={wrong}")).await.0, 400, "{wrong:?}");
    }
}

#[tokio::test]
async fn who_leads_and_whether_it_is_this_node() {
    let server = Server::start().await;
    let set = |leaders: Vec<GroupLeader>| *server.node.leaders.lock().unwrap() = leaders;
    assert_eq!(server.get("/leader?local=1").await.0, 503, "no groups: leads nothing");

    set(vec![leader(0, Some(1), true), leader(1, None, false)]);
    let json = concat!(
        r#"{"groups":[{"group":0,"term":3,"leader":{"id":1,"client":"127.0.0.1:7101"},"local":true},"#,
        r#"{"group":1,"term":3,"leader":null,"local":false}]}"#,
        "\n"
    );
    assert_eq!(server.get("/leader").await, (200, json.into()));
    assert_eq!(server.get("/leader?local=0").await, (200, json.into()));
    assert_eq!(server.get("/leader?local=1").await, (503, json.into()), "leads one of two");
    assert_eq!(server.get("/leader?local=maybe").await.0, 400);

    set(vec![leader(0, Some(1), true), leader(1, Some(1), true)]);
    assert_eq!(server.get("/leader?local=1").await.0, 200);
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let server = Server::start().await;
    server.metrics.admission_refused();
    let (status, answer) = server.raw("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(status, 200);
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(answer.contains("\nquorate_admission_refused_total 1\n"));
    assert!(answer.contains("\nquorate_admission_in_flight_bytes 5\n"));
    assert!(answer.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_slow_scrape_holds_up_scrapes_and_nothing_else() {
    let server = Server::start().await;
    let scrapes = {
        let _shut = server.node.gate.lock().await;
        let mut scrapes = Vec::new();
        for _ in 0..4 {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            scrapes.push(stream);
        }
        while server.node.scraping.load(Ordering::SeqCst) == 0 {
            assert_eq!(server.get("/livez").await.0, 200);
        }
        assert_eq!(server.get("/readyz").await.0, 200);
        scrapes
    };
    for mut stream in scrapes {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("# EOF\n"));
    }
    assert_eq!(server.node.most_scraping.load(Ordering::SeqCst), 1, "one at a time");
}

#[tokio::test]
async fn anything_else_is_refused() {
    let server = Server::start().await;
    assert_eq!(server.get("/").await.0, 404);
    assert_eq!(server.raw("POST /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.0, 405);
    assert_eq!(server.raw("nonsense\r\n\r\n").await.0, 400);
    // Exactly the limit, so that nothing is left unread that would reset the connection.
    let request = format!("GET /{}", "x".repeat(server::MAX_HEADER_BYTES - "GET /".len()));
    assert_eq!(server.raw(&request).await.0, 431);
}

#[tokio::test]
async fn many_silent_clients_do_not_shut_the_door_for_ever() {
    let server = Server::start().await;
    let mut silent = Vec::new();
    // As many as are served at a time: the probe behind them waits in the kernel's queue.
    for _ in 0..server::MAX_CONNECTIONS {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    // The first one is served, so it is accepted; let go, it makes room.
    let first = &mut silent[0];
    first.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    let probe = server.get("/livez");
    let closing = async {
        first.write_all(b"Host: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        first.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let ((status, _), answer) = tokio::join!(probe, closing);
    assert_eq!(status, 200);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
}

#[tokio::test]
async fn a_silent_connection_is_closed_after_its_limit() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    // It is the only one: this answer says that the connection before it was accepted.
    assert_eq!(server.get("/livez").await.0, 200);
    // From here on nothing is ready but timers, and time jumps to the next one.
    tokio::time::pause();
    let began = runtime::now();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    let took = began.elapsed();
    let limit = server::CONNECTION_LIMIT;
    assert!(took > limit / 2 && took < limit + Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn it_stops_when_told() {
    let server = Server::start().await;
    assert_eq!(server.get("/livez").await.0, 200);
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is free");
}
