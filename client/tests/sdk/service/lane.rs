//! `ReadMany` of a scripted node: what its `Read` says, of many reads on one stream.

use futures::StreamExt;
use prost::Message;
use quorate_proto::v1::{
    self as wire, CallRead, Effect, ErrorKind, log_service_server::LogService,
    read_answer::Result as Answer, read_from::From,
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::{Node, Out, Sender, out};
use crate::{cluster::status, state::detail};

/// How a node deals with reads that share a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Lane {
    /// Answers each, the last one first.
    #[default]
    Serves,
    /// Is of a version that knows no such RPC.
    Missing,
    /// Sends every read off to a call of its own.
    SendsOff,
    /// Takes them and says nothing.
    Mute,
    /// Ends the stream at the first read, as a node does that stops.
    Ends,
    /// Ends the stream at a request that holds a read from this offset, as one that it can't read.
    CannotRead(u64),
}

impl Node {
    pub(super) fn serve_lane(
        self,
        requests: Streaming<wire::ReadManyRequest>,
    ) -> Result<Response<Out<wire::ReadManyResponse>>, Status> {
        self.shared.control().lanes += 1;
        if self.shared.control().lane == Lane::Missing {
            return Err(Status::unimplemented("scripted: an old node"));
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(self.lane(requests, sender));
        Ok(Response::new(out(receiver)))
    }

    async fn lane(
        self,
        mut requests: Streaming<wire::ReadManyRequest>,
        sender: Sender<wire::ReadManyResponse>,
    ) {
        while let Some(Ok(request)) = requests.next().await {
            let mut answers = Vec::new();
            let lane = self.shared.control().lane;
            self.shared.control().packed.push(request.reads.len());
            if let Lane::CannotRead(offset) = lane
                && request.reads.iter().any(|read| begins_at(read, offset))
            {
                let why = detail(ErrorKind::Invalid, false, Effect::None);
                let _ = sender.send(Err(status(why)));
                return;
            }
            for wire::TaggedRead { tag, read, timeout_ms } in request.reads {
                assert!(timeout_ms > 0, "a client always has a deadline");
                let result = match lane {
                    Lane::Serves | Lane::Missing | Lane::CannotRead(_) => {
                        self.whole(read.unwrap()).await
                    }
                    Lane::SendsOff => Ok(Answer::CallRead(CallRead::Large.into())),
                    Lane::Mute => continue,
                    Lane::Ends => return,
                };
                match result {
                    Ok(result) => answers.push(wire::ReadAnswer { tag, result: Some(result) }),
                    Err(broken) => {
                        let _ = sender.send(Err(broken));
                        return;
                    }
                }
            }
            answers.reverse();
            if !answers.is_empty() && sender.send(Ok(wire::ReadManyResponse { answers })).is_err() {
                return;
            }
        }
    }

    /// All messages as one. An error without a detail is of the connection.
    async fn whole(&self, read: wire::ReadRequest) -> Result<Answer, Status> {
        let mut messages = match self.read(Request::new(read)).await {
            Ok(messages) => messages.into_inner(),
            Err(status) => return refusal(status),
        };
        let mut whole = wire::ReadResponse::default();
        while let Some(message) = messages.next().await {
            match message {
                Ok(message) => {
                    whole.header = whole.header.or(message.header);
                    whole.batches.extend(message.batches);
                }
                Err(status) => return refusal(status),
            }
        }
        Ok(Answer::Ok(whole))
    }
}

fn begins_at(read: &wire::TaggedRead, offset: u64) -> bool {
    let from = read.read.as_ref().and_then(|read| read.from.as_ref());
    from.and_then(|from| from.from.as_ref()) == Some(&From::Offset(offset))
}

fn refusal(status: Status) -> Result<Answer, Status> {
    let packed = tonic_types::pb::Status::decode(status.details()).unwrap_or_default();
    match packed.details.first() {
        Some(any) => Ok(Answer::Error(wire::ErrorDetail::decode(&*any.value).unwrap())),
        None => Err(status),
    }
}
