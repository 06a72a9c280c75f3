//! Quorate itself.

use super::{Id, NODES, Program, Running};
use crate::{args::LocalArgs, commands::config, exit::Failure};

/// Starts it.
///
/// # Errors
/// It does not come up.
pub async fn start(program: &Program<'_>) -> Result<Running, Failure> {
    program.prepare()?;
    let version = program.version("--version")?;
    let arguments = LocalArgs {
        nodes: NODES,
        dir: program.dir.clone(),
        groups: 1,
        // The other two ports of a node are 100 and 200 above.
        base_port: program.ports(200 + NODES)?,
        cluster_id: None,
        force: true,
    };
    let written = config::write(&arguments)?;
    let mut nodes = Vec::new();
    for (number, config) in (1..).zip(written.configs()) {
        nodes.push(program.start(number, &["--config".into(), config.display().to_string()])?);
    }
    let endpoints = written.endpoints;
    let client = quorate_client::Client::builder().endpoints(endpoints.iter().cloned()).build()?;
    program.ready(&mut nodes, || async { Ok(client.create_log("ready", true).await?) }).await?;
    client.delete_log("ready", None).await?;
    Ok(Running {
        id: Id::Quorate,
        name: program.name,
        version,
        settings: "defaults, one group",
        acknowledges: "synced to disk by a majority",
        // The SDK finds the leader by itself.
        writers: endpoints.clone(),
        endpoints,
        nodes,
    })
}
