//! The calling side's view of its peers: introduces this node, checks who answers, keeps the list
//! of refusals. Everything that calls a peer goes through here.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use quorate_proto::raft::v1 as pb;

use super::{
    book::{BookError, PeerBook},
    endpoint::pin,
    handler::PeerHost,
    identity::{LocalIdentity, Mismatch, check, check_addressing},
    options::PeerOptions,
    refusals::{Refusal, Refusals},
    silence::Silence,
    stats::PeerStats,
    transport::{PeerAddress, PeerTransport, TransportError},
    wire::WireError,
};
use crate::{raft::types::NodeId, runtime};

/// A peer was called in vain. Whether the call took effect there is unknown, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It was not delivered or not answered.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The peer does not accept this node; no effect. Also reported through [`Refusals`].
    #[error("node {by} at {address} refuses this node: {message}")]
    Refused {
        /// The peer.
        by: NodeId,
        /// Where it was called.
        address: String,
        /// The peer's reason.
        reason: pb::IdentityReason,
        /// Its words.
        message: String,
    },
    /// Whoever answers there is not the peer that was meant. Its answer was not used.
    #[error("whoever answers at {address} is not the node {node} that this node knows: {mismatch}")]
    Impostor {
        /// Who was meant.
        node: NodeId,
        /// Where it was called.
        address: String,
        /// What does not fit.
        mismatch: Mismatch,
    },
    /// The peer answered with an error.
    #[error("node {by} answered: {message}")]
    Remote {
        /// The peer.
        by: NodeId,
        /// The kind of error.
        kind: pb::peer_error::Kind,
        /// Its words.
        message: String,
    },
    /// The peer's answer makes no sense.
    #[error("node {by} sent a malformed answer: {source}")]
    Malformed {
        /// The peer.
        by: NodeId,
        /// What is wrong with it.
        source: WireError,
    },
    /// The peer's disk has lost what the peer had confirmed as durable. It is sent nothing.
    #[error(
        "node {by} had confirmed group {group} up to entry {confirmed}, but has no entry {conflict} \
         now: its disk has lost what was durable, and its votes may be lost too. Stop that node for \
         good, and add a new one with an empty data directory under a node id that was never used"
    )]
    Forgot {
        /// The peer.
        by: NodeId,
        /// The group.
        group: u32,
        /// Up to here it had confirmed.
        confirmed: u64,
        /// This one it lacks.
        conflict: u64,
    },
    /// The peer's disk could not be remembered, so it is not talked to.
    #[error(transparent)]
    Book(BookError),
}

/// What a peer said about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloAnswer {
    /// Its disk.
    pub node_uuid: [u8; 16],
    /// True while its disk holds neither vote nor entry.
    pub fresh: bool,
    /// Its `host:port` for clients.
    pub client_address: String,
    /// True if it had pinned this node's disk before this Hello.
    pub knew_us: bool,
    /// The node ids of the first membership as it is configured.
    pub nodes: Vec<NodeId>,
    /// The groups of which its disk holds neither vote nor entry.
    pub fresh_groups: Vec<u32>,
}

/// See the module. One per node, shared by all groups.
pub struct PeerClient {
    transport: Arc<dyn PeerTransport>,
    me: LocalIdentity,
    book: Arc<PeerBook>,
    host: Arc<dyn PeerHost>,
    options: PeerOptions,
    stats: Arc<PeerStats>,
    refusals: Refusals,
    peers: Mutex<HashMap<PeerAddress, Arc<Peer>>>,
    /// Numbers append sessions. Rising over the life of the process is enough: sessions are
    /// compared within one connection.
    sessions: AtomicU64,
}

/// What is remembered of a peer at one address.
#[derive(Default)]
struct Peer {
    /// A Hello was exchanged and both sides accepted.
    greeted: AtomicBool,
    /// Callers that find it not greeted wait for the one Hello under way.
    greeting: tokio::sync::Mutex<()>,
    silence: Silence,
}

