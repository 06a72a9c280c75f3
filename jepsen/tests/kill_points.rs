//! The process dies at each step of log append, vote, truncation, purge, apply, snapshot build,
//! transfer and install, as leader and as follower where both take the step: after the restart
//! nothing acknowledged is missing and the replicas are equal.
//!
//! `QUORATE_CRASH_POINT=log.append` goes through the points that begin so, as leader and as
//! follower; empty, it goes through all. The list of points is the binary's own; a point this test
//! does not know how to reach fails it.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use quorate_jepsen::{
    cluster::{KILLED, PATIENCE, Settings, server_binary, until},
    run::Run,
    workload::Mix,
};
use quorate_jepsen_core::{ids::Node, seed::Seed};

/// What makes a node pass a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Load alone, on a leader as on a follower.
    Load { most: u64 },
    /// An election.
    Election,
    /// Entries that another leader's replace.
    Conflict,
    /// Having been away for longer than the log reaches back.
    Snapshot,
}

fn reach(point: &str) -> Result<Reach> {
    Ok(match point {
        "log.append.queued" | "log.append.written" | "log.append.synced" | "apply.begin"
        | "apply.written" => Reach::Load { most: 400 },
        "log.purge.written"
        | "snapshot.build.begin"
        | "snapshot.build.checkpointed"
        | "snapshot.build.sealed" => Reach::Load { most: 3 },
        "log.segment.rolled" => Reach::Load { most: 1 },
        "log.vote.synced" => Reach::Election,
        "log.truncate.written" => Reach::Conflict,
        point
            if point.starts_with("snapshot.receive.") || point.starts_with("snapshot.install.") =>
        {
            Reach::Snapshot
        }
        point => bail!("crash point {point} is new: say in this test how it is reached"),
    })
}

fn points() -> Result<Vec<String>> {
    let output =
        std::process::Command::new(server_binary()?).arg("--list-crash-points").output()?;
    ensure!(output.status.success(), "--list-crash-points: {}", output.status);
    let points: Vec<_> = String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect();
    ensure!(points.len() >= 17, "only {points:?}");
    Ok(points)
}

/// The last log index a node says it has.
async fn last_index(run: &Run, node: Node) -> Result<u64> {
    let status = run.cluster.api(node)?.status().await?;
    Ok(status.groups.first().context("no group")?.last_log_index)
}

async fn follower(run: &mut Run, seed: &mut Seed) -> Result<Node> {
    let leader = run.cluster.wait_leader().await?.node;
    let others: Vec<_> = run.cluster.nodes().into_iter().filter(|node| *node != leader).collect();
    Ok(*seed.pick(&others))
}

/// Starts a node that will die at `point`.
fn start_armed(run: &mut Run, node: Node, point: &str) -> Result<()> {
    run.recorder.fault(format!("start n{node} to die at {point}"));
    run.cluster.start_node_with(node, &[("QUORATE_CRASH_AT".to_owned(), point.to_owned())])
}

/// Waits for the death, and insists that the point was its cause.
async fn must_die(run: &mut Run, node: Node, point: &str) -> Result<()> {
    let status = run
        .cluster
        .wait_exit(node, PATIENCE)
        .await
        .with_context(|| format!("n{node} never passed {point}"))?;
    ensure!(KILLED(status), "n{node} ended by {status} instead of at {point}");
    run.recorder.fault(format!("n{node} died at {point}"));
    Ok(())
}

async fn under_load(
    run: &mut Run,
    seed: &mut Seed,
    point: &str,
    most: u64,
    lead: bool,
) -> Result<()> {
    let node = follower(run, seed).await?;
    // A leader-to-be passes points while it is still a follower: the count leaves it the time.
    let count = 1 + seed.below(most) + if lead && most > 3 { 300 } else { 0 };
    let point = format!("{point}:{count}");
    run.kill(&[node]).await?;
    start_armed(run, node, &point)?;
    if lead {
        // It may die before it leads; a follower's death at the same point is another good death.
        let deadline = Instant::now() + Duration::from_secs(10);
        while run.cluster.exited(node).is_none() && Instant::now() < deadline {
            let Ok(leader) = run.cluster.leader().await else { continue };
            if leader.node == node {
                run.recorder.fault(format!("n{node} leads"));
                break;
            }
            // Refused while the target is still catching up.
            let _ = run.cluster.api(leader.node)?.transfer_leader(0, node).await;
        }
    }
    must_die(run, node, &point).await
}

async fn in_an_election(run: &mut Run, seed: &mut Seed, point: &str) -> Result<()> {
    let node = follower(run, seed).await?;
    run.kill(&[node]).await?;
    start_armed(run, node, &format!("{point}:1"))?;
    // It may vote at once if the others hold an election just now.
    let leader = run.cluster.wait_leader().await?.node;
    if leader != node {
        run.kill(&[leader]).await?;
    }
    must_die(run, node, point).await
}

