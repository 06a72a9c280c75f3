//! Three nodes over one state, and the script of their faults.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use prost::Message;
use quorate_client::{Client, ClientBuilder, Endpoint, RetryPolicy};
use quorate_proto::{
    v1::log_service_server::LogServiceServer,
    v1::{Effect, ErrorDetail, ErrorKind, LeaderHint},
};
use tokio::sync::watch;
use tonic::{Code, Status, transport::server::TcpIncoming};

use crate::{
    service::{Node, lane::Lane},
    state::{State, detail},
};

/// What goes wrong with one append.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The connection breaks before it is applied; it, and what follows on the stream, may still
    /// be applied `late` appends later.
    CutBefore { late: Option<u64> },
    /// It is applied, then the connection breaks.
    CutAfter,
    /// Refused without effect, on the stream, which goes on.
    Busy,
    /// Not the leader any more, nothing happened.
    Moved,
    /// The leader was deposed: unknown, and it was applied or not.
    Deposed { applied: bool },
    /// The stream's answers stop coming, although all is applied.
    Mute,
    /// A final refusal.
    Refused(ErrorKind),
    /// The stream ends at it, as at one that the node can't read: nothing comes of it, nor of what
    /// follows.
    CannotRead,
}

/// What goes wrong with one message of a read or a tail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReadFault {
    /// The stream breaks instead.
    Cut,
    /// The stream ends without an error instead.
    End,
    /// One byte of it is damaged.
    Damage,
    /// It is sent twice.
    Repeat,
    /// A batch is left out.
    Skip,
}

type Script<F> = Box<dyn FnMut(usize, u64) -> Option<F> + Send>;

pub struct Shared {
    pub state: Mutex<State>,
    /// Bumped with every change of the state.
    pub changed: watch::Sender<u64>,
    pub control: Mutex<Control>,
    /// Apart from the control, so that a script may use that and the state.
    append_script: Mutex<Script<Fault>>,
    read_script: Mutex<Script<ReadFault>>,
}

pub struct Control {
    pub leader: Option<usize>,
    pub addresses: Vec<String>,
    pub down: Vec<bool>,
    appends: u64,
    messages: u64,
    /// Requests of cut streams that arrive later: when (in appends), and what.
    pub late: Vec<(u64, quorate_proto::v1::AppendRequest)>,
    /// RPCs that arrived, by node; each read of a stream of reads counts as one.
    pub calls: Vec<u64>,
    /// What nodes do with streams of reads.
    pub lane: Lane,
    /// Such streams that were asked for, ever; and how many reads came in each request.
    pub lanes: u64,
    pub packed: Vec<usize>,
    /// Most bytes and requests that one append stream had unanswered.
    pub most_unanswered: (usize, usize),
    /// Appends wait while this is set.
    pub hold: watch::Sender<bool>,
}

pub struct Cluster {
    pub shared: Arc<Shared>,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap()
    }

    pub fn bump(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// The next append's fault at node `at`; and applies what is late.
    pub fn append_fault(&self, at: usize) -> Option<Fault> {
        let (now, due) = {
            let mut control = self.control();
            control.appends += 1;
            let now = control.appends;
            let late = std::mem::take(&mut control.late);
            let (due, later): (Vec<_>, _) = late.into_iter().partition(|l| l.0 <= now);
            control.late = later;
            (now, due)
        };
        let fault = self.append_script.lock().unwrap()(at, now);
        for (_, request) in due {
            let _ = self.state().append(&request);
            self.bump();
        }
        fault
    }

    pub fn read_fault(&self, at: usize) -> Option<ReadFault> {
        let now = {
            let mut control = self.control();
            control.messages += 1;
            control.messages
        };
        self.read_script.lock().unwrap()(at, now)
    }

    /// Refuses when node `at` is down or does not lead.
    pub fn check_leader(&self, at: usize) -> Result<(), ErrorDetail> {
        if self.control().leader == Some(at) { Ok(()) } else { Err(self.not_leader(Effect::None)) }
    }

    pub fn not_leader(&self, effect: Effect) -> ErrorDetail {
        ErrorDetail { leader: self.hint(), ..detail(ErrorKind::NotLeader, true, effect) }
    }

    pub fn hint(&self) -> Option<LeaderHint> {
        let term = self.state().term;
        let control = self.control();
        let leader = control.leader?;
        let address = format!("http://{}", control.addresses[leader]);
        Some(LeaderHint { node_id: leader as u64 + 1, address, term })
    }

    pub fn check_up(&self, at: usize) -> Result<(), Status> {
        let mut control = self.control();
        control.calls[at] += 1;
        if control.down[at] { Err(Status::unavailable("this node is down")) } else { Ok(()) }
    }

    /// Leadership goes to the next node that is up.
    pub fn move_leader(&self) {
        self.state().term += 1;
        let mut control = self.control();
        let nodes = control.addresses.len();
        let from = control.leader.unwrap_or(0);
        control.leader = (1..=nodes).map(|n| (from + n) % nodes).find(|n| !control.down[*n]);
    }
}

