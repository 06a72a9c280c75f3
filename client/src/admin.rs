//! What operators ask of one node. Nothing here is redirected or repeated: the answer is that
//! node's.

use quorate_proto::admin::v1 as wire;

pub use quorate_proto::admin::v1::{
    BatchDigest, DigestAtResponse, DiskStatus, GroupStatus, LogDigest, MarkDigestResponse, Member,
    Members, ReplicaProgress, StatusResponse,
};

use crate::{
    client::Client,
    errors::{Leader, Result},
    transport::{Answers, Endpoint},
};

/// One node's operators' API; from [`Client::admin`].
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
    endpoint: Endpoint,
}

impl Client {
    /// The operators' API of one node. Calls take [`Client::timeout`] at most.
    #[must_use]
    pub fn admin(&self, endpoint: &Endpoint) -> Admin {
        Admin { client: self.clone(), endpoint: endpoint.clone() }
    }
}

macro_rules! ask {
    ($admin:ident . $rpc:ident ( $request:expr )) => {
        $admin
            .client
            .shared
            .transport
            .$rpc(&$admin.endpoint, $request, $admin.client.timeout())
            .await
    };
}

impl Admin {
    /// The node.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What the node is doing, group by group.
    ///
    /// # Errors
    /// The node can't be reached.
    pub async fn status(&self) -> Result<StatusResponse> {
        ask!(self.status(wire::StatusRequest {}))
    }

    /// Asks the node, which must lead `group`, to hand its leadership to the voter `to` (`None`:
    /// the most advanced one). Returns the new leader, when the node knows its address.
    ///
    /// # Errors
    /// [`NotLeader`](crate::ErrorKind::NotLeader);
    /// [`Deadline`](crate::ErrorKind::Deadline) with unknown effect when it takes too long.
    pub async fn transfer_leader(&self, group: u32, to: Option<u64>) -> Result<Option<Leader>> {
        let request = wire::TransferLeaderRequest { group, to: to.unwrap_or(0) };
        let answer = ask!(self.transfer_leader(request))?;
        Ok(answer.leader.and_then(Leader::from_wire))
    }

    /// Takes a new node into `group` as a learner, through the node, which must lead the group.
    /// Returns the members. Asking for a learner that is there does nothing.
    ///
    /// # Errors
    /// [`NotLeader`](crate::ErrorKind::NotLeader); [`Invalid`](crate::ErrorKind::Invalid) if the id
    /// or an address belongs to another member.
    pub async fn add_learner(
        &self,
        group: u32,
        node: u64,
        peer: &str,
        client: &str,
    ) -> Result<Members> {
        let request = wire::AddLearnerRequest {
            group,
            node_id: node,
            peer_address: peer.to_owned(),
            client_address: client.to_owned(),
        };
        Ok(ask!(self.add_learner(request))?.members.unwrap_or_default())
    }

    /// Gives learners a vote and takes members out of `group`, in one change, through the node,
    /// which must lead the group; with `if_log_index` only if the members are still those of that
    /// [`Members::log_index`]. Returns the members. Asking for what is so already does nothing.
    ///
    /// # Errors
    /// [`NotLeader`](crate::ErrorKind::NotLeader); [`Invalid`](crate::ErrorKind::Invalid) with the
    /// reason if the group could stand still afterwards, or the members are others by now;
    /// [`Unavailable`](crate::ErrorKind::Unavailable) with unknown effect when the leadership is
    /// lost half-way: asking again then completes the change.
    pub async fn change_members(
        &self,
        group: u32,
        promote: &[u64],
        remove: &[u64],
        if_log_index: Option<u64>,
    ) -> Result<Members> {
        let request = wire::ChangeMembersRequest {
            group,
            promote: promote.to_vec(),
            remove: remove.to_vec(),
            if_log_index,
        };
        Ok(ask!(self.change_members(request))?.members.unwrap_or_default())
    }

    /// Builds a snapshot of `group` on the node now. Returns its log index.
    ///
    /// # Errors
    /// It could not be built.
    pub async fn trigger_snapshot(&self, group: u32) -> Result<u64> {
        Ok(ask!(self.trigger_snapshot(wire::TriggerSnapshotRequest { group }))?.snapshot_index)
    }

    /// Replicates a marker, through the node, which must lead `group`: every replica records its
    /// digest there. Ask for it with [`Self::digest_at`].
    ///
    /// # Errors
    /// [`NotLeader`](crate::ErrorKind::NotLeader).
    pub async fn mark_digest(&self, group: u32) -> Result<MarkDigestResponse> {
        ask!(self.mark_digest(wire::MarkDigestRequest { group }))
    }

    /// This replica's digest at a marker. Waits until the marker is applied here.
    ///
    /// # Errors
    /// [`Deadline`](crate::ErrorKind::Deadline); a marker that is unknown or forgotten.
    pub async fn digest_at(&self, group: u32, log_index: u64) -> Result<DigestAtResponse> {
        ask!(self.digest_at(wire::DigestAtRequest { group, log_index }))
    }

    /// Checksums of the batches of one log on this replica, read back from its disk: those that
    /// hold offsets from `from_offset` (inclusive) to `to_offset` (exclusive).
    ///
    /// # Errors
    /// The node can't be reached; the log or its incarnation is not there. Later errors come in
    /// the stream, which then ends.
    pub async fn batch_digests(
        &self,
        group: u32,
        log: &str,
        incarnation: u64,
        from_offset: u64,
        to_offset: u64,
    ) -> Result<Answers<wire::BatchDigestsResponse>> {
        ask!(self.batch_digests(wire::BatchDigestsRequest {
            group,
            log: log.to_owned(),
            incarnation,
            from_offset,
            to_offset,
        }))
    }
}
