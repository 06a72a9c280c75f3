//! The operators' RPCs.

use std::{sync::Arc, time::Duration};

use quorate_proto::{
    admin::v1::{
        AddLearnerRequest, BatchDigest, BatchDigestsRequest, BatchDigestsResponse,
        ChangeMembersRequest, DigestAtRequest, DigestAtResponse, DiskStatus, ForwardStatus,
        GroupStatus, LogDigest, MarkDigestRequest, MarkDigestResponse, MembersResponse, ReadCount,
        ReplicaProgress, StatusRequest, StatusResponse, TransferLeaderRequest,
        TransferLeaderResponse, TriggerSnapshotRequest, TriggerSnapshotResponse,
        admin_service_server::AdminService,
    },
    v1::Effect,
};
use quorate_state_machine::{
    command::Command,
    outcome::Accepted,
    types::{GroupId, Incarnation, LogIndex, Offset},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    context::{Context, Deadline},
    errors::{self, ApiError},
    members, read,
};
use crate::{log_store::LogStore, raft::group::Role, read::forward::MAX_FORWARDED, runtime};

/// How often a wait for another node's progress looks again.
const POLL: Duration = Duration::from_millis(20);

/// A younger proof of a replica's age is as good as a new one.
const STATUS_AGE: Duration = Duration::from_millis(100);

/// A status says what is, also where no quorum answers.
const STATUS_PATIENCE: Duration = Duration::from_millis(300);

/// Bytes of batches read per message of `BatchDigests`.
const DIGEST_CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// What `Status` says besides the groups.
pub struct NodeFacts {
    /// This disk's identity.
    pub node_uuid: [u8; 16],
    /// Advertised to clients.
    pub client_address: String,
    /// Advertised to peers.
    pub peer_address: String,
    /// Data directory.
    pub data_dir: std::path::PathBuf,
    /// When the process started.
    pub started: runtime::Instant,
}

/// The service.
pub struct Admin {
    /// Shared with the other services.
    pub context: Arc<Context>,
    /// The node's log store.
    pub log_store: LogStore,
    /// Fixed facts.
    pub facts: NodeFacts,
}

impl Admin {
    pub(super) fn group(&self, number: u32) -> Result<GroupId, ApiError> {
        if (number as usize) < self.context.groups.len() {
            return Ok(GroupId(number));
        }
        Err(ApiError::invalid(format!(
            "there is no group {number}; the cluster has groups 0 to {}",
            self.context.groups.len() - 1
        )))
    }

    async fn group_status(&self, id: GroupId) -> Result<GroupStatus, ApiError> {
        let reader = &self.context.sides(id).reader;
        let group = reader.group();
        let v = group.vitals();
        // Nobody may have read for long, and then no age is known that means anything.
        reader.freshener().check(id, STATUS_AGE, STATUS_PATIENCE).await;
        let view = group.view()?;
        let applied = view.applied().unwrap_or_default().index;
        Ok(GroupStatus {
            group: id.0,
            role: read::role(v.role).into(),
            term: v.term.0,
            leader: v.leader.map(errors::hint),
            last_log_index: v.last_log_index.0,
            commit_index: v.commit_index.0,
            applied_index: v.applied_index.0,
            purged_index: v.purged_index.0,
            snapshot_index: v.snapshot_index.0,
            logs: view.log_count(),
            quorum_ack_age_ms: v.quorum_ack_age.map(|age| age.as_millis() as u64),
            progress: v
                .matched
                .into_iter()
                .map(|(node_id, index)| ReplicaProgress { node_id, matched_index: index.0 })
                .collect(),
            digest: view.digest().to_vec().into(),
            voters: v.voters,
            learners: v.learners,
            age_ms: reader.freshener().age(id, applied).map(errors::age_ms),
            worst_age_ms: reader.freshener().worst_age(id).map(errors::age_ms),
            probe_us: reader.freshener().round_trip(id).map(|rtt| rtt.as_micros() as u64),
            members: Some(members::wire(group.members())),
        })
    }

    fn disk(&self) -> DiskStatus {
        let state_bytes = self
            .context
            .groups
            .iter()
            .map(|g| g.reader.group().store().approximate_disk_bytes())
            .sum();
        DiskStatus {
            data_dir: self.facts.data_dir.display().to_string(),
            log_bytes: self.log_store.disk_bytes(),
            state_bytes,
            free_bytes: free_bytes(&self.facts.data_dir),
            durability: self.log_store.durability().to_owned(),
        }
    }

