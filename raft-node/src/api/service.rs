//! The client service: from generated trait to the functions of this folder.

use std::sync::Arc;

use quorate_proto::v1::{self as wire, log_service_server::LogService};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    append, append_stream,
    context::{Context, Deadline},
    logs, metadata, read,
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

/// An answer with the essence of its headers as metadata.
fn saying<T>(answer: T, said: MetadataMap) -> Response<T> {
    let mut response = Response::new(answer);
    *response.metadata_mut() = said;
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
        let said = metadata::of(answer.header.as_slice());
        Ok(saying(answer, said))
    }

    async fn list_logs(
        &self,
        request: Request<wire::ListLogsRequest>,
    ) -> Result<Response<wire::ListLogsResponse>, Status> {
        let (deadline, request) = open(request);
        let answer = logs::list(&self.context, request, deadline).await?;
        let said = metadata::of(&answer.headers);
        Ok(saying(answer, said))
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
        Ok(saying(stream, metadata::of(&[header])))
    }

    type ReadManyStream = read::ManyAnswers;

    async fn read_many(
        &self,
        request: Request<Streaming<wire::ReadManyRequest>>,
    ) -> Result<Response<Self::ReadManyStream>, Status> {
        Ok(Response::new(read::many(self.context.clone(), request.into_inner())))
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
        Ok(saying(stream, metadata::of(&[header])))
    }
}