impl PeerClient {
    /// A client that calls through `transport` as `me`.
    #[must_use]
    pub fn new(
        transport: Arc<dyn PeerTransport>,
        me: LocalIdentity,
        book: Arc<PeerBook>,
        host: Arc<dyn PeerHost>,
        options: PeerOptions,
        stats: Arc<PeerStats>,
    ) -> Self {
        Self {
            transport,
            me,
            book,
            host,
            options,
            stats,
            refusals: Refusals::default(),
            peers: Mutex::default(),
            sessions: AtomicU64::new(1),
        }
    }

    /// Who refuses this node. The node must stop when an entry says so ([`Refusal::must_stop`]).
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    pub(super) fn me(&self) -> &LocalIdentity {
        &self.me
    }

    pub(super) fn options(&self) -> &PeerOptions {
        &self.options
    }

    pub(super) fn stats(&self) -> &PeerStats {
        &self.stats
    }

    pub(super) fn transport(&self) -> &dyn PeerTransport {
        &*self.transport
    }

    pub(super) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// Says Hello, whether or not it was said before. Pins the peer's disk if it is the first time.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::Refused`] if the peer does not accept this node.
    pub async fn hello(
        &self,
        to: &PeerAddress,
        timeout: Duration,
    ) -> Result<HelloAnswer, CallError> {
        let request = pb::HelloRequest {
            identity: Some(self.me.frame(to.node_id, 0)),
            groups: self.me.groups,
            fresh: self.host.fresh(),
            peer_address: self.host.peer_address(),
            client_address: self.host.client_address(),
        };
        let answer = self.transport.hello(to, request, timeout).await?;
        if !answer.refused.is_empty() {
            return Err(self.refused(to, answer.reason(), answer.refused));
        }
        let impostor = |mismatch| self.impostor(to, mismatch);
        let identity =
            answer.identity.as_ref().ok_or_else(|| impostor(Mismatch::Malformed("identity")))?;
        let node_uuid = check_addressing(&self.me, identity).map_err(impostor)?;
        self.check_answerer(to, identity.from)?;
        match pin(&self.book, to.node_id, node_uuid, self.me.node_id).await {
            Ok(()) => {}
            Err(BookError::Mismatch(mismatch)) => return Err(impostor(mismatch)),
            Err(error) => return Err(CallError::Book(error)),
        }
        self.refusals.clear(to.node_id);
        self.peer(to).greeted.store(true, Ordering::Release);
        Ok(HelloAnswer {
            node_uuid,
            fresh: answer.fresh,
            client_address: answer.client_address,
            knew_us: !answer.known_uuid.is_empty(),
            nodes: answer.nodes,
            fresh_groups: answer.fresh_groups,
        })
    }

    /// Makes sure that both sides know each other before the first frame. Free afterwards.
    ///
    /// # Errors
    /// As [`Self::hello`].
    pub(super) async fn greet(&self, to: &PeerAddress, timeout: Duration) -> Result<(), CallError> {
        let peer = self.peer(to);
        if peer.greeted.load(Ordering::Acquire) {
            return Ok(());
        }
        let greeting = async {
            let _one = peer.greeting.lock().await;
            if peer.greeted.load(Ordering::Acquire) {
                return Ok(());
            }
            self.hello(to, timeout).await.map(|_| ())
        };
        // The others' Hellos may each take a while; this caller has its own limit.
        match runtime::timeout(timeout, greeting).await {
            Ok(result) => result,
            Err(_) => Err(TransportError::Timeout(timeout).into()),
        }
    }

    /// One request on the control lane.
    ///
    /// # Errors
    /// [`CallError`]; an error frame is an error too.
    pub(super) async fn control(
        &self,
        to: &PeerAddress,
        group: u32,
        request: pb::control_frame::Request,
        timeout: Duration,
    ) -> Result<pb::control_reply_frame::Reply, CallError> {
        let answer = self.try_control(to, group, request, timeout).await;
        self.note(to, answer.as_ref().err());
        answer
    }

