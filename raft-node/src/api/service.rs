//! The client service: from generated trait to the functions of this folder.

use std::sync::Arc;

use quorate_proto::v1::{self as wire, log_service_server::LogService};
use tonic::{Request, Response, Status, Streaming};

use super::{
    append, append_stream,
    context::{Context, Deadline},
    logs, read,
};

/// `quorate.v1.LogService` on this node.
pub struct Logs {
    /// Shared with the other services.
    pub context: Arc<Context>,
}

/// Deadline and body of a request.
fn open<T>(request: Request<T>) -> (Deadline, T) {
    (Deadline::of(request.metadata()), request.into_inner())
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from(b"0123456789abcdef"[usize::from(n & 0xf)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Repeats the essence of a read header as metadata, for proxies and for people: `x-data-lag-ms`
/// (absent: unknown), `x-position` (the token in hexadecimal), `x-term`.
fn with_header<T>(mut response: Response<T>, header: Option<&wire::ReadHeader>) -> Response<T> {
    let Some(header) = header else { return response };
    let metadata = response.metadata_mut();
    let mut put = |name: &'static str, value: String| {
        let value = value.parse().expect("digits are fine metadata");
        metadata.insert(name, value);
    };
    if let Some(age) = header.age_ms {
        put("x-data-lag-ms", age.to_string());
    }
    put("x-position", hexadecimal(&header.position));
    put("x-term", header.term.to_string());
    response
}

#[tonic::async_trait]
impl LogService for Logs {
    async fn create_log(
        &self,
        request: Request<wire::CreateLogRequest>,
    ) -> Result<Response<wire::CreateLogResponse>, Status> {
        let (deadline, request) = open(request);
        Ok(Response::new(logs::create(&self.context, request, deadline).await?))
    }

    async fn describe_log(
        &self,
        request: Request<wire::DescribeLogRequest>,
    ) -> Result<Response<wire::DescribeLogResponse>, Status> {
        let (deadline, request) = open(request);
        let answer = logs::describe(&self.context, request, deadline).await?;
        let header = answer.header.clone();
        Ok(with_header(Response::new(answer), header.as_ref()))
    }

    async fn list_logs(
        &self,
        request: Request<wire::ListLogsRequest>,
    ) -> Result<Response<wire::ListLogsResponse>, Status> {
        let (deadline, request) = open(request);
        Ok(Response::new(logs::list(&self.context, request, deadline).await?))
    }

    async fn trim_log(
        &self,
        request: Request<wire::TrimLogRequest>,
    ) -> Result<Response<wire::TrimLogResponse>, Status> {
        let (deadline, request) = open(request);
        Ok(Response::new(logs::trim(&self.context, request, deadline).await?))
    }

    async fn delete_log(
        &self,
        request: Request<wire::DeleteLogRequest>,
    ) -> Result<Response<wire::DeleteLogResponse>, Status> {
        let (deadline, request) = open(request);
        Ok(Response::new(logs::delete(&self.context, request, deadline).await?))
    }

    async fn fence(
        &self,
        request: Request<wire::FenceRequest>,
    ) -> Result<Response<wire::FenceResponse>, Status> {
        let (deadline, request) = open(request);
        Ok(Response::new(logs::fence(&self.context, request, deadline).await?))
    }

    async fn set_read_level(
        &self,
        request: Request<wire::SetReadLevelRequest>,
    ) -> Result<Response<wire::SetReadLevelResponse>, Status> {
        let (deadline, request) = open(request);
        Ok(Response::new(logs::set_read_level(&self.context, request, deadline).await?))
    }

    async fn append(
        &self,
        request: Request<wire::AppendRequest>,
    ) -> Result<Response<wire::AppendResponse>, Status> {
        let (deadline, request) = open(request);
        Ok(Response::new(append::append(&self.context, request, deadline).await?))
    }

    type AppendStreamStream = append_stream::ResponseStream;

    async fn append_stream(
        &self,
        request: Request<Streaming<wire::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        Ok(Response::new(append_stream::serve(self.context.clone(), request.into_inner())))
    }

    async fn append_multi(
        &self,
        request: Request<wire::AppendMultiRequest>,
    ) -> Result<Response<wire::AppendMultiResponse>, Status> {
        let (deadline, request) = open(request);
        Ok(Response::new(append::append_multi(&self.context, request, deadline).await?))
    }

    type ReadStream = read::ResponseStream;

    async fn read(
        &self,
        request: Request<wire::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let (deadline, request) = open(request);
        let (stream, header) = read::read(self.context.clone(), request, deadline).await?;
        Ok(with_header(Response::new(stream), Some(&header)))
    }

    type TailStream = read::ResponseStream;

    async fn tail(
        &self,
        request: Request<wire::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        // A tail's deadline ends the tail, which is what a caller who sets one wants; the first
        // view has the default.
        let request = request.into_inner();
        let deadline = Deadline::default_for_streams();
        let (stream, header) = read::tail(self.context.clone(), request, deadline).await?;
        Ok(with_header(Response::new(stream), Some(&header)))
    }
}
