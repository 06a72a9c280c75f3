//! Connections below the SDK.

use std::time::Duration;

use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::plan::Plan;
use crate::exit::Failure;

/// Making a connection on a reachable network takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// No answer for this long counts as a failure: far above any latency worth reporting.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The plan's connections, round robin over its endpoints.
///
/// # Errors
/// When an endpoint cannot be reached.
pub async fn channels(plan: &Plan) -> Result<Vec<Channel>, Failure> {
    let mut channels = Vec::with_capacity(plan.connections as usize);
    for i in 0..plan.connections as usize {
        channels.push(channel(&plan.endpoints[i % plan.endpoints.len()]).await?);
    }
    Ok(channels)
}

/// A connection to one endpoint.
///
/// # Errors
/// When it cannot be reached.
pub async fn channel(address: &str) -> Result<Channel, Failure> {
    let unreachable = |why: &dyn std::fmt::Display| {
        Failure::refused(format!("{address} cannot be reached: {why}"))
            .advise("check that it runs, and the --endpoints")
    };
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|e| unreachable(&e))?;
    let endpoint =
        endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(REQUEST_TIMEOUT).tcp_nodelay(true);
    endpoint.connect().await.map_err(|e| unreachable(&innermost(&e)))
}

/// The cause at the bottom: "connection refused" rather than "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// A status as it comes from a system that isn't Quorate.
#[must_use]
pub fn status_failure(status: &Status) -> Failure {
    Failure::unknown(format!("{}: {}", status.code(), status.message()))
}
