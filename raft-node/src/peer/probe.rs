//! Read probes, the calling side: one request asks a peer for read indexes of several groups.

use std::time::Duration;

use quorate_proto::raft::v1::{self as pb, control_frame::Request, control_reply_frame::Reply};

use super::{
    client::{CallError, PeerClient},
    handler::{ReadIndex, ReadRefusal},
    transport::PeerAddress,
    wire::WireError,
};

/// How long a probe is waited for.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// How long the called side waits for a group's quorum, so that its answer about the other groups
/// still arrives in time.
pub(super) const ROUND_WITHIN: Duration = Duration::from_millis(500);

/// What a peer says about one group.
pub type ProbeAnswer = (u32, Result<ReadIndex, ReadRefusal>);

impl PeerClient {
    /// Asks `to` for read indexes. `nonce` must be new: an answer with another one is refused, so
    /// that no old answer can be taken for this one's.
    ///
    /// # Errors
    /// [`CallError`]; nothing is proven then.
    pub async fn probe(
        &self,
        to: &PeerAddress,
        nonce: u64,
        groups: Vec<u32>,
        timeout: Duration,
    ) -> Result<Vec<ProbeAnswer>, CallError> {
        let asked = groups.clone();
        let group = groups.first().copied().unwrap_or_default();
        let request = Request::ReadProbe(pb::ReadProbe { nonce, groups });
        let reply = match self.control(to, group, request, timeout).await? {
            Reply::ReadProbe(reply) if reply.nonce == nonce => reply,
            Reply::ReadProbe(_) => {
                return Err(self.malformed(to, WireError::Missing("ReadProbeReply.nonce")));
            }
            _ => return Err(self.malformed(to, WireError::Missing("ReadProbeReply"))),
        };
        Ok(reply
            .groups
            .into_iter()
            .filter(|answer| asked.contains(&answer.group))
            .map(|answer| {
                let result = if answer.refused.is_empty() {
                    Ok(ReadIndex { term: answer.term, read_index: answer.read_index })
                } else {
                    let leader = (answer.leader != 0).then_some(answer.leader);
                    Err(ReadRefusal { message: answer.refused, leader })
                };
                (answer.group, result)
            })
            .collect())
    }
}
