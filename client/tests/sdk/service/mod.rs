//! One scripted node: `LogService` over the shared state.

mod appends;
pub mod lane;

use std::{pin::Pin, sync::Arc, time::Duration};

use appends::Done;
use futures::Stream;
use quorate_proto::v1::{
    self as wire, Effect, ErrorKind, log_service_server::LogService, read_from::From,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    cluster::{Fault, ReadFault, Shared, status},
    state::detail,
};

pub struct Node {
    pub at: usize,
    pub shared: Arc<Shared>,
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Sender<T> = mpsc::UnboundedSender<Result<T, Status>>;

fn out<T: Send + 'static>(receiver: mpsc::UnboundedReceiver<Result<T, Status>>) -> Out<T> {
    Box::pin(UnboundedReceiverStream::new(receiver))
}

fn cut() -> Status {
    Status::unknown("scripted: the connection broke")
}
impl Node {
    fn log_info(&self, name: &str) -> Result<(wire::LogInfo, wire::ReadHeader), wire::ErrorDetail> {
        let hint = self.shared.hint();
        let state = self.shared.state();
        let Some(log) = state.logs.get(name) else {
            return Err(detail(ErrorKind::LogNotFound, false, Effect::None));
        };
        let header = wire::ReadHeader {
            position: state.position(),
            term: state.term,
            applied_index: state.index,
            served_by: self.at as u64 + 1,
            leader: hint,
            start_offset: log.start,
            next_offset: log.next,
            incarnation: log.incarnation,
            ..Default::default()
        };
        let info = wire::LogInfo {
            name: name.to_owned(),
            incarnation: log.incarnation,
            start_offset: log.start,
            next_offset: log.next,
            writer_epoch: log.epoch,
            ..Default::default()
        };
        Ok((info, header))
    }

    /// Batches of `from..to`, one a message.
    fn batches(&self, name: &str, from: u64, to: u64) -> Vec<wire::StoredBatch> {
        let state = self.shared.state();
        let overlap = state.logs[name]
            .batches
            .iter()
            .filter(|b| b.first < to && b.first + u64::from(b.count) > from);
        let each = overlap.map(|b| wire::StoredBatch {
            first_offset: b.first,
            count: b.count,
            visible_from: from.max(b.first),
            visible_to: if to < b.first + u64::from(b.count) { to } else { 0 },
            batch: b.bytes.clone(),
            batch_crc32c: b.crc,
            ..Default::default()
        });
        each.collect()
    }

    /// Sends batches, with faults. False: the stream is over.
    fn send(&self, to: &Sender<wire::ReadResponse>, batch: wire::StoredBatch) -> bool {
        let message = |batch| {
            let (position, applied_index) = {
                let state = self.shared.state();
                (state.position(), state.index)
            };
            let batches = vec![batch];
            Ok(wire::ReadResponse { header: None, batches, position, applied_index })
        };
        match self.shared.read_fault(self.at) {
            None => to.send(message(batch)).is_ok(),
            Some(ReadFault::Cut) => {
                let _ = to.send(Err(cut()));
                false
            }
            Some(ReadFault::End) => false,
            Some(ReadFault::Damage) => {
                let mut damaged = batch.batch.to_vec();
                *damaged.last_mut().unwrap() ^= 1;
                to.send(message(wire::StoredBatch { batch: damaged.into(), ..batch })).is_ok()
            }
            Some(ReadFault::Repeat) => {
                to.send(message(batch.clone())).is_ok() && to.send(message(batch)).is_ok()
            }
            Some(ReadFault::Skip) => true,
        }
    }

    fn start_of(
        from: Option<wire::ReadFrom>,
        header: &wire::ReadHeader,
        default: u64,
    ) -> Result<u64, Status> {
        let (start, next) = (header.start_offset, header.next_offset);
        let offset = match from.and_then(|f| f.from) {
            None => default,
            Some(From::Offset(offset)) => offset,
            Some(From::Last(n)) => next.saturating_sub(n).max(start),
            // Timestamps are offsets here.
            Some(From::TimestampMs(at)) => at.clamp(start, next),
        };
        let refuse = |kind| {
            let detail = detail(kind, false, Effect::None);
            let (start_offset, next_offset) = (Some(start), Some(next));
            Err(status(wire::ErrorDetail { start_offset, next_offset, ..detail }))
        };
        match offset {
            _ if offset < start => refuse(ErrorKind::Trimmed),
            _ if offset > next => refuse(ErrorKind::OutOfRange),
            _ => Ok(offset),
        }
    }

