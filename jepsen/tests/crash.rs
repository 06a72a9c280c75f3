//! kill -9 of any one, any two, all three nodes at random moments under load, round after round:
//! every acknowledged record is there exactly once, in order, equal on all replicas, and nothing
//! that was refused is there.
//!
//! `QUORATE_CRASH_ROUNDS=n` for long runs, `QUORATE_SEED=n` to draw the same rounds again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use quorate_jepsen::{cluster::Settings, run::Run, workload::Mix};
use quorate_jepsen_core::plan::kill_rounds;

const ROUNDS: usize = 9;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_random_moments() -> Result<()> {
    let rounds = match std::env::var("QUORATE_CRASH_ROUNDS") {
        Ok(text) => text.parse().context("QUORATE_CRASH_ROUNDS")?,
        Err(_) => ROUNDS,
    };
    let mut run = Run::start("crash", Settings::default(), &Mix::default()).await?;
    run.progress(50).await?;
    let plan = kill_rounds(&run.seed, &run.cluster.nodes(), rounds);
    println!("{:>5}  {:<10} {:>12} {:>14}", "round", "killed", "acknowledged", "back after");
    for round in plan {
        // The moments are the plan's; what is waited for is progress.
        tokio::time::sleep(Duration::from_millis(round.after_ms)).await;
        run.kill(&round.victims).await?;
        tokio::time::sleep(Duration::from_millis(round.down_ms)).await;
        let before = run.recorder.acknowledged();
        run.start_all()?;
        let start = Instant::now();
        run.progress(20).await.with_context(|| round.to_string())?;
        // All three must be up before the next round, or its majority would not be one.
        run.cluster.wait_converged().await.with_context(|| round.to_string())?;
        let victims: Vec<_> = round.victims.iter().map(|node| format!("n{node}")).collect();
        println!(
            "{:>5}  {:<10} {before:>12} {:>11} ms",
            round.number,
            victims.join("+"),
            start.elapsed().as_millis()
        );
    }
    run.judge(|report, _| {
        ensure!(report.counts.acknowledged > 500, "too little was done");
        ensure!(report.counts.unknown > 0, "no answer was ever lost");
        Ok(())
    })
    .await?;
    Ok(())
}
