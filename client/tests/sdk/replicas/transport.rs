//! The replicas as the SDK's transport.

use std::{pin::Pin, time::Duration};

use futures::StreamExt;
use quorate_client::{Answers, Endpoint, Error, Requests, Transport};
use quorate_proto::{
    admin::v1 as admin,
    v1::{self as wire, Effect, ErrorDetail, ErrorKind},
};

use super::{Replicas, endpoint, number, refusal, stored};
use crate::state::detail;

/// Like the real transport, nothing waits longer than it may.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(Error::from_status(&tonic::Status::deadline_exceeded("scripted: too late"), false))
    })
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Spelled out, since `async_trait` does not see what a macro writes.
macro_rules! not_here {
    ($($name:ident($request:ty) -> $answer:ty;)+) => {
        $(fn $name<'a, 'b, 'c>(
            &'a self,
            _: &'b Endpoint,
            _: $request,
            _: Duration,
        ) -> Boxed<'c, $answer>
        where
            'a: 'c,
            'b: 'c,
            Self: 'c,
        {
            Box::pin(async { Err(refusal(ErrorKind::Unsupported, false)) })
        })+
    };
}

#[tonic::async_trait]
impl Transport for Replicas {
    async fn describe_log(
        &self,
        to: &Endpoint,
        request: wire::DescribeLogRequest,
        timeout: Duration,
    ) -> Result<wire::DescribeLogResponse, Error> {
        let consistency = request.consistency.unwrap_or_default();
        let header =
            within(timeout, self.header(number(to), &request.name, consistency, timeout)).await?;
        let log = wire::LogInfo {
            name: request.name,
            incarnation: header.incarnation,
            next_offset: header.next_offset,
            ..Default::default()
        };
        Ok(wire::DescribeLogResponse { log: Some(log), header: Some(header) })
    }

    async fn append(
        &self,
        to: &Endpoint,
        request: wire::AppendRequest,
        _: Duration,
    ) -> Result<wire::AppendResponse, Error> {
        let part = request.part.expect("a part");
        if number(to) != 0 {
            let address = endpoint(0).as_str().to_owned();
            let hint = Some(wire::LeaderHint { node_id: 0, address, term: 1 });
            let detail = detail(ErrorKind::NotLeader, true, Effect::None);
            return Err(Error::from_detail(ErrorDetail { leader: hint, ..detail }));
        }
        Ok(Replicas::append(self, &part.log, 1))
    }

    async fn read(
        &self,
        to: &Endpoint,
        request: wire::ReadRequest,
        timeout: Duration,
    ) -> Result<Answers<wire::ReadResponse>, Error> {
        let consistency = request.consistency.unwrap_or_default();
        let header =
            within(timeout, self.header(number(to), &request.log, consistency, timeout)).await?;
        // Nobody here looks at records.
        let header = wire::ReadHeader { next_offset: 0, ..header };
        let message = wire::ReadResponse { header: Some(header), ..Default::default() };
        Ok(futures::stream::iter([Ok(message)]).boxed())
    }

    /// One header; then what is appended, without one; and a header with each beat.
    async fn tail(
        &self,
        to: &Endpoint,
        request: wire::TailRequest,
        timeout: Duration,
    ) -> Result<Answers<wire::ReadResponse>, Error> {
        let consistency = request.consistency.unwrap_or_default();
        let asked = consistency.level();
        let header =
            within(timeout, self.header(number(to), &request.log, consistency, timeout)).await?;
        let n = number(to);
        let (mut beats, mut next) = (self.inner().replicas[n].beats, header.next_offset);
        let first = wire::ReadResponse { header: Some(header), ..Default::default() };
        let this = self.me.upgrade().expect("whoever asks holds it");
        // Who reads late finds what was sent meanwhile.
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut changed = this.changed.subscribe();
            let mut message = first;
            while sender.send(Ok(message)).is_ok() {
                message = loop {
                    let header = this.look(n, &request.log, asked).expect("it stays");
                    let now = this.inner().replicas[n].beats;
                    if header.next_offset > next {
                        let batches = vec![stored(next..header.next_offset)];
                        next = header.next_offset;
                        let (position, applied_index) = (header.position, header.applied_index);
                        break wire::ReadResponse {
                            header: None,
                            batches,
                            position,
                            applied_index,
                        };
                    }
                    if now > beats {
                        beats = now;
                        break wire::ReadResponse { header: Some(header), ..Default::default() };
                    }
                    tokio::select! {
                        changed = changed.changed() => changed.expect("the replicas live"),
                        () = sender.closed() => return,
                    }
                };
            }
        });
        let messages = futures::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|message| (message, receiver))
        });
        Ok(messages.boxed())
    }

    async fn append_stream(
        &self,
        _: &Endpoint,
        _: Requests,
        _: Duration,
    ) -> Result<Answers<wire::AppendStreamResponse>, Error> {
        Err(refusal(ErrorKind::Unsupported, false))
    }

    not_here! {
        create_log(wire::CreateLogRequest) -> wire::CreateLogResponse;
        list_logs(wire::ListLogsRequest) -> wire::ListLogsResponse;
        trim_log(wire::TrimLogRequest) -> wire::TrimLogResponse;
        delete_log(wire::DeleteLogRequest) -> wire::DeleteLogResponse;
        set_read_level(wire::SetReadLevelRequest) -> wire::SetReadLevelResponse;
        fence(wire::FenceRequest) -> wire::FenceResponse;
        append_multi(wire::AppendMultiRequest) -> wire::AppendMultiResponse;
        status(admin::StatusRequest) -> admin::StatusResponse;
        transfer_leader(admin::TransferLeaderRequest) -> admin::TransferLeaderResponse;
        add_learner(admin::AddLearnerRequest) -> admin::MembersResponse;
        change_members(admin::ChangeMembersRequest) -> admin::MembersResponse;
        trigger_snapshot(admin::TriggerSnapshotRequest) -> admin::TriggerSnapshotResponse;
        mark_digest(admin::MarkDigestRequest) -> admin::MarkDigestResponse;
        digest_at(admin::DigestAtRequest) -> admin::DigestAtResponse;
        batch_digests(admin::BatchDigestsRequest) -> Answers<admin::BatchDigestsResponse>;
    }
}