    fn check_incarnation(asked: Option<u64>, header: &wire::ReadHeader) -> Result<(), Status> {
        match asked {
            Some(asked) if asked != header.incarnation => {
                Err(status(detail(ErrorKind::LogRecreated, false, Effect::None)))
            }
            _ => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl LogService for Node {
    async fn append(
        &self,
        request: Request<wire::AppendRequest>,
    ) -> Result<Response<wire::AppendResponse>, Status> {
        self.shared.check_up(self.at)?;
        self.held().await;
        match self.judge(&request.into_inner()) {
            Done::Answer(answer) => answer.map(Response::new).map_err(status),
            Done::Cut(_) => Err(cut()),
            Done::Ended(why) => Err(status(why)),
            Done::Mute => std::future::pending().await,
        }
    }

    type AppendStreamStream = Out<wire::AppendStreamResponse>;

    async fn append_stream(
        &self,
        request: Request<Streaming<wire::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        self.shared.check_up(self.at)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let node = Self { at: self.at, shared: self.shared.clone() };
        tokio::spawn(node.serve_appends(request.into_inner(), sender));
        Ok(Response::new(out(receiver)))
    }

    async fn append_multi(
        &self,
        request: Request<wire::AppendMultiRequest>,
    ) -> Result<Response<wire::AppendMultiResponse>, Status> {
        self.shared.check_up(self.at)?;
        let mut answer = wire::AppendMultiResponse::default();
        for part in request.into_inner().parts {
            let request = wire::AppendRequest { part: Some(part), ack: 0 };
            match self.judge(&request) {
                Done::Answer(Ok(ok)) => {
                    answer.parts.extend(ok.part);
                    (answer.position, answer.stamp) = (ok.position, ok.stamp);
                }
                Done::Answer(Err(error)) | Done::Ended(error) => return Err(status(error)),
                Done::Cut(_) | Done::Mute => return Err(cut()),
            }
        }
        Ok(Response::new(answer))
    }

    async fn create_log(
        &self,
        request: Request<wire::CreateLogRequest>,
    ) -> Result<Response<wire::CreateLogResponse>, Status> {
        self.shared.check_up(self.at)?;
        let name = request.get_ref().name.clone();
        self.shared.check_leader(self.at).map_err(status)?;
        let fault = self.shared.append_fault(self.at);
        let created = !self.shared.state().logs.contains_key(&name);
        if !created && !request.get_ref().if_absent {
            return Err(status(detail(ErrorKind::LogExists, false, Effect::None)));
        }
        if created {
            self.shared.state().create(&name);
        }
        if fault == Some(Fault::CutAfter) {
            return Err(cut());
        }
        let (log, _) = self.log_info(&name).map_err(status)?;
        let state = self.shared.state();
        let (position, stamp) = (state.position(), Some(state.stamp(None)));
        Ok(Response::new(wire::CreateLogResponse { log: Some(log), created, position, stamp }))
    }

    async fn set_read_level(
        &self,
        request: Request<wire::SetReadLevelRequest>,
    ) -> Result<Response<wire::SetReadLevelResponse>, Status> {
        self.shared.check_up(self.at)?;
        self.shared.check_leader(self.at).map_err(status)?;
        let (log, _) = self.log_info(&request.get_ref().name).map_err(status)?;
        let state = self.shared.state();
        let (position, stamp) = (state.position(), Some(state.stamp(None)));
        Ok(Response::new(wire::SetReadLevelResponse { log: Some(log), position, stamp }))
    }

    async fn describe_log(
        &self,
        request: Request<wire::DescribeLogRequest>,
    ) -> Result<Response<wire::DescribeLogResponse>, Status> {
        self.shared.check_up(self.at)?;
        let (log, header) = self.log_info(&request.get_ref().name).map_err(status)?;
        Ok(Response::new(wire::DescribeLogResponse { log: Some(log), header: Some(header) }))
    }

    async fn list_logs(
        &self,
        _: Request<wire::ListLogsRequest>,
    ) -> Result<Response<wire::ListLogsResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn trim_log(
        &self,
        request: Request<wire::TrimLogRequest>,
    ) -> Result<Response<wire::TrimLogResponse>, Status> {
        self.shared.check_up(self.at)?;
        self.shared.check_leader(self.at).map_err(status)?;
        let fault = self.shared.append_fault(self.at);
        let wire::TrimLogRequest { name, before_offset, .. } = request.into_inner();
        let mut state = self.shared.state();
        let log = state.logs.get_mut(&name).unwrap();
        log.start = log.start.max(before_offset);
        if fault == Some(Fault::CutAfter) {
            return Err(cut());
        }
        Ok(Response::new(wire::TrimLogResponse { start_offset: log.start, ..Default::default() }))
    }

    async fn delete_log(
        &self,
        request: Request<wire::DeleteLogRequest>,
    ) -> Result<Response<wire::DeleteLogResponse>, Status> {
        self.shared.check_up(self.at)?;
        self.shared.check_leader(self.at).map_err(status)?;
        let fault = self.shared.append_fault(self.at);
        if self.shared.state().logs.remove(&request.get_ref().name).is_none() {
            return Err(status(detail(ErrorKind::LogNotFound, false, Effect::None)));
        }
        if fault == Some(Fault::CutAfter) {
            return Err(cut());
        }
        Ok(Response::new(wire::DeleteLogResponse::default()))
    }

    async fn fence(
        &self,
        request: Request<wire::FenceRequest>,
    ) -> Result<Response<wire::FenceResponse>, Status> {
        self.shared.check_up(self.at)?;
        self.shared.check_leader(self.at).map_err(status)?;
        let mut state = self.shared.state();
        let log = state.logs.get_mut(&request.get_ref().log).unwrap();
        let epoch = log.epoch.map_or(1, |epoch| epoch + 1);
        log.epoch = Some(epoch);
        let (incarnation, next_offset) = (log.incarnation, log.next);
        let (position, stamp) = (state.position(), None);
        let writer_epoch = epoch;
        Ok(Response::new(wire::FenceResponse {
            writer_epoch,
            incarnation,
            next_offset,
            position,
            stamp,
        }))
    }

    type ReadStream = Out<wire::ReadResponse>;

    async fn read(
        &self,
        request: Request<wire::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        self.shared.check_up(self.at)?;
        let request = request.into_inner();
        let (_, header) = self.log_info(&request.log).map_err(status)?;
        Self::check_incarnation(request.incarnation, &header)?;
        let from = Self::start_of(request.from, &header, header.start_offset)?;
        let mut to = request.to_offset.unwrap_or(u64::MAX).min(header.next_offset);
        if request.max_records > 0 {
            to = to.min(from + request.max_records);
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let _ = sender.send(Ok(wire::ReadResponse { header: Some(header), ..Default::default() }));
        let mut bytes = 0;
        for batch in self.batches(&request.log, from, to) {
            let more = batch.batch.len() as u64;
            if request.max_bytes > 0 && bytes >= request.max_bytes || !self.send(&sender, batch) {
                break;
            }
            bytes += more;
        }
        Ok(Response::new(out(receiver)))
    }

    type ReadManyStream = Out<wire::ReadManyResponse>;

    async fn read_many(
        &self,
        request: Request<Streaming<wire::ReadManyRequest>>,
    ) -> Result<Response<Self::ReadManyStream>, Status> {
        let node = Self { at: self.at, shared: self.shared.clone() };
        node.serve_lane(request.into_inner())
    }

    type TailStream = Out<wire::ReadResponse>;

    async fn tail(
        &self,
        request: Request<wire::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        self.shared.check_up(self.at)?;
        let request = request.into_inner();
        let mut changed = self.shared.changed.subscribe();
        let (_, header) = self.log_info(&request.log).map_err(status)?;
        Self::check_incarnation(request.incarnation, &header)?;
        let mut next = Self::start_of(request.from, &header, header.next_offset)?;
        let interval = Duration::from_millis(request.header_interval_ms);
        let (sender, receiver) = mpsc::unbounded_channel();
        let _ = sender.send(Ok(wire::ReadResponse { header: Some(header), ..Default::default() }));
        let node = Self { at: self.at, shared: self.shared.clone() };
        tokio::spawn(async move {
            loop {
                if node.shared.control().down[node.at] {
                    let _ = sender.send(Err(cut()));
                    return;
                }
                let header = match node.log_info(&request.log) {
                    Ok((_, header)) => header,
                    Err(error) => {
                        let _ = sender.send(Err(status(error)));
                        return;
                    }
                };
                if next < header.start_offset {
                    let trimmed = detail(ErrorKind::Trimmed, false, Effect::None);
                    let _ = sender.send(Err(status(trimmed)));
                    return;
                }
                for batch in node.batches(&request.log, next, u64::MAX) {
                    next = batch.first_offset + u64::from(batch.count);
                    if !node.send(&sender, batch) {
                        return;
                    }
                }
                match tokio::time::timeout(interval, changed.changed()).await {
                    Ok(changed) => changed.unwrap(),
                    Err(_) => {
                        let message =
                            wire::ReadResponse { header: Some(header), ..Default::default() };
                        if sender.send(Ok(message)).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Response::new(out(receiver)))
    }
}
