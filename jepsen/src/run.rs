//! One run: a cluster, its clients and its history, from the seed to the verdict.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use quorate_jepsen_core::{check::Report, history::History, ids::Node, seed::Seed};

use crate::{
    cluster::{Cluster, KILLED, PATIENCE, Settings, Unhealthy},
    readback,
    record::Recorder,
    workload::{Mix, Workload},
};

/// A cluster under load.
#[derive(Debug)]
pub struct Run {
    /// The nodes.
    pub cluster: Cluster,
    /// The history.
    pub recorder: Recorder,
    /// Everything random is drawn from it.
    pub seed: Seed,
    /// The clients.
    pub workload: Workload,
}

/// The seed: `QUORATE_SEED`, or a fresh one.
///
/// # Errors
/// The variable is no number.
pub fn chosen_seed() -> Result<u64> {
    match std::env::var("QUORATE_SEED") {
        Ok(text) => text.parse().with_context(|| format!("QUORATE_SEED={text}")),
        Err(_) => fresh_seed(),
    }
}

/// A seed that was probably never used before.
///
/// # Errors
/// The clock is before 1970.
pub fn fresh_seed() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::from(now.subsec_nanos()) ^ now.as_secs() << 20)
}

/// Waits until clients had this many more appends acknowledged.
///
/// # Errors
/// They had not in time; the cluster does not serve.
pub async fn progress(recorder: &Recorder, appends: usize) -> Result<()> {
    let target = recorder.acknowledged() + appends;
    let what = format!("{appends} more acknowledged appends");
    crate::cluster::until(&what, PATIENCE, || {
        let now = recorder.acknowledged();
        async move {
            anyhow::ensure!(now >= target, "{} are missing", target - now);
            Ok(())
        }
    })
    .await
    .map_err(|why| Unhealthy(format!("{why:#}")).into())
}

impl Run {
    /// Starts nodes, waits for a leader, and lets clients loose.
    ///
    /// # Errors
    /// Any of that failed.
    pub async fn start(name: &str, settings: Settings, mix: &Mix) -> Result<Self> {
        let number = chosen_seed()?;
        let seed = Seed::new(number);
        let mut cluster = Cluster::new(name, settings)?;
        let recorder = Recorder::new(cluster.dir(), name, number)?;
        println!("{name}: QUORATE_SEED={number}, in {}", cluster.dir().display());
        for node in cluster.nodes() {
            cluster.start_node(node)?;
        }
        let leader = cluster.wait_leader().await?;
        recorder.fault(format!("n{} leads term {}", leader.node, leader.term));
        let workload = Workload::start(cluster.endpoints(), &recorder, &seed, mix).await?;
        Ok(Self { cluster, recorder, seed, workload })
    }

    /// Waits until clients had this many more appends acknowledged.
    ///
    /// # Errors
    /// They had not in time; the cluster does not serve.
    pub async fn progress(&mut self, appends: usize) -> Result<()> {
        progress(&self.recorder, appends).await
    }

    /// Starts the nodes that do not run.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn start_all(&mut self) -> Result<()> {
        let running = self.cluster.running();
        for node in self.cluster.nodes() {
            if !running.contains(&node) {
                self.cluster.start_node(node)?;
            }
        }
        Ok(())
    }

    /// Hands the leadership of group 0 to a node, and waits until it has it.
    ///
    /// # Errors
    /// It does not get it in time.
    pub async fn make_leader(&mut self, node: Node) -> Result<()> {
        let start = std::time::Instant::now();
        loop {
            let leader = self.cluster.wait_leader().await?;
            if leader.node == node {
                self.recorder.fault(format!("n{node} leads term {}", leader.term));
                return Ok(());
            }
            // Refused while the target is still catching up.
            let refused = self.cluster.api(leader.node)?.transfer_leader(0, node).await.err();
            if start.elapsed() > PATIENCE {
                anyhow::bail!("n{node} does not take over: {refused:?}");
            }
        }
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// One of them did not run.
    pub async fn kill(&mut self, nodes: &[Node]) -> Result<()> {
        let names: Vec<_> = nodes.iter().map(|node| format!("n{node}")).collect();
        self.recorder.fault(format!("kill -9 {}", names.join(" ")));
        self.cluster.kill(nodes).await
    }

    /// Stops the clients and judges; `also` is what this scenario wants beyond a valid history.
    ///
    /// # Errors
    /// A node ended by itself, the replicas did not converge, the verdict is not valid, or `also`
    /// was not satisfied. The folder of the run is kept then.
    pub async fn judge(self, also: impl FnOnce(&Report, &History) -> Result<()>) -> Result<Report> {
        let Self { mut cluster, recorder, workload, .. } = self;
        workload.stop().await?;
        for node in cluster.nodes() {
            if let Some(status) = cluster.exited(node)
                && !KILLED(status)
            {
                let log = cluster.log_of_last_life(node)?;
                let last = log.lines().last().unwrap_or_default().to_owned();
                anyhow::bail!("node {node} ended by itself, {status}: {last}");
            }
        }
        let report = readback::judge(&mut cluster, &recorder, &Workload::logs()).await?;
        also(&report, &recorder.history()?)?;
        cluster.finish();
        Ok(report)
    }
}