    async fn transfer(
        &self,
        request: TransferLeaderRequest,
        deadline: Deadline,
    ) -> Result<TransferLeaderResponse, ApiError> {
        let id = self.group(request.group)?;
        let group = self.context.sides(id).reader.group();
        let vitals = group.vitals();
        if vitals.role != Role::Leader {
            return Err(ApiError::not_leader(vitals.leader, Effect::None));
        }
        let to = match request.to {
            // The most advanced other voter has the least to catch up on.
            0 => vitals
                .voters
                .iter()
                .filter(|id| **id != self.context.node_id)
                .max_by_key(|id| vitals.matched.get(id).copied())
                .copied()
                .ok_or_else(|| ApiError::invalid("there is no other voter to hand over to"))?,
            to if to == self.context.node_id => {
                return Err(ApiError::invalid(format!("node {to} leads already")));
            }
            to if vitals.voters.contains(&to) => to,
            to => return Err(ApiError::invalid(format!("node {to} is no voter of group {id}"))),
        };
        group.transfer_leadership(to).await.map_err(|why| ApiError::write_lost(&why))?;
        let wait = async {
            loop {
                if let Some(leader) = group.leader().filter(|l| l.id != self.context.node_id) {
                    return Ok(TransferLeaderResponse { leader: Some(errors::hint(leader)) });
                }
                runtime::sleep(POLL).await;
            }
        };
        deadline.run(wait, Effect::Unknown).await
    }

    async fn snapshot(
        &self,
        request: TriggerSnapshotRequest,
        deadline: Deadline,
    ) -> Result<TriggerSnapshotResponse, ApiError> {
        let group = self.context.sides(self.group(request.group)?).reader.group();
        let wanted = group.vitals().applied_index;
        group.trigger_snapshot().await.map_err(|why| ApiError::write_lost(&why))?;
        let wait = async {
            loop {
                let index = group.vitals().snapshot_index;
                if index >= wanted {
                    return Ok(TriggerSnapshotResponse { snapshot_index: index.0 });
                }
                runtime::sleep(POLL).await;
            }
        };
        deadline.run(wait, Effect::Unknown).await
    }

    async fn digest_at(
        &self,
        request: DigestAtRequest,
        deadline: Deadline,
    ) -> Result<DigestAtResponse, ApiError> {
        let group = self.context.sides(self.group(request.group)?).reader.group();
        let index = LogIndex(request.log_index);
        let applied = async {
            match group.wait_applied(index).await {
                true => Ok(()),
                false => Err(ApiError::shutting_down()),
            }
        };
        deadline.run(applied, Effect::None).await?;
        let mark = group.view()?.digest_mark(index)?.ok_or_else(|| {
            ApiError::invalid(format!(
                "no digest was recorded at log index {index} (never marked, or forgotten: \
                 only the newest marks are kept)"
            ))
        })?;
        Ok(DigestAtResponse {
            node_id: self.context.node_id,
            log_index: index.0,
            digest: mark.digest.to_vec().into(),
            logs: mark
                .logs
                .into_iter()
                .map(|log| LogDigest {
                    name: log.name.as_str().to_owned(),
                    incarnation: log.incarnation.0,
                    start_offset: log.start_offset.0,
                    next_offset: log.next_offset.0,
                    digest: log.digest.to_vec().into(),
                })
                .collect(),
        })
    }

    async fn mark(
        &self,
        request: MarkDigestRequest,
        deadline: Deadline,
    ) -> Result<MarkDigestResponse, ApiError> {
        let id = self.group(request.group)?;
        let (outcome, accepted) = self.context.execute(id, Command::MarkDigest, deadline).await?;
        let Accepted::Marked(index) = accepted else {
            unreachable!("a mark command is answered with Marked");
        };
        Ok(MarkDigestResponse { log_index: index.0, term: outcome.at.term.0 })
    }

