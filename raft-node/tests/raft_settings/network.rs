//! The real transport with a switch for each direction, and a note of every vote that was asked for.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, future, stream, stream::BoxStream};
use quorate_proto::raft::v1::{self as pb, control_frame::Request, control_reply_frame::Reply};
use quorate_raft_node::{
    peer::{
        grpc::GrpcTransport,
        transport::{PeerAddress, PeerTransport, TransportError},
    },
    raft::types::NodeId,
};

/// What a direction lets through: calls, and their answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passes {
    #[default]
    All,
    /// Elections, but nothing that a leader sends.
    Votes,
    /// Calls arrive, and nothing comes back.
    Unanswered,
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Vote,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// A request for a vote, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    pub candidate: NodeId,
    pub voter: NodeId,
    pub term: u64,
    pub pre_vote: bool,
    /// `None`: no answer.
    pub granted: Option<bool>,
}

#[derive(Default)]
struct State {
    /// By (caller, called).
    passes: HashMap<(NodeId, NodeId), Passes>,
    ballots: Vec<Ballot>,
}

/// All links of a cluster.
#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<State>>);

impl Network {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what calls of `from` to `to` may carry.
    pub fn set(&self, from: NodeId, to: NodeId, passes: Passes) {
        self.state().passes.insert((from, to), passes);
    }

    /// Sets both directions.
    pub fn set_both(&self, a: NodeId, b: NodeId, passes: Passes) {
        self.set(a, b, passes);
        self.set(b, a, passes);
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.state().passes.clear();
    }

    /// Every request for a vote so far that got its answer or failed.
    pub fn ballots(&self) -> Vec<Ballot> {
        self.state().ballots.clone()
    }

    fn passes(&self, link: (NodeId, NodeId), what: What, way: Way) -> bool {
        match self.state().passes.get(&link).copied().unwrap_or_default() {
            Passes::All => true,
            Passes::Votes => what == What::Vote,
            Passes::Unanswered => way == Way::There,
            Passes::Nothing => false,
        }
    }
}

fn cut() -> TransportError {
    TransportError::Unreachable("the link is cut".to_owned())
}

/// One node's side.
pub struct SwitchedTransport {
    inner: GrpcTransport,
    me: NodeId,
    network: Network,
}

impl SwitchedTransport {
    pub fn new(inner: GrpcTransport, me: NodeId, network: Network) -> Self {
        Self { inner, me, network }
    }

    fn check(&self, to: &PeerAddress, what: What, way: Way) -> Result<(), TransportError> {
        if self.network.passes((self.me, to.node_id), what, way) { Ok(()) } else { Err(cut()) }
    }
}

/// An election's request carries its term and whether it is only a question.
fn election(frame: &pb::ControlFrame) -> Option<(u64, bool)> {
    let term = |r: &pb::VoteRequest| r.vote.map_or(0, |vote| vote.term);
    match frame.request.as_ref()? {
        Request::Vote(request) => Some((term(request), false)),
        Request::PreVote(request) => Some((term(request), true)),
        _ => None,
    }
}

#[async_trait]
impl PeerTransport for SwitchedTransport {
    async fn hello(
        &self,
        to: &PeerAddress,
        request: pb::HelloRequest,
        timeout: Duration,
    ) -> Result<pb::HelloResponse, TransportError> {
        // Says nothing about Raft; let through always, so that no election is given up before its
        // request for a vote is seen here.
        self.inner.hello(to, request, timeout).await
    }

    async fn control(
        &self,
        to: &PeerAddress,
        frame: pb::ControlFrame,
        timeout: Duration,
    ) -> Result<pb::ControlReplyFrame, TransportError> {
        let election = election(&frame);
        let what = if election.is_some() { What::Vote } else { What::Other };
        let call = async {
            self.check(to, what, Way::There)?;
            let reply = self.inner.control(to, frame, timeout).await?;
            self.check(to, what, Way::Back)?;
            Ok(reply)
        };
        let answer = call.await;
        if let Some((term, pre_vote)) = election {
            let granted = match answer.as_ref().map(|answer| &answer.reply) {
                Ok(Some(Reply::Vote(reply))) => Some(reply.granted),
                _ => None,
            };
            let (candidate, voter) = (self.me, to.node_id);
            let ballot = Ballot { candidate, voter, term, pre_vote, granted };
            self.network.state().ballots.push(ballot);
        }
        answer
    }

    fn append(
        &self,
        to: &PeerAddress,
        group: u32,
        frames: BoxStream<'static, pb::AppendFrame>,
    ) -> BoxStream<'static, Result<pb::AppendReplyFrame, TransportError>> {
        if let Err(error) = self.check(to, What::Other, Way::There) {
            return stream::once(future::ready(Err(error))).boxed();
        }
        let (network, link) = (self.network.clone(), (self.me, to.node_id));
        let open = move |way| network.passes(link, What::Other, way);
        // A frame was taken and not sent: the caller must hear of it.
        let dropped = Arc::new(AtomicBool::new(false));
        let (note, still_open) = (dropped.clone(), open.clone());
        let frames = frames.take_while(move |_| {
            let open = still_open(Way::There);
            note.fetch_or(!open, Ordering::AcqRel);
            future::ready(open)
        });
        let replies = self.inner.append(to, group, frames.boxed());
        let replies = replies.map(move |reply| if open(Way::Back) { reply } else { Err(cut()) });
        let end = stream::iter([()]).filter_map(move |()| {
            future::ready(dropped.load(Ordering::Acquire).then(|| Err(cut())))
        });
        replies.chain(end).boxed()
    }

    async fn snapshot(
        &self,
        to: &PeerAddress,
        frames: BoxStream<'static, pb::SnapshotFrame>,
        timeout: Duration,
    ) -> Result<BoxStream<'static, Result<pb::SnapshotReplyFrame, TransportError>>, TransportError>
    {
        self.check(to, What::Other, Way::There)?;
        self.inner.snapshot(to, frames, timeout).await
    }
}
