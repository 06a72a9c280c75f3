//! Appends on streams, several unanswered at a time: the server's pipeline, without the SDK's
//! packing and retrying on top.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use futures::StreamExt;
use quorate_client::{Answers, Consistency, Endpoint, Error, GrpcTransport, Transport};
use quorate_proto::v1::{
    AppendStreamRequest, AppendStreamResponse, append_stream_response::Result as Answer,
};
use tokio::sync::mpsc;

use super::{
    append::Appender,
    load::{Run, Ticket, Work, bear},
    plan::Plan,
};
use crate::exit::Failure;

/// As many transports as the plan has connections: each has one connection a node.
#[must_use]
pub fn transports(plan: &Plan) -> Vec<Arc<GrpcTransport>> {
    (0..plan.connections).map(|_| Arc::new(GrpcTransport::new(plan.timeout))).collect()
}

/// Keeps `in_flight` appends unanswered until the run is over.
///
/// # Errors
/// The last of too many failures in a row.
pub async fn pipelined(
    run: Arc<Run>,
    id: usize,
    mut appender: Appender,
    transport: Arc<GrpcTransport>,
    in_flight: usize,
) -> Result<(), Failure> {
    let mut in_a_row = 0;
    // Each round is one stream: the next one begins when it broke.
    while let Some(first) = run.admit() {
        let failure = match Stream::open(&appender, &transport).await {
            Ok(mut stream) => {
                match stream.work(&run, id, &mut appender, first, in_flight, &mut in_a_row).await {
                    Ok(()) => return Ok(()),
                    Err(failure) => failure,
                }
            }
            Err(failure) => failure,
        };
        in_a_row += 1;
        bear(&run, failure, in_a_row).await?;
    }
    Ok(())
}

struct Stream {
    requests: mpsc::UnboundedSender<AppendStreamRequest>,
    answers: Answers<AppendStreamResponse>,
    unanswered: VecDeque<(Ticket, Instant, Work)>,
}

impl Stream {
    /// A stream to whoever leads the log.
    async fn open(appender: &Appender, transport: &GrpcTransport) -> Result<Self, Failure> {
        let linearizable = Consistency::linearizable();
        let (_, header) = appender.client.describe_log(&appender.log, &linearizable).await?;
        let leader = header.leader.ok_or_else(|| Failure::refused("no leader is known"))?;
        let endpoint = Endpoint::new(&leader.address)?;
        // Unbounded in type only: `unanswered` bounds what is in it.
        let (requests, queue) = mpsc::unbounded_channel();
        let answers = transport.append_stream(&endpoint, queue, appender.client.timeout()).await?;
        Ok(Self { requests, answers, unanswered: VecDeque::new() })
    }

    async fn work(
        &mut self,
        run: &Run,
        id: usize,
        appender: &mut Appender,
        first: Ticket,
        in_flight: usize,
        in_a_row: &mut u32,
    ) -> Result<(), Failure> {
        let mut next = Some(first);
        loop {
            while self.unanswered.len() < in_flight {
                let Some(ticket) = next.take().or_else(|| run.admit()) else { break };
                self.send(appender, ticket)?;
            }
            let Some((ticket, sent, work)) = self.unanswered.pop_front() else { return Ok(()) };
            let answer = self.answers.next().await;
            match answer {
                Some(Ok(AppendStreamResponse { result: Some(Answer::Ok(_)), .. })) => {
                    *in_a_row = 0;
                    run.done(id, ticket, sent.elapsed(), work);
                }
                Some(Ok(AppendStreamResponse { result: Some(Answer::Error(detail)), .. })) => {
                    return Err(Error::from_detail(detail).into());
                }
                Some(Ok(AppendStreamResponse { result: None, .. })) => {
                    return Err(Failure::refused("an answer without a result"));
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Failure::unknown("the node ended the stream")),
            }
        }
    }

    fn send(&mut self, appender: &mut Appender, ticket: Ticket) -> Result<(), Failure> {
        let started = Instant::now();
        let (append, work) = appender.request()?;
        let request = AppendStreamRequest { tag: 0, append: Some(append) };
        self.requests.send(request).map_err(|_| Failure::unknown("the stream broke"))?;
        self.unanswered.push_back((ticket, started, work));
        Ok(())
    }
}