pub fn status(detail: ErrorDetail) -> Status {
    let code = match detail.kind() {
        ErrorKind::Invalid => Code::InvalidArgument,
        _ => Code::Unavailable,
    };
    let packed = tonic_types::pb::Status {
        code: code as i32,
        message: detail.message.clone(),
        details: vec![prost_types::Any {
            type_url: "type.googleapis.com/quorate.v1.ErrorDetail".to_owned(),
            value: detail.encode_to_vec(),
        }],
    };
    Status::with_details(code, detail.message, packed.encode_to_vec().into())
}

impl Cluster {
    /// Three nodes, the first one leads; log "l" exists.
    pub async fn start() -> Self {
        let listeners =
            futures::future::join_all((0..3).map(|_| tokio::net::TcpListener::bind("127.0.0.1:0")))
                .await;
        let listeners: Vec<_> = listeners.into_iter().map(Result::unwrap).collect();
        let addresses = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
        let mut state = State { term: 1, ..State::default() };
        state.create("l");
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            control: Mutex::new(Control {
                leader: Some(0),
                addresses,
                down: vec![false; 3],
                appends: 0,
                messages: 0,
                late: Vec::new(),
                calls: vec![0; 3],
                lane: Lane::default(),
                lanes: 0,
                packed: Vec::new(),
                most_unanswered: (0, 0),
                hold: watch::Sender::new(false),
            }),
            append_script: Mutex::new(Box::new(|_, _| None)),
            read_script: Mutex::new(Box::new(|_, _| None)),
        });
        for (at, listener) in listeners.into_iter().enumerate() {
            let node = LogServiceServer::new(Node { at, shared: shared.clone() })
                .max_decoding_message_size(16 << 20);
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            tokio::spawn(
                tonic::transport::Server::builder().add_service(node).serve_with_incoming(incoming),
            );
        }
        Self { shared }
    }

    pub fn endpoint(&self, at: usize) -> Endpoint {
        Endpoint::new(&self.shared.control().addresses[at]).unwrap()
    }

    pub fn builder(&self) -> ClientBuilder {
        let quick = RetryPolicy {
            initial_backoff: Duration::from_millis(1),
            max_backoff: Duration::from_millis(20),
        };
        Client::builder().endpoints(self.shared.control().addresses.clone()).retry(quick)
    }

    pub fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    /// Decides, for each write that reaches the leader (its number from 1), what goes wrong.
    pub fn on_append(&self, script: impl FnMut(usize, u64) -> Option<Fault> + Send + 'static) {
        *self.shared.append_script.lock().unwrap() = Box::new(script);
    }

    /// The same for each message of a read or tail.
    pub fn on_read(&self, script: impl FnMut(usize, u64) -> Option<ReadFault> + Send + 'static) {
        *self.shared.read_script.lock().unwrap() = Box::new(script);
    }

    pub fn appends(&self) -> u64 {
        self.shared.control().appends
    }

    pub fn values(&self) -> Vec<String> {
        self.shared.state().logs["l"].values()
    }

    /// Puts records "0" to "n-1" into log "l", `per_batch` a batch.
    pub fn fill(&self, n: u64, per_batch: u64) {
        let mut at = self.shared.state().logs["l"].next;
        let end = at + n;
        while at < end {
            let values = (at..end.min(at + per_batch)).map(|n| n.to_string());
            let batch = quorate_client::Batch::of(values).unwrap();
            let part = quorate_proto::v1::AppendPart {
                log: "l".to_owned(),
                batch: batch.bytes().clone(),
                batch_crc32c: Some(batch.crc32c()),
                ..Default::default()
            };
            let request = quorate_proto::v1::AppendRequest { part: Some(part), ack: 0 };
            self.shared.state().append(&request).unwrap();
            at += u64::from(batch.record_count());
        }
        self.shared.bump();
    }

    /// Waits until `condition` holds of the cluster.
    pub async fn until(&self, what: &str, condition: impl Fn(&Shared) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            while !condition(&self.shared) {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect(what);
    }
}
