//! One question to one node, past the SDK's routing: a test wants to know what *this* node says.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use quorate_jepsen_core::{
    ids::{Epoch, Incarnation, Node, Offset, Stamp},
    op::{Batch, ReplicaLog},
    payload,
};
use quorate_proto::{
    admin::v1::{
        AddLearnerRequest, ChangeMembersRequest, DigestAtRequest, DigestAtResponse,
        MarkDigestRequest, MarkDigestResponse, StatusRequest, StatusResponse,
        TransferLeaderRequest, TriggerSnapshotRequest, admin_service_client::AdminServiceClient,
    },
    v1::{
        Consistency, Level, ReadFrom, ReadHeader, ReadRequest, ReadResponse, RecordBatch,
        StoredBatch, log_service_client::LogServiceClient, read_from::From,
    },
};
use tonic::transport::{Channel, Endpoint};

/// Longer than any single answer takes on a busy machine.
const ANSWER: Duration = Duration::from_secs(20);

/// A node, by its own address.
#[derive(Clone, Debug)]
pub struct NodeApi {
    node: Node,
    channel: Channel,
}

impl NodeApi {
    /// Connects when the first question is asked.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(node: Node, url: &str) -> Result<Self> {
        Self::from(node, url, None)
    }

    /// The same, from this address of the machine.
    ///
    /// # Errors
    /// The URL is none.
    pub fn from(node: Node, url: &str, address: Option<IpAddr>) -> Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned())?
            .connect_timeout(Duration::from_secs(2))
            .timeout(ANSWER)
            .local_address(address);
        Ok(Self { node, channel: endpoint.connect_lazy() })
    }

    /// Which node.
    #[must_use]
    pub fn node(&self) -> Node {
        self.node
    }

    fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    /// What the node says about itself, within two seconds.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&mut self) -> Result<StatusResponse> {
        let mut request = tonic::Request::new(StatusRequest {});
        request.set_timeout(Duration::from_secs(2));
        Ok(self.admin().status(request).await?.into_inner())
    }

    /// Places a digest marker; the leader's.
    ///
    /// # Errors
    /// It does not lead, or does not answer.
    pub async fn mark_digest(&mut self, group: u32) -> Result<MarkDigestResponse> {
        Ok(self.admin().mark_digest(MarkDigestRequest { group }).await?.into_inner())
    }

    /// The node's digest at a marker.
    ///
    /// # Errors
    /// It did not apply the marker in time, or forgot it.
    pub async fn digest_at(&mut self, group: u32, log_index: u64) -> Result<DigestAtResponse> {
        Ok(self.admin().digest_at(DigestAtRequest { group, log_index }).await?.into_inner())
    }

    /// Builds a snapshot now.
    ///
    /// # Errors
    /// It cannot.
    pub async fn trigger_snapshot(&mut self, group: u32) -> Result<u64> {
        let request = TriggerSnapshotRequest { group };
        Ok(self.admin().trigger_snapshot(request).await?.into_inner().snapshot_index)
    }

    /// Asks a leader to hand over.
    ///
    /// # Errors
    /// It does not lead, or cannot.
    pub async fn transfer_leader(&mut self, group: u32, to: Node) -> Result<()> {
        self.admin().transfer_leader(TransferLeaderRequest { group, to: to.0 }).await?;
        Ok(())
    }

    /// Asks a leader to take a node in as a learner.
    ///
    /// # Errors
    /// It does not lead, or cannot.
    pub async fn add_learner(
        &mut self,
        group: u32,
        node: Node,
        peer: &str,
        client: &str,
    ) -> Result<()> {
        let (peer_address, client_address) = (peer.to_owned(), client.to_owned());
        let request = AddLearnerRequest { group, node_id: node.0, peer_address, client_address };
        self.admin().add_learner(request).await?;
        Ok(())
    }

    /// Asks a leader to give votes and to take members out, if the members are still those of this
    /// log index.
    ///
    /// # Errors
    /// It does not lead, or cannot.
    pub async fn change_members(
        &mut self,
        group: u32,
        promote: &[Node],
        remove: Option<Node>,
        if_log_index: u64,
    ) -> Result<()> {
        let request = ChangeMembersRequest {
            group,
            promote: promote.iter().map(|node| node.0).collect(),
            remove: remove.iter().map(|node| node.0).collect(),
            if_log_index: Some(if_log_index),
        };
        self.admin().change_members(request).await?;
        Ok(())
    }

    /// Everything this replica serves of a log, from its own applied state; nothing of a log that is
    /// not there.
    ///
    /// # Errors
    /// The stream broke, or its framing is wrong.
    pub async fn read_all(&mut self, log: &str) -> Result<ReplicaLog> {
        Ok(self.show_all(log).await?.0)
    }

    /// As [`NodeApi::read_all`], with the state that the end of it is of.
    ///
    /// # Errors
    /// As there.
    pub async fn show_all(&mut self, log: &str) -> Result<(ReplicaLog, Option<Stamp>)> {
        let mut batches = Vec::new();
        let mut last: Option<ReadHeader> = None;
        let mut from: Option<u64> = None;
        loop {
            let request = ReadRequest {
                log: log.to_owned(),
                from: from.map(|offset| ReadFrom { from: Some(From::Offset(offset)) }),
                consistency: Some(Consistency {
                    level: Level::Eventual.into(),
                    ..Consistency::default()
                }),
                ..ReadRequest::default()
            };
            let mut client =
                LogServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20);
            let mut stream = match client.read(request).await {
                Ok(answer) => answer.into_inner(),
                Err(status) if status.code() == tonic::Code::NotFound => {
                    let none = ReplicaLog {
                        node: self.node,
                        log: log.to_owned(),
                        incarnation: None,
                        start_offset: Offset(0),
                        next_offset: Offset(0),
                        batches: Vec::new(),
                    };
                    return Ok((none, None));
                }
                Err(status) => return Err(status.into()),
            };
            let before = batches.len();
            while let Some(ReadResponse { header, batches: stored, .. }) = stream.message().await? {
                if let Some(header) = header {
                    ensure!(header.served_by == self.node.0, "answered by {}", header.served_by);
                    let was = last.as_ref().map_or(header.incarnation, |last| last.incarnation);
                    ensure!(was == header.incarnation, "{log} became another log meanwhile");
                    last = Some(header);
                }
                for batch in stored {
                    batches.push(batch_of(batch)?);
                }
            }
            let header = last.as_ref().context("a read without a header")?;
            let (start_offset, next_offset) =
                (Offset(header.start_offset), Offset(header.next_offset));
            let reached = batches.last().map_or(start_offset, Batch::next_offset);
            if reached >= next_offset || batches.len() == before {
                let stamp = header_stamp(header);
                let shown = ReplicaLog {
                    node: self.node,
                    log: log.to_owned(),
                    incarnation: Some(Incarnation(header.incarnation)),
                    start_offset,
                    next_offset,
                    batches,
                };
                return Ok((shown, Some(stamp)));
            }
            from = Some(reached.0);
        }
    }
}