    async fn try_control(
        &self,
        to: &PeerAddress,
        group: u32,
        request: pb::control_frame::Request,
        timeout: Duration,
    ) -> Result<pb::control_reply_frame::Reply, CallError> {
        self.greet(to, timeout).await?;
        let identity = Some(self.me.frame(to.node_id, group));
        let frame = pb::ControlFrame { identity, seq: 0, request: Some(request) };
        let answer = self.transport.control(to, frame, timeout).await.inspect_err(|e| {
            if matches!(e, TransportError::Timeout(_)) {
                PeerStats::count(&self.stats.timeouts);
            }
        })?;
        self.check_reply(to, answer.identity.as_ref())?;
        match answer.reply {
            Some(pb::control_reply_frame::Reply::Error(error)) => Err(self.remote(to, error)),
            Some(reply) => Ok(reply),
            None => Err(self.malformed(to, WireError::Missing("ControlReplyFrame.reply"))),
        }
    }

    /// Whether the last call on the control lane failed.
    pub(super) fn is_silent(&self, to: &PeerAddress) -> bool {
        self.peer(to).silence.lasts()
    }

    /// Tells the operator when a peer falls silent, and when it is back. Heartbeats, votes and
    /// probes all come by here, so that one line stands for all that fails meanwhile.
    fn note(&self, to: &PeerAddress, error: Option<&CallError>) {
        let peer = self.peer(to);
        let (id, address) = (to.node_id, &to.address);
        if let Some(CallError::Transport(error)) = error {
            if let Some(silent) = peer.silence.failed() {
                let silent_s = silent.as_secs();
                tracing::warn!(peer = id, %address, silent_s, "a peer does not answer: {error}");
            }
        } else if let Some(silent) = peer.silence.answered() {
            let silent_s = silent.as_secs();
            tracing::info!(peer = id, %address, silent_s, "a peer answers again");
        }
    }

    /// Checks that an answer comes from the node that was asked, on the disk it is known with.
    pub(super) fn check_reply(
        &self,
        to: &PeerAddress,
        identity: Option<&pb::Identity>,
    ) -> Result<(), CallError> {
        let from = check(&self.me, &self.book, identity).map_err(|m| self.impostor(to, m))?;
        self.check_answerer(to, from)
    }

    fn check_answerer(&self, to: &PeerAddress, from: NodeId) -> Result<(), CallError> {
        if from == to.node_id {
            return Ok(());
        }
        Err(self.impostor(to, Mismatch::WrongTarget { target: to.node_id, me: from }))
    }

    /// Turns an error frame into an error, and draws the consequences.
    pub(super) fn remote(&self, to: &PeerAddress, error: pb::PeerError) -> CallError {
        match error.kind() {
            pb::peer_error::Kind::Identity => self.refused(to, error.reason(), error.message),
            kind => {
                if kind == pb::peer_error::Kind::HelloFirst {
                    self.peer(to).greeted.store(false, Ordering::Release);
                }
                CallError::Remote { by: to.node_id, kind, message: error.message }
            }
        }
    }

    pub(super) fn malformed(&self, to: &PeerAddress, source: WireError) -> CallError {
        tracing::error!(peer = to.node_id, address = %to.address, "malformed answer: {source}");
        CallError::Malformed { by: to.node_id, source }
    }

    fn refused(&self, to: &PeerAddress, reason: pb::IdentityReason, message: String) -> CallError {
        self.peer(to).greeted.store(false, Ordering::Release);
        let address = to.address.clone();
        let refusal = Refusal { address: address.clone(), reason, message: message.clone() };
        self.refusals.record(to.node_id, refusal);
        CallError::Refused { by: to.node_id, address, reason, message }
    }

    fn impostor(&self, to: &PeerAddress, mismatch: Mismatch) -> CallError {
        self.peer(to).greeted.store(false, Ordering::Release);
        tracing::error!(peer = to.node_id, address = %to.address, "not the known node: {mismatch}");
        CallError::Impostor { node: to.node_id, address: to.address.clone(), mismatch }
    }

    fn peer(&self, to: &PeerAddress) -> Arc<Peer> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(to) {
            return peer.clone();
        }
        // A node has one address at a time; an old one would stay for ever.
        peers.retain(|known, _| known.node_id != to.node_id);
        peers.entry(to.clone()).or_default().clone()
    }
}