/// A leader alone appends what can never be committed; the others go on without it.
async fn in_a_conflict(run: &mut Run, point: &str) -> Result<()> {
    // Whether the others had read all of the leader's entries before they were stopped is a race.
    for _ in 0..10 {
        let leader = run.cluster.wait_leader().await?.node;
        let mut others = run.cluster.nodes();
        others.retain(|node| *node != leader);
        for node in &others {
            run.cluster.signal(*node, libc::SIGSTOP)?;
        }
        // What the clients send now fills the leader's log up to the entries it has in flight.
        let api = run.cluster.api(leader)?;
        let alone = until("entries on the leader alone", Duration::from_secs(2), || {
            let mut api = api.clone();
            async move {
                let status = api.status().await?;
                let group = status.groups.first().context("no group")?;
                let (last, committed) = (group.last_log_index, group.commit_index);
                ensure!(last > committed, "all of {last} is committed");
                Ok((last, committed))
            }
        })
        .await?;
        run.kill(&others).await?;
        run.kill(&[leader]).await?;
        for node in others {
            run.cluster.start_node(node)?;
        }
        run.cluster.wait_leader().await?;
        run.progress(20).await?;
        let (last, committed) = alone;
        run.recorder.fault(format!("n{leader} had entries to {last}, committed to {committed}"));
        start_armed(run, leader, &format!("{point}:1"))?;
        // Either it dies, or its entries turn out to be the others' too.
        let start = Instant::now();
        loop {
            if run.cluster.exited(leader).is_some() {
                return must_die(run, leader, point).await;
            }
            let status = run.cluster.api(leader)?.status().await;
            let group = status.ok().and_then(|status| status.groups.first().cloned());
            if group.is_some_and(|group| group.applied_index > last) {
                break;
            }
            ensure!(start.elapsed() < PATIENCE, "n{leader} neither catches up nor dies");
        }
        run.kill(&[leader]).await?;
        run.start_all()?;
        run.cluster.wait_converged().await?;
    }
    bail!("in ten attempts no leader had an entry that the others lacked")
}

async fn behind_the_log(run: &mut Run, seed: &mut Seed, point: &str) -> Result<()> {
    let node = follower(run, seed).await?;
    run.kill(&[node]).await?;
    let gone_at = {
        let leader = run.cluster.wait_leader().await?.node;
        last_index(run, leader).await?
    };
    let start = Instant::now();
    loop {
        let leader = run.cluster.wait_leader().await?.node;
        let status = run.cluster.api(leader)?.status().await?;
        let purged = status.groups.first().context("no group")?.purged_index;
        if purged > gone_at {
            run.recorder.fault(format!("log purged up to {purged}; n{node} had {gone_at} at most"));
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "purged up to {purged} only, {gone_at} was wanted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let point = format!("{point}:{}", 1 + if point.ends_with(".file") { seed.below(3) } else { 0 });
    start_armed(run, node, &point)?;
    must_die(run, node, &point).await
}

/// Goes through the points of one part, in one role each, drawn from the seed; in both with
/// `QUORATE_CRASH_POINT` set, which is a prefix of the points to go through.
async fn every_step(name: &str, part: fn(Reach) -> bool) -> Result<()> {
    let only = std::env::var("QUORATE_CRASH_POINT").ok();
    let sections = "[log]\nsegment_mb = 16\nretain_mb = 4\n\n[state]\nmemtable_mb = 4\n";
    let settings = Settings { sections: sections.to_owned(), ..Settings::default() };
    let mix = Mix { record_bytes: 1500, ..Mix::default() };
    let mut run = Run::start(name, settings, &mix).await?;
    let mut seed = run.seed.fork("kill-points");
    run.progress(50).await?;
    let mut table = format!("{:<30} {:<9} {:>8}\n", "point", "on", "took");
    for point in points()? {
        let reach = reach(&point)?;
        if !part(reach) || only.as_ref().is_some_and(|only| !point.starts_with(only.as_str())) {
            continue;
        }
        let roles: &[bool] = match reach {
            Reach::Load { .. } if only.is_some() => &[false, true],
            Reach::Load { .. } => seed.pick(&[&[false], &[true]]).as_slice(),
            _ => &[false],
        };
        for lead in roles {
            let start = Instant::now();
            match reach {
                Reach::Load { most } => under_load(&mut run, &mut seed, &point, most, *lead).await,
                Reach::Election => in_an_election(&mut run, &mut seed, &point).await,
                Reach::Conflict => in_a_conflict(&mut run, &point).await,
                Reach::Snapshot => behind_the_log(&mut run, &mut seed, &point).await,
            }
            .with_context(|| point.clone())?;
            run.start_all()?;
            run.progress(10).await.with_context(|| format!("after a death at {point}"))?;
            run.cluster.wait_converged().await.with_context(|| format!("after {point}"))?;
            let role = if *lead { "leader" } else { "follower" };
            writeln!(table, "{point:<30} {role:<9} {:>5} ms", start.elapsed().as_millis())?;
        }
    }
    print!("{table}");
    run.judge(|_, _| Ok(())).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_at_every_step_of_log_and_apply() -> Result<()> {
    every_step("kill-points", |reach| reach != Reach::Snapshot).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_at_every_step_of_a_snapshot_received() -> Result<()> {
    every_step("kill-points-snapshot", |reach| reach == Reach::Snapshot).await
}