    fn batch_digests(
        &self,
        request: BatchDigestsRequest,
    ) -> Result<mpsc::Receiver<Result<BatchDigestsResponse, Status>>, ApiError> {
        let group = self.context.sides(self.group(request.group)?).reader.group();
        let view = group.view()?;
        let incarnation = Incarnation(request.incarnation);
        let (mut next, end) = (Offset(request.from_offset), Offset(request.to_offset));
        let (sender, receiver) = mpsc::channel(2);
        runtime::spawn(async move {
            while next < end {
                // Damage is what this RPC is there to find: it reports checksums, computed and
                // stored, and judges nothing.
                let chunk = view.checksums(incarnation, next, end, DIGEST_CHUNK_BYTES);
                let message = match chunk {
                    Ok(batches) if batches.is_empty() => return,
                    Ok(batches) => {
                        let last = batches.last().expect("not empty");
                        next = Offset(last.first_offset.0 + u64::from(last.count));
                        let batches = batches
                            .into_iter()
                            .map(|b| BatchDigest {
                                first_offset: b.first_offset.0,
                                count: b.count,
                                timestamp_ms: b.timestamp.0,
                                computed_crc32c: b.computed_crc32c,
                                stored_crc32c: b.stored_crc32c,
                            })
                            .collect();
                        Ok(BatchDigestsResponse { batches })
                    }
                    Err(error) => Err(ApiError::from(error).into_status()),
                };
                let failed = message.is_err();
                if sender.send(message).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}

/// Free bytes of the file system that holds `path`; 0 if it can't be told.
fn free_bytes(path: &std::path::Path) -> u64 {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return 0 };
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` is a valid C string and `stat` is large enough for the call to fill.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return 0;
    }
    // SAFETY: the call succeeded, so it filled `stat` (which was zeroed before).
    let stat = unsafe { stat.assume_init() };
    stat.f_bavail * stat.f_frsize
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let ids = (0..self.context.groups.len() as u32).map(GroupId);
        // All at once: their proofs come with one probe.
        let groups = futures::future::try_join_all(ids.map(|id| self.group_status(id))).await?;
        let forward = self.context.forwarder.limits();
        let reads = self.context.metrics.reads().into_iter();
        Ok(Response::new(StatusResponse {
            cluster_id: bytes::Bytes::copy_from_slice(&self.context.cluster),
            node_id: self.context.node_id,
            node_uuid: bytes::Bytes::copy_from_slice(&self.facts.node_uuid),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: self.facts.started.elapsed().as_millis() as u64,
            client_address: self.facts.client_address.clone(),
            peer_address: self.facts.peer_address.clone(),
            out_of_service: String::new(),
            groups,
            disk: Some(self.disk()),
            inflight_bytes: self.context.admission.in_flight_bytes(),
            inflight_limit_bytes: self.context.admission.limit_bytes(),
            forward: Some(ForwardStatus {
                in_flight: forward.in_flight() as u64,
                limit: MAX_FORWARDED as u64,
                breaker_open: forward.is_open(),
            }),
            reads: reads
                .map(|(level, outcome, count)| ReadCount {
                    level: level.to_owned(),
                    outcome: outcome.to_owned(),
                    count,
                })
                .collect(),
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.transfer(request.into_inner(), deadline).await?))
    }

    async fn add_learner(
        &self,
        request: Request<AddLearnerRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.take_in(request.into_inner(), deadline).await?))
    }

    async fn change_members(
        &self,
        request: Request<ChangeMembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.reshape(request.into_inner(), deadline).await?))
    }

    async fn trigger_snapshot(
        &self,
        request: Request<TriggerSnapshotRequest>,
    ) -> Result<Response<TriggerSnapshotResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.snapshot(request.into_inner(), deadline).await?))
    }

    async fn mark_digest(
        &self,
        request: Request<MarkDigestRequest>,
    ) -> Result<Response<MarkDigestResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.mark(request.into_inner(), deadline).await?))
    }

    async fn digest_at(
        &self,
        request: Request<DigestAtRequest>,
    ) -> Result<Response<DigestAtResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(Admin::digest_at(self, request.into_inner(), deadline).await?))
    }

    type BatchDigestsStream = ReceiverStream<Result<BatchDigestsResponse, Status>>;

    async fn batch_digests(
        &self,
        request: Request<BatchDigestsRequest>,
    ) -> Result<Response<Self::BatchDigestsStream>, Status> {
        let receiver = Admin::batch_digests(self, request.into_inner())?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