/// The state that a header is of, as a history has it.
#[must_use]
pub fn header_stamp(header: &ReadHeader) -> Stamp {
    Stamp {
        group: header.group,
        term: header.term,
        log_index: header.applied_index,
        next_offset: Offset(header.next_offset),
        writer_epoch: Epoch(0),
    }
}

/// Turns a stored batch into a history's: records become who they say they are, and where bytes are
/// damaged, nobody. A node that serves such bytes is what is to be found, so it is no error.
///
/// # Errors
/// It is intact and no batch, or holds another number of records than said.
pub fn batch_of(stored: StoredBatch) -> Result<Batch> {
    use prost::Message as _;
    let crc32c = crc32c::crc32c(&stored.batch);
    let at = stored.first_offset;
    let intact = crc32c == stored.batch_crc32c;
    let decoded = RecordBatch::decode(&stored.batch[..]);
    let mut records: Vec<_> = match decoded {
        Ok(batch) => batch.records.iter().map(|record| payload::decode(&record.value)).collect(),
        Err(why) if intact => return Err(why).context(format!("batch at {at}: no RecordBatch")),
        Err(_) => Vec::new(),
    };
    ensure!(
        !intact || records.len() == stored.count as usize,
        "batch at {at}: {} records, {} said",
        records.len(),
        stored.count
    );
    records.resize(stored.count as usize, None);
    if !intact && records.iter().all(Option::is_some) {
        // What is damaged is none of the values: then it is not known which record it is.
        records.fill(None);
    }
    let end = at + u64::from(stored.count);
    let from = stored.visible_from.clamp(at, end);
    let to = if stored.visible_to == 0 { end } else { stored.visible_to.clamp(from, end) };
    let visible = &records[(from - at) as usize..(to - at) as usize];
    Ok(Batch {
        first_offset: Offset(from),
        records: visible.to_vec(),
        timestamp_ms: stored.timestamp_ms,
        crc32c,
        writer_epoch: stored.writer_epoch.map(Epoch),
        producer: stored.producer.map(|producer| (hex(&producer.id), producer.sequence)),
    })
}

/// Bytes in hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
