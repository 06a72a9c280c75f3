//! SIGTERM on each node in turn under load: it ends with 0 in bounded time, nothing is lost, a
//! producer that retries has every batch acknowledged, and the pause is short.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use quorate_jepsen::{
    cluster::Settings, direct::NO_ANSWER, record::Recorder, run::Run, workload::Mix,
};
use quorate_jepsen_core::op::Answer;

/// Longer than the drain and the hand-over of a busy node on a busy machine.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// No client may be without an acknowledgement for longer. A hand-over takes about a heartbeat, an
/// election after a crash one to two seconds, but a busy machine may take many times as long:
/// what is measured is printed.
const PAUSE_AT_MOST: Duration = Duration::from_secs(20);

/// The longest time without an acknowledgement, sampled.
async fn longest_pause(recorder: Recorder, stop: Arc<AtomicBool>) -> Duration {
    let (mut seen, mut since, mut longest) = (0, Instant::now(), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let now = recorder.acknowledged();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        longest = longest.max(since.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_on_each_node_in_turn() -> Result<()> {
    let mut run = Run::start("graceful", Settings::default(), &Mix::default()).await?;
    run.progress(100).await?;
    let mut table = format!("{:<5} {:<9} {:>10} {:>12}\n", "node", "was", "ended in", "pause");
    // Twice around, and the leader of the moment once more, so that leaders are hit for certain.
    let mut turns = run.cluster.nodes();
    turns.extend(run.cluster.nodes());
    turns.push(run.cluster.wait_leader().await?.node);
    for node in turns {
        let leads = run.cluster.wait_leader().await?.node == node;
        let stop = Arc::new(AtomicBool::new(false));
        let watch = tokio::spawn(longest_pause(run.recorder.clone(), stop.clone()));
        run.recorder.fault(format!("SIGTERM n{node}"));
        let start = Instant::now();
        run.cluster.terminate(node)?;
        let status = run.cluster.wait_exit(node, STOP_WITHIN).await?;
        let ended = start.elapsed();
        ensure!(status.success(), "n{node} ended by {status}");
        run.progress(50).await.with_context(|| format!("after SIGTERM on n{node}"))?;
        stop.store(true, Ordering::Relaxed);
        let pause = watch.await?;
        let was = if leads { "leader" } else { "follower" };
        let (ended, pause_ms) = (ended.as_millis(), pause.as_millis());
        table += &format!("n{node:<4} {was:<9} {ended:>7} ms {pause_ms:>9} ms\n");
        ensure!(pause < PAUSE_AT_MOST, "no acknowledgement for {pause:?} after SIGTERM on n{node}");
        run.start_all()?;
        run.cluster.wait_converged().await?;
    }
    print!("{table}");
    run.judge(|report, history| {
        ensure!(report.counts.unknown_present == 0, "a stored append was not answered");
        let open = history.ops.iter().find(|op| match &op.answer {
            // A request that met a closing connection on its way was never a node's.
            Answer::Unknown { kind } => kind != NO_ANSWER,
            _ => false,
        });
        ensure!(open.is_none(), "a node left an answer open: {open:?}");
        Ok(())
    })
    .await?;
    Ok(())
}
