//! Who sends a frame and for whom it is meant. Pure: no I/O, no clock.
//!
//! Every frame names the cluster, the sender (replica id and disk uuid), the target and the group.
//! The uuid is what matters most: a replica that comes back under its old id with another disk has
//! forgotten its votes and its log, and could help to elect a leader that lacks acknowledged
//! entries. Its peers know its disk (see [`super::book`]) and refuse it.

use bytes::Bytes;
use quorate_proto::raft::v1 as pb;
use uuid::Uuid;

use super::book::PeerBook;
use crate::raft::types::NodeId;

/// This node, as its disk knows it.
#[derive(Clone, Debug)]
pub struct LocalIdentity {
    /// The cluster.
    pub cluster_id: [u8; 16],
    /// This replica's id.
    pub node_id: NodeId,
    /// Made when the data directory was created; tells disks apart that use the same id.
    pub node_uuid: [u8; 16],
    /// Number of groups, fixed at bootstrap.
    pub groups: u32,
    // Reference-counted copies for the frames.
    cluster_bytes: Bytes,
    uuid_bytes: Bytes,
}

impl LocalIdentity {
    /// Puts the parts together.
    #[must_use]
    pub fn new(cluster_id: [u8; 16], node_id: NodeId, node_uuid: [u8; 16], groups: u32) -> Self {
        Self {
            cluster_id,
            node_id,
            node_uuid,
            groups,
            cluster_bytes: Bytes::copy_from_slice(&cluster_id),
            uuid_bytes: Bytes::copy_from_slice(&node_uuid),
        }
    }

    /// The identity of a frame from here to `target`.
    #[must_use]
    pub fn frame(&self, target: NodeId, group: u32) -> pb::Identity {
        pb::Identity {
            cluster_id: self.cluster_bytes.clone(),
            from_uuid: self.uuid_bytes.clone(),
            from: self.node_id,
            target,
            group,
        }
    }
}

/// Why a frame's identity was not accepted. The text is for the operator of the refused node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Another cluster.
    #[error(
        "cluster id {theirs} is not {ours}, the one of node {me}: either the cluster_id of one of \
         the two configurations is wrong, or an address in it belongs to another cluster"
    )]
    ForeignCluster {
        /// In the frame.
        theirs: Uuid,
        /// Here.
        ours: Uuid,
        /// The judging node.
        me: NodeId,
    },
    /// Meant for somebody else.
    #[error(
        "the message was for node {target}, but this is node {me}: the caller has a wrong peer \
         address for node {target}"
    )]
    WrongTarget {
        /// In the frame.
        target: NodeId,
        /// The judging node.
        me: NodeId,
    },
    /// Two nodes with one id.
    #[error("node id {0} is used by two nodes: give each node its own node_id")]
    DuplicateId(NodeId),
    /// The id came back with another disk.
    #[error(
        "node {node} is known with disk {known}, but now has disk {now}: its data directory was \
         lost, wiped or swapped. A replica that has forgotten its votes must not come back under \
         its old id. Put the original data directory back; or, if it is gone, stop this node for \
         good and add a new one with an empty data directory under a node id that was never used"
    )]
    ReplacedDisk {
        /// The id.
        node: NodeId,
        /// The disk it had when it was first heard of.
        known: Uuid,
        /// The disk in the frame.
        now: Uuid,
    },
    /// No such group.
    #[error("there is no group {group}: node {me} has {groups}")]
    UnknownGroup {
        /// In the frame.
        group: u32,
        /// How many there are here.
        groups: u32,
        /// The judging node.
        me: NodeId,
    },
    /// Set up with different numbers of groups.
    #[error(
        "the caller was set up with {theirs} groups, node {me} with {ours}: the number of groups \
         is fixed when the cluster is created and must be the same in every configuration"
    )]
    GroupCount {
        /// The caller's.
        theirs: u32,
        /// Here.
        ours: u32,
        /// The judging node.
        me: NodeId,
    },
    /// A field is missing or has the wrong length.
    #[error("the message has no valid {0}")]
    Malformed(&'static str),
    /// The book of known nodes is full.
    #[error("node {me} remembers {limit} node ids already, which is the limit")]
    TooManyNodes {
        /// [`super::book::MAX_NODES`].
        limit: usize,
        /// The judging node.
        me: NodeId,
    },
    /// Never heard of. Not a refusal: the caller has to say Hello first.
    #[error("node {0} has not said Hello yet")]
    Stranger(NodeId),
}

impl Mismatch {
    /// The wire's word for it; `None` for [`Mismatch::Stranger`], which is not a refusal.
    #[must_use]
    pub fn reason(&self) -> Option<pb::IdentityReason> {
        use pb::IdentityReason as Reason;
        Some(match self {
            Self::ForeignCluster { .. } => Reason::ForeignCluster,
            Self::WrongTarget { .. } => Reason::WrongTarget,
            Self::DuplicateId(_) => Reason::DuplicateId,
            Self::ReplacedDisk { .. } => Reason::ReplacedDisk,
            Self::UnknownGroup { .. } => Reason::UnknownGroup,
            Self::GroupCount { .. } => Reason::GroupCount,
            Self::Malformed(_) => Reason::Malformed,
            Self::TooManyNodes { .. } => Reason::TooManyNodes,
            Self::Stranger(_) => return None,
        })
    }

