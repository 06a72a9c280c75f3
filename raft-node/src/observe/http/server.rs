//! Connections of the HTTP endpoint, bounded in number and in time. One request per connection:
//! scrapers and probes come every few seconds, and a connection that ends with its answer can't
//! be held open by a client that is slow on purpose or dead.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::runtime;

/// Connections at a time; further ones wait in the kernel's queue.
pub(super) const MAX_CONNECTIONS: u32 = 64;

/// From accepted to closed, whatever the client does.
pub(super) const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// Request line and headers.
pub(super) const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Between two attempts when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At the end, for answers that are being written.
const DRAIN: Duration = Duration::from_secs(1);

pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    stopped: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    tokio::select! {
        () = accept(listener, router, permits.clone()) => {}
        () = stopped => {}
    }
    // All permits back means all connections closed; after the limit they are left to the end of
    // the process.
    let _ = runtime::timeout(DRAIN, permits.acquire_many(MAX_CONNECTIONS)).await;
}

async fn accept(listener: TcpListener, router: Router, permits: Arc<Semaphore>) {
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            unreachable!("the semaphore is never closed");
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                runtime::spawn(connection(stream, router.clone(), permit));
            }
            // The client was gone before it was accepted.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            // Out of descriptors or memory: the node's real work goes on, and so does this, later.
            Err(error) => {
                tracing::warn!(%error, "HTTP: can't accept a connection");
                runtime::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, permit: OwnedSemaphorePermit) {
    let serving = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEADER_BYTES)
        .header_read_timeout(None) // CONNECTION_LIMIT covers it, on the runtime's own clock.
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match runtime::timeout(CONNECTION_LIMIT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "HTTP: a connection broke"),
        Err(_) => tracing::debug!("HTTP: a connection took too long and was closed"),
    }
    drop(permit);
}
