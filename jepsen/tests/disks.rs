//! Disks that lie broken: a torn tail is cut and nothing acknowledged goes with it; a damaged middle
//! refuses to start and says what to do; a failed sync or write ends the node at once, with its own
//! exit code. The other nodes go on meanwhile, and afterwards every replica has everything.

use std::process::ExitStatus;

use anyhow::{Context as _, Result, ensure};
use quorate_jepsen::{
    cluster::{PATIENCE, Settings},
    disk::{Fault, FaultyDisk, batches, damage, tear},
    run::Run,
    workload::Mix,
};
use quorate_jepsen_core::ids::Node;

/// The storage failed (sysexits: EX_IOERR).
const IO_EXIT: i32 = 74;

/// Waits until the node has ended, and gives the last line it wrote.
async fn ended(run: &mut Run, node: Node) -> Result<(ExitStatus, String)> {
    let status = run.cluster.wait_exit(node, PATIENCE).await?;
    let log = run.cluster.log_of_last_life(node)?;
    Ok((status, log.lines().last().unwrap_or_default().to_owned()))
}

/// Starts a node and expects it to catch up.
async fn comes_back(run: &mut Run) -> Result<()> {
    run.start_all()?;
    run.cluster.wait_converged().await?;
    Ok(())
}

async fn torn_tails(run: &mut Run) -> Result<()> {
    let nodes = run.cluster.nodes();
    run.kill(&nodes).await?;
    for node in nodes {
        tear(&run.cluster.log_dir(node))?;
        run.recorder.fault(format!("tore the tail of n{node}'s Raft log"));
    }
    comes_back(run).await?;
    run.progress(50).await
}

async fn damaged_middle(run: &mut Run, node: Node) -> Result<()> {
    run.kill(&[node]).await?;
    let all = batches(&run.cluster.log_dir(node))?;
    ensure!(all.len() > 10, "only {} batches", all.len());
    let batch = &all[all.len() / 2];
    damage(batch)?;
    run.recorder.fault(format!("flipped a bit in batch {} of n{node}", batch.number));
    run.cluster.start_node(node)?;
    let (status, said) = ended(run, node).await?;
    run.recorder.fault(format!("n{node} ended by {status}: {said}"));
    ensure!(status.code() == Some(IO_EXIT), "{status} is not {IO_EXIT}");
    let file = batch.file.file_name().context("a segment has a name")?.to_string_lossy();
    for wanted in [&*file, "damaged", "node id that was never used"] {
        ensure!(said.contains(wanted), "{wanted:?} is not in: {said}");
    }
    run.progress(50).await.context("the others do not go on")?;
    damage(batch)?;
    run.recorder.fault(format!("put n{node}'s bit back"));
    comes_back(run).await
}

/// A node that leads, or one that follows, meets `fault`.
async fn failing(run: &mut Run, fault: Fault, durability: &str, leads: bool) -> Result<()> {
    let leader = run.cluster.wait_leader().await?.node;
    let other = run.cluster.nodes().into_iter().find(|node| *node != leader);
    let node = other.context("no follower")?;
    let disk =
        FaultyDisk::new(run.cluster.dir(), &format!("node{node}"), &run.cluster.data_dir(node))?;
    let mut environment = disk.environment()?;
    environment.push(("QUORATE_LOG_DURABILITY".to_owned(), durability.to_owned()));
    run.kill(&[node]).await?;
    run.cluster.start_node_with(node, &environment)?;
    run.cluster.wait_converged().await?;
    if leads {
        run.make_leader(node).await?;
    }
    disk.set(fault)?;
    let role = if leads { "leader" } else { "follower" };
    run.recorder.fault(format!("{fault:?} on n{node}, {role}, {durability}"));
    let (status, said) = ended(run, node).await?;
    run.recorder.fault(format!("n{node} ended by {status}: {said}"));
    ensure!(disk.done()? > 0, "no call of n{node} met the fault");
    ensure!(said.contains("Check the disk"), "the last line does not say what to do: {said}");
    ensure!(status.code() == Some(IO_EXIT), "{status} is not {IO_EXIT}");
    run.progress(50).await.context("the others do not go on")?;
    comes_back(run).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_damaged_and_failing_disks() -> Result<()> {
    let mut run = Run::start("disks", Settings::default(), &Mix::default()).await?;
    run.progress(100).await?;
    torn_tails(&mut run).await?;
    let leader = run.cluster.wait_leader().await?.node;
    let follower = run.cluster.nodes().into_iter().find(|node| *node != leader);
    damaged_middle(&mut run, follower.context("no follower")?).await?;
    for (fault, durability, leads) in [
        (Fault::SyncError(libc::EIO), "fdatasync", false),
        (Fault::SyncError(libc::EIO), "direct", true),
        (Fault::SyncError(libc::EIO), "fdatasync", true),
        (Fault::WriteError(libc::ENOSPC), "auto", true),
    ] {
        failing(&mut run, fault, durability, leads)
            .await
            .with_context(|| format!("{fault:?}, {durability}, leads: {leads}"))?;
    }
    run.judge(|_, _| Ok(())).await?;
    Ok(())
}
