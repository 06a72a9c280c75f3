//! Puts a node together, runs it, and takes it apart again.
//!
//! - `parts`: everything that is built at start, in order: identity and lock, log store, state
//!   machines, cores.
//! - `bootstrap`: the first start of a cluster.
//! - `compare`: this replica against the others; one that differs goes.
//! - `serve`: the listeners; `gather`: fewer system calls on clients' connections.
//! - `stop`: refuse, drain, hand the leadership over, stop the cores, flush, close.
//! - `vitals`: what the operator's side (HTTP, metrics) asks.
mod bootstrap;
mod compare;
mod gather;
mod parts;
mod serve;
mod stop;
mod vitals;

use std::sync::Arc;

use self::parts::Parts;
use crate::{
    config::Config,
    observe::exit::ExitCode,
    runtime::{self, Edge},
    shutdown::Signals,
};

/// Why a node ended. The message is its last log line.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fatal {
    /// For the process.
    pub code: ExitCode,
    /// What happened, and what to do.
    pub message: String,
}

impl Fatal {
    fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Runs a node until it is told to stop, or can't go on.
///
/// # Errors
/// [`Fatal`], with the exit code that says what kind it is.
pub async fn run(config: Config, edge: Edge) -> Result<(), Fatal> {
    // Signals first: a stop that comes during the start must not be lost.
    let no_signals = |e: std::io::Error| {
        Fatal::new(ExitCode::Software, format!("can't listen for signals: {e}"))
    };
    let mut signals = Signals::listen().map_err(no_signals)?;
    let config = Arc::new(config);
    let parts = Parts::open(config.clone()).await?;
    let servers = serve::start(&parts, &edge).await?;
    tracing::info!(
        node = config.node_id,
        client = %config.listen.client,
        peer = %config.listen.peer,
        http = %config.listen.http,
        groups = config.groups,
        durability = parts.log_store.durability(),
        "serving"
    );
    let bootstrap = runtime::spawn(bootstrap::run(parts.bootstrap_facts()));
    let ended = tokio::select! {
        signal = signals.first() => signal.map_err(no_signals),
        fatal = watch(&parts) => Err(fatal),
        fatal = servers.failed() => Err(fatal),
        fatal = bootstrap::failed(bootstrap) => Err(fatal),
    };
    // On an error nothing is drained: what is durable is durable, and nothing else can be trusted.
    tracing::info!(signal = ended?, "stopping");
    stop::in_order(parts, servers).await;
    Ok(())
}

/// Resolves when something that the node can't live without has failed.
async fn watch(parts: &Parts) -> Fatal {
    let mut failed = parts.log_store.failed();
    let log_failed = async {
        match failed.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "its thread is gone".to_owned(),
        }
    };
    let mut refusals = parts.peer_client.refusals().subscribe();
    let refused = async {
        let all = refusals.wait_for(|all| all.values().any(|r| r.must_stop())).await;
        let refusal = all.ok().and_then(|all| all.values().find(|r| r.must_stop()).cloned());
        match refusal {
            Some(refusal) => refusal,
            // The parts outlive this future, and the predicate held.
            _ => std::future::pending().await,
        }
    };
    let groups = parts.groups.iter().map(|g| Box::pin(g.group.stopped()));
    let stopped = futures::future::select_all(groups);
    let different = {
        let groups = parts.groups.iter().map(|parts| parts.group.clone()).collect();
        compare::until_different(parts.config.clone(), groups)
    };
    tokio::select! {
        // A failed log also stops the cores: say the cause, not the consequence.
        biased;
        why = log_failed => Fatal::new(
            ExitCode::Io,
            format!(
                "the Raft log could not be written ({why}); stopping at once, because what the \
                 disk holds now is unknown. Check the disk, then start this node again: what it \
                 has acknowledged is on its disk or on a quorum of the others"
            ),
        ),
        refusal = refused => Fatal::new(
            ExitCode::Config,
            format!("node at {} refuses this node: {}", refusal.address, refusal.message),
        ),
        fatal = different => fatal,
        (why, group, _) = stopped => {
            // Give the log's own failure a moment to be seen as the cause.
            match parts.log_store.failed().borrow().clone() {
                Some(cause) => Fatal::new(
                    ExitCode::Io,
                    format!("the Raft log could not be written ({cause}); stopping at once"),
                ),
                None => Fatal::new(
                    ExitCode::Software,
                    format!("group {group} stopped: {why}"),
                ),
            }
        }
    }
}