    /// As an error frame.
    #[must_use]
    pub fn to_frame(&self) -> pb::PeerError {
        let (kind, reason) = match self.reason() {
            Some(reason) => (pb::peer_error::Kind::Identity, reason),
            None => (pb::peer_error::Kind::HelloFirst, pb::IdentityReason::Unspecified),
        };
        pb::PeerError { kind: kind.into(), message: self.to_string(), reason: reason.into() }
    }
}

/// Sixteen bytes from a frame.
///
/// # Errors
/// [`Mismatch::Malformed`] naming the field.
pub fn sixteen(bytes: &[u8], what: &'static str) -> Result<[u8; 16], Mismatch> {
    bytes.try_into().map_err(|_| Mismatch::Malformed(what))
}

/// Checks everything in an identity except whether the sender's disk is the known one, and returns
/// the sender's uuid.
///
/// # Errors
/// The first [`Mismatch`], cluster first: nothing else means anything across clusters.
pub fn check_addressing(me: &LocalIdentity, frame: &pb::Identity) -> Result<[u8; 16], Mismatch> {
    let cluster = sixteen(&frame.cluster_id, "cluster id")?;
    if cluster != me.cluster_id {
        return Err(Mismatch::ForeignCluster {
            theirs: Uuid::from_bytes(cluster),
            ours: Uuid::from_bytes(me.cluster_id),
            me: me.node_id,
        });
    }
    if frame.target != me.node_id {
        return Err(Mismatch::WrongTarget { target: frame.target, me: me.node_id });
    }
    if frame.from == me.node_id {
        return Err(Mismatch::DuplicateId(me.node_id));
    }
    sixteen(&frame.from_uuid, "node uuid")
}

/// Checks the identity of a frame or of a reply, and returns its sender.
///
/// # Errors
/// The first [`Mismatch`].
pub fn check(
    me: &LocalIdentity,
    book: &PeerBook,
    frame: Option<&pb::Identity>,
) -> Result<NodeId, Mismatch> {
    let frame = frame.ok_or(Mismatch::Malformed("identity"))?;
    let uuid = check_addressing(me, frame)?;
    match book.known(frame.from) {
        None => return Err(Mismatch::Stranger(frame.from)),
        Some(known) if known != uuid => {
            return Err(Mismatch::ReplacedDisk {
                node: frame.from,
                known: Uuid::from_bytes(known),
                now: Uuid::from_bytes(uuid),
            });
        }
        Some(_) => {}
    }
    if frame.group >= me.groups {
        return Err(Mismatch::UnknownGroup {
            group: frame.group,
            groups: me.groups,
            me: me.node_id,
        });
    }
    Ok(frame.from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: [u8; 16] = [7; 16];

    fn node(id: NodeId, disk: u8) -> LocalIdentity {
        LocalIdentity::new(CLUSTER, id, [disk; 16], 2)
    }

    /// Node 1 knows node 2 by disk 2; what does it say to these frames?
    #[test]
    fn identity_matrix() {
        use pb::IdentityReason as Reason;
        type Change = fn(&mut pb::Identity);
        let table: [(&str, Change, Option<Reason>); 9] = [
            (
                "foreign cluster",
                |i| i.cluster_id = vec![8; 16].into(),
                Some(Reason::ForeignCluster),
            ),
            ("short cluster id", |i| i.cluster_id = vec![7; 15].into(), Some(Reason::Malformed)),
            ("for another node", |i| i.target = 3, Some(Reason::WrongTarget)),
            ("my own id", |i| i.from = 1, Some(Reason::DuplicateId)),
            ("wiped disk", |i| i.from_uuid = vec![9; 16].into(), Some(Reason::ReplacedDisk)),
            ("no uuid", |i| i.from_uuid = Bytes::new(), Some(Reason::Malformed)),
            ("unknown group", |i| i.group = 2, Some(Reason::UnknownGroup)),
            // Cluster first: a wiped disk of another cluster is no business of ours.
            (
                "all wrong",
                |i| {
                    i.cluster_id = vec![8; 16].into();
                    i.from_uuid = vec![9; 16].into();
                    i.target = 9;
                },
                Some(Reason::ForeignCluster),
            ),
            ("stranger", |i| i.from = 5, None),
        ];
        let (me, book) = (node(1, 1), PeerBook::in_memory());
        book.pin(2, [2; 16], 1).unwrap();
        assert_eq!(check(&me, &book, Some(&node(2, 2).frame(1, 0))), Ok(2));
        assert_eq!(check(&me, &book, None), Err(Mismatch::Malformed("identity")));
        for (name, change, reason) in table {
            let mut frame = node(2, 2).frame(1, 1);
            change(&mut frame);
            let mismatch = check(&me, &book, Some(&frame)).expect_err(name);
            assert_eq!(mismatch.reason(), reason, "{name}: {mismatch}");
        }
    }

    #[test]
    fn a_replaced_disk_is_told_what_to_do() {
        let (me, book) = (node(1, 1), PeerBook::in_memory());
        book.pin(2, [2; 16], 1).unwrap();
        let text = check(&me, &book, Some(&node(2, 3).frame(1, 0))).unwrap_err().to_string();
        for part in ["node 2", "02020202", "03030303", "original data directory", "never used"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
