//! A follower that was away for longer than the log reaches back catches up by snapshot while
//! appends go on, with bounded memory on both sides; and disk use of the Raft log stays bounded
//! over a long run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use quorate_jepsen::{
    cluster::{PATIENCE, Settings, until},
    run::Run,
    workload::Mix,
};

const MIB: u64 = 1024 * 1024;

const RETAIN_MB: u64 = 16;
const SEGMENT_MB: u64 = 16;

/// What a node may use of the disk for its Raft log when nobody is behind: the retention; the
/// segment being written, the one prepared ahead, the one being recycled, the one half purged; and
/// what is written until purging is looked at again.
const LOG_BYTES_STEADY: u64 = (RETAIN_MB + 4 * SEGMENT_MB + 64) * MIB;

/// Purging is looked at every second and goes no further than the newest snapshot, which is as old
/// when it is looked at; taking one takes a moment. Large batches leave a third of their segments
/// empty. So under load this much more than [`LOG_BYTES_STEADY`] for each byte written in a second.
const LOG_SECONDS: f64 = 3.0 * 1.5;

/// Of values, in an append on average.
const APPEND_BYTES: f64 = 64.0 * 1024.0;

/// More than a node of these settings needs, less than the snapshot it sends or receives.
const GROWTH_AT_MOST: u64 = 96 * MIB;

/// State to be there before the follower comes back.
const STATE_BYTES: u64 = 384 * MIB;

/// Appends at full speed while the snapshot is on its way: two retentions.
/// With what is in flight then, and what comes at a slower pace, the log behind the snapshot would
/// be gone if nobody waited for the replica. It stays well below the eight retentions that are
/// waited for, also where large batches leave a third of their segments empty.
const APPENDS_AT_SPEED: usize = 512;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_snapshot_under_load_with_bounded_memory_and_disk() -> Result<()> {
    let sections = format!(
        "[log]\nsegment_mb = {SEGMENT_MB}\nretain_mb = {RETAIN_MB}\ncache_mb = 8\n\n[state]\n\
         memtable_mb = 8\nblock_cache_mb = 8\n\n[limits]\ninflight_mb = 8\n"
    );
    let settings = Settings { sections, ..Settings::default() };
    let mix = Mix { record_bytes: 16 * 1024, ..Mix::default() };
    let mut run = Run::start("catch-up", settings, &mix).await?;
    run.progress(20).await?;
    let leader = run.cluster.wait_leader().await?.node;
    let nodes = run.cluster.nodes();
    let away = *nodes.iter().find(|node| **node != leader).context("no follower")?;
    let behind = run.cluster.api(away)?.status().await?;
    let behind = behind.groups.first().context("no group")?.last_log_index;
    run.kill(&[away]).await?;

    // Load until the log no longer reaches back, and the state is worth a transfer.
    let start = Instant::now();
    let before = run.recorder.acknowledged();
    let mut most_log = 0;
    loop {
        let leader = run.cluster.wait_leader().await?.node;
        let status = run.cluster.api(leader)?.status().await?;
        let (group, disk) =
            (status.groups.first().context("no group")?, status.disk.unwrap_or_default());
        most_log = most_log.max(disk.log_bytes);
        let appended = (run.recorder.acknowledged() - before) as f64 * APPEND_BYTES;
        let pace = appended / start.elapsed().as_secs_f64();
        let allowed = LOG_BYTES_STEADY + (pace * LOG_SECONDS) as u64;
        ensure!(
            disk.log_bytes <= allowed,
            "the Raft log takes {} MiB, {} allowed at {} MiB/s",
            disk.log_bytes / MIB,
            allowed / MIB,
            pace as u64 / MIB
        );
        if group.purged_index > behind && disk.state_bytes > STATE_BYTES {
            run.recorder.fault(format!(
                "purged to {} (n{away} had {behind}), state {} MiB, Raft log {} MiB",
                group.purged_index,
                disk.state_bytes / MIB,
                disk.log_bytes / MIB
            ));
            break;
        }
        ensure!(start.elapsed() < 3 * PATIENCE, "purged to {} only: {disk:?}", group.purged_index);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let leader = run.cluster.wait_leader().await?.node;
    let before = run.cluster.memory(leader)?.resident;
    run.cluster.start_node(away)?;
    let start = Instant::now();
    let acknowledged = run.recorder.acknowledged();
    let (mut most_sender, mut most_receiver) = (0, 0);
    loop {
        most_sender = most_sender.max(run.cluster.memory(leader)?.resident);
        most_receiver = most_receiver.max(run.cluster.memory(away)?.resident);
        if run.recorder.acknowledged() - acknowledged > APPENDS_AT_SPEED {
            run.workload.set_pause(Duration::from_millis(200));
        }
        let (mut there, mut here) = (run.cluster.api(leader)?, run.cluster.api(away)?);
        if let (Ok(there), Ok(here)) = (there.status().await, here.status().await) {
            let there = there.groups.first().context("no group")?.commit_index;
            let here = here.groups.first().context("no group")?;
            // As near as a follower is under load.
            if here.applied_index + 100 > there {
                break;
            }
        }
        ensure!(start.elapsed() < 2 * PATIENCE, "n{away} does not catch up under load");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let meanwhile = run.recorder.acknowledged() - acknowledged;
    let log = run.cluster.log_of_last_life(away)?;
    let installed = log.lines().filter(|line| line.contains("snapshot installed")).count();
    run.recorder.fault(format!(
        "n{away} caught up in {} ms by {installed} snapshot(s), {meanwhile} appends meanwhile; \
         resident: sender {} -> at most {} MiB, receiver at most {} MiB; Raft log at most {} MiB",
        start.elapsed().as_millis(),
        before / MIB,
        most_sender / MIB,
        most_receiver / MIB,
        most_log / MIB
    ));
    let leader = run.cluster.wait_leader().await?.node;
    let api = run.cluster.api(leader)?;
    until("the Raft log back to its retention", PATIENCE, || {
        let mut api = api.clone();
        async move {
            let used = api.status().await?.disk.unwrap_or_default().log_bytes;
            ensure!(used <= LOG_BYTES_STEADY, "{} MiB, {LOG_BYTES_STEADY} B allowed", used / MIB);
            Ok(())
        }
    })
    .await?;
    ensure!(meanwhile > 0, "appends stood still meanwhile");
    // The log behind the first one was kept, so the rest came as entries.
    ensure!(installed == 1, "{installed} snapshots were installed");
    ensure!(most_sender < before + GROWTH_AT_MOST, "the sender grew to {} MiB", most_sender / MIB);
    ensure!(
        most_receiver < before + GROWTH_AT_MOST,
        "the receiver grew to {} MiB",
        most_receiver / MIB
    );
    run.judge(|_, _| Ok(())).await?;
    Ok(())
}
