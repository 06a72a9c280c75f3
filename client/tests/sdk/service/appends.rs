//! Appends to a scripted node: judged by the shared state, with the fault that is next.

use std::sync::Arc;

use futures::StreamExt;
use quorate_proto::v1::{
    self as wire, Effect, ErrorKind, append_stream_response::Result as Answer,
};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::{Node, Sender, cut};
use crate::{
    cluster::{Fault, status},
    state::detail,
};

/// What became of one append.
pub(super) enum Done {
    Answer(Result<wire::AppendResponse, wire::ErrorDetail>),
    /// The connection breaks; `true`: what follows on it may arrive late.
    Cut(Option<u64>),
    Mute,
    /// The stream ends with this; what follows on it is not looked at.
    Ended(wire::ErrorDetail),
}

impl Node {
    pub(super) fn judge(&self, request: &wire::AppendRequest) -> Done {
        let shared = &self.shared;
        if let Err(refusal) = shared.check_leader(self.at) {
            return Done::Answer(Err(refusal));
        }
        let fault = shared.append_fault(self.at);
        let apply = || {
            let answer = shared.state().append(request);
            shared.bump();
            answer
        };
        match fault {
            None => Done::Answer(apply()),
            Some(Fault::CutBefore { late }) => {
                if let Some(late) = late {
                    let mut control = shared.control();
                    control.late.push((late, request.clone()));
                }
                Done::Cut(late)
            }
            Some(Fault::CutAfter) => {
                let _ = apply();
                Done::Cut(None)
            }
            Some(Fault::Busy) => {
                let refusal = detail(ErrorKind::ResourceExhausted, true, Effect::None);
                Done::Answer(Err(wire::ErrorDetail { retry_after_ms: 1, ..refusal }))
            }
            Some(Fault::Moved) => {
                shared.move_leader();
                Done::Answer(Err(shared.not_leader(Effect::None)))
            }
            Some(Fault::Deposed { applied }) => {
                if applied {
                    let _ = apply();
                }
                shared.move_leader();
                Done::Answer(Err(shared.not_leader(Effect::Unknown)))
            }
            Some(Fault::Mute) => {
                let _ = apply();
                Done::Mute
            }
            Some(Fault::Refused(kind)) => Done::Answer(Err(detail(kind, false, Effect::None))),
            Some(Fault::CannotRead) => Done::Ended(detail(ErrorKind::Invalid, false, Effect::None)),
        }
    }

    pub(super) async fn held(&self) {
        let mut hold = self.shared.control().hold.subscribe();
        hold.wait_for(|hold| !hold).await.unwrap();
    }

    pub(super) async fn serve_appends(
        self,
        mut requests: Streaming<wire::AppendStreamRequest>,
        answers: Sender<wire::AppendStreamResponse>,
    ) {
        let (queue, mut queued) = mpsc::unbounded_channel();
        let unanswered = Arc::new(std::sync::Mutex::new((0, 0)));
        let counted = unanswered.clone();
        let shared = self.shared.clone();
        // Takes in as fast as it comes, to see what a client leaves unanswered.
        let intake = tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let bytes = request.append.as_ref().unwrap().part.as_ref().unwrap().batch.len();
                let now = {
                    let mut counted = counted.lock().unwrap();
                    *counted = (counted.0 + bytes, counted.1 + 1);
                    *counted
                };
                {
                    let mut control = shared.control();
                    let most = control.most_unanswered;
                    control.most_unanswered = (most.0.max(now.0), most.1.max(now.1));
                }
                shared.bump();
                if queue.send((bytes, request)).is_err() {
                    return;
                }
            }
        });
        let mut mute = false;
        while let Some((bytes, request)) = queued.recv().await {
            self.held().await;
            let tag = request.tag;
            let append = request.append.expect("an append");
            let result = match self.judge(&append) {
                Done::Mute => {
                    mute = true;
                    continue;
                }
                Done::Cut(late) => {
                    // What was on its way may arrive all the same.
                    while let (Some(late), Ok((_, request))) = (late, queued.try_recv()) {
                        self.shared.control().late.push((late, request.append.unwrap()));
                    }
                    let _ = answers.send(Err(cut()));
                    break;
                }
                Done::Ended(why) => {
                    let _ = answers.send(Err(status(why)));
                    break;
                }
                Done::Answer(Ok(ok)) => Answer::Ok(ok),
                Done::Answer(Err(error)) => Answer::Error(error),
            };
            if !mute {
                let mut counted = unanswered.lock().unwrap();
                *counted = (counted.0 - bytes, counted.1 - 1);
                let answer = wire::AppendStreamResponse { tag, result: Some(result) };
                if answers.send(Ok(answer)).is_err() {
                    break;
                }
            }
        }
        intake.abort();
    }
}
