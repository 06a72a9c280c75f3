//! Quorate itself.

use super::{Id, NODES, Program, Running};
use crate::{args::LocalArgs, commands::config, exit::Failure};

/// What is not as the configuration comes.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Nodes.
    pub nodes: u16,
    /// Raft groups.
    pub groups: u32,
    /// `KEY=VALUE`, as `--set` of `quorate-node` takes it.
    pub settings: Vec<String>,
}

impl Shape {
    /// Defaults, with so many groups.
    #[must_use]
    pub fn groups(groups: u32) -> Self {
        Self { nodes: NODES, groups, settings: Vec::new() }
    }
}

/// How the nodes of [`start`] are reached apart from their clients' port.
pub struct Http(Vec<String>);

impl Http {
    /// `HOST:PORT` of a node's metrics.
    #[must_use]
    pub fn of(&self, node: usize) -> &str {
        &self.0[node]
    }
}

/// Starts it.
///
/// # Errors
/// It does not come up.
pub async fn start(program: &Program<'_>, shape: &Shape) -> Result<(Running, Http), Failure> {
    program.prepare()?;
    let version = program.version("--version")?;
    let arguments = LocalArgs {
        nodes: shape.nodes,
        dir: program.dir.clone(),
        groups: shape.groups,
        // The other two ports of a node are 100 and 200 above.
        base_port: program.ports(200 + shape.nodes)?,
        cluster_id: None,
        force: true,
    };
    let written = config::write(&arguments)?;
    let words = |config: &std::path::Path| {
        let mut words = vec!["--config".to_owned(), config.display().to_string()];
        words.extend(shape.settings.iter().flat_map(|s| ["--set".to_owned(), s.clone()]));
        words
    };
    let arguments: Vec<Vec<String>> = written.configs().map(words).collect();
    let mut nodes = program.start_all(&arguments)?;
    let http = Http(written.http().map(str::to_owned).collect());
    let endpoints = written.endpoints;
    let client = quorate_client::Client::builder().endpoints(endpoints.iter().cloned()).build()?;
    program.ready(&mut nodes, || async { Ok(client.create_log("ready", true).await?) }).await?;
    client.delete_log("ready", None).await?;
    let (id, settings) = match shape.groups {
        1 => (Id::Quorate, "defaults, one group"),
        _ => (Id::QuorateGroups, "defaults, four groups"),
    };
    let running = Running {
        id,
        name: program.name,
        version,
        settings,
        acknowledges: "synced to disk by a majority",
        // The SDK finds the leader by itself.
        writers: endpoints.clone(),
        endpoints,
        nodes,
        arguments,
    };
    Ok((running, http))
}
