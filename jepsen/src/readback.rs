//! After the run: everything every replica serves, its digest, and the verdict.

use anyhow::{Result, bail};
use quorate_jepsen_core::{
    check::{Report, Verdict, check},
    history::Event,
    op::ReplicaDigest,
};

use crate::{
    cluster::{Cluster, PATIENCE, until},
    node_api::hex,
    record::Recorder,
};

/// Waits until all replicas have caught up, reads all of them, and judges.
///
/// # Errors
/// They do not converge or answer, or the verdict is not [`Verdict::Valid`].
pub async fn judge(cluster: &mut Cluster, recorder: &Recorder, logs: &[String]) -> Result<Report> {
    collect(cluster, recorder, logs).await?;
    let history = recorder.history()?;
    let report = check(&history);
    print!("{report}");
    match report.verdict() {
        Verdict::Valid => Ok(report),
        verdict => bail!(
            "{} with seed {}: {verdict:?}\n{report}history: {}",
            history.name,
            history.seed,
            recorder.path().display()
        ),
    }
}

/// Reads every replica and its digest into the history.
///
/// # Errors
/// They do not converge or answer.
pub async fn collect(cluster: &mut Cluster, recorder: &Recorder, logs: &[String]) -> Result<()> {
    let leader = cluster.wait_converged().await?;
    recorder.fault(format!("converged; n{} leads term {}", leader.node, leader.term));
    recorder.add(Event::Expect { replicas: cluster.nodes().len() });
    // The leader may change under a marker, and whoever leads then places it.
    let apis = cluster.nodes().into_iter().map(|node| cluster.api(node));
    let apis = apis.collect::<Result<Vec<_>>>()?;
    let mut turn = 0;
    let mark = until("placing a digest marker", PATIENCE, || {
        let mut api = apis[turn % apis.len()].clone();
        turn += 1;
        async move { api.mark_digest(0).await }
    })
    .await?;
    for node in cluster.nodes() {
        let mut api = cluster.api(node)?;
        let digest = api.digest_at(0, mark.log_index).await?;
        recorder.add(Event::Digest(ReplicaDigest {
            node,
            group: 0,
            log_index: digest.log_index,
            digest: hex(&digest.digest),
        }));
        for log in logs {
            recorder.add(Event::Replica(api.read_all(log).await?));
        }
    }
    Ok(())
}
