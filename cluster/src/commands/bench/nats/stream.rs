//! JetStream's streams, by its own requests: made, asked after, deleted.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::connection::{Connection, broken};
use crate::{commands::bench::plan::Plan, exit::Failure};

/// How long a stream of three replicas may take to have a leader.
const PATIENCE: Duration = Duration::from_secs(20);

/// A stream that lives as long as a measurement.
pub(super) struct Stream {
    pub(super) name: String,
    /// Where its leader listens: publishing there saves a hop.
    pub(super) leader: String,
}

/// Whether all servers are there and have chosen who keeps the streams' metadata.
///
/// # Errors
/// They haven't.
pub async fn is_ready(endpoints: &[String]) -> Result<(), Failure> {
    for endpoint in endpoints {
        let mut connection = Connection::open(endpoint, 0).await?;
        api(&mut connection, "$JS.API.INFO", &json!({})).await?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct ApiAnswer {
    error: Option<ApiError>,
    cluster: Option<ClusterInfo>,
}

#[derive(Deserialize)]
struct ApiError {
    description: String,
}

#[derive(Deserialize)]
struct ClusterInfo {
    leader: Option<String>,
    #[serde(default)]
    replicas: Vec<ReplicaInfo>,
}

/// A replica that does not lead.
#[derive(Deserialize)]
struct ReplicaInfo {
    #[serde(default)]
    current: bool,
    #[serde(default)]
    offline: bool,
}

impl Stream {
    pub(super) async fn create(plan: &Plan, replicas: u32) -> Result<Self, Failure> {
        let run = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("bench-{}", &run[..8]);
        make_stream(&plan.endpoints[0], &name, replicas).await?;
        let mut first = Connection::open(&plan.endpoints[0], 0).await?;
        let end = Instant::now() + PATIENCE;
        loop {
            let answer =
                api(&mut first, &format!("$JS.API.STREAM.INFO.{name}"), &json!({})).await?;
            if let Some(leader) = answer.cluster.and_then(|c| c.leader) {
                for endpoint in &plan.endpoints {
                    if Connection::open(endpoint, 0).await?.server == leader {
                        return Ok(Self { name, leader: endpoint.clone() });
                    }
                }
                let what =
                    format!("server {leader} leads the stream, and is not among the endpoints");
                return Err(Failure::refused(what));
            }
            if Instant::now() > end {
                return Err(Failure::refused(format!("stream {name} has no leader")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) async fn delete(&self) -> Result<(), Failure> {
        let mut connection = Connection::open(&self.leader, 0).await?;
        api(&mut connection, &format!("$JS.API.STREAM.DELETE.{}", self.name), &json!({})).await?;
        Ok(())
    }
}

/// Makes a stream of that name, with a subject of the same name.
///
/// # Errors
/// NATS's refusal.
pub async fn make_stream(endpoint: &str, name: &str, replicas: u32) -> Result<(), Failure> {
    let mut connection = Connection::open(endpoint, 0).await?;
    let config = json!({
        "name": name, "subjects": [name], "num_replicas": replicas, "storage": "file",
        "retention": "limits", "discard": "old",
    });
    api(&mut connection, &format!("$JS.API.STREAM.CREATE.{name}"), &config).await?;
    Ok(())
}

/// Which of the servers leads a stream, once all its replicas are there and have everything.
///
/// # Errors
/// Not yet.
pub async fn stream_leader(endpoints: &[String], name: &str) -> Result<usize, Failure> {
    let mut servers = Vec::new();
    let mut last = None;
    for endpoint in endpoints {
        let connection = Connection::open(endpoint, 0).await?;
        servers.push(connection.server.clone());
        last = Some(connection);
    }
    let mut connection = last.ok_or_else(|| Failure::usage("no endpoints"))?;
    let info = api(&mut connection, &format!("$JS.API.STREAM.INFO.{name}"), &json!({})).await?;
    let cluster = info.cluster.ok_or_else(|| broken(name, "it has no cluster"))?;
    if !cluster.replicas.iter().all(|r| r.current && !r.offline) {
        return Err(broken(name, "a replica is behind"));
    }
    let leads = |server: &String| cluster.leader.as_ref() == Some(server);
    servers.iter().position(leads).ok_or_else(|| broken(name, "it has no leader"))
}

async fn api(
    connection: &mut Connection,
    subject: &str,
    request: &serde_json::Value,
) -> Result<ApiAnswer, Failure> {
    let answer = connection.ask(subject, request).await?;
    let answer: ApiAnswer =
        serde_json::from_slice(&answer).map_err(|e| broken(&connection.server, e))?;
    match answer.error {
        Some(error) => Err(broken(&connection.server, error.description)),
        None => Ok(answer),
    }
}
