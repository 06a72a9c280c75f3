//! What happens when a leader is killed, and when more comes than can be taken: not one load
//! against several systems that are up together, so each is a measurement with nodes of its own.

use std::{path::Path, process::Stdio};

use serde::de::DeserializeOwned;

use super::super::{failover::Failover, here::beside_this, overload::Overload};
use crate::{args::CompareArgs, exit::Failure, output::Output};

/// Kills of each system in each round.
const KILLS: u32 = 3;
/// Overload lasts this many times as long as other measurements: queues take their time to fill.
const OVERLOAD_TIMES: u32 = 10;

/// Kills leaders of the systems in turns: each system's rounds put together.
///
/// # Errors
/// The load generator can't be run.
pub async fn failover(
    args: &CompareArgs,
    data: &Path,
    output: Output,
) -> Result<Vec<Failover>, Failure> {
    output.note("kill -9 of the leader, 200 appends/s");
    let node = match &args.node {
        Some(path) => path.clone(),
        None => beside_this("quorate-node")?,
    };
    let systems =
        [("quorate", Some(&node)), ("etcd", args.etcd.as_ref()), ("nats", args.nats.as_ref())];
    let systems = systems.into_iter().filter_map(|(name, path)| Some((name, path?)));
    let systems: Vec<(&str, &std::path::PathBuf)> = systems.collect();
    let mut sums: Vec<Option<Failover>> = vec![None; systems.len()];
    for _ in 0..args.rounds {
        for ((name, path), sum) in systems.iter().zip(&mut sums) {
            let words = format!("bench failover --system {name} --kills {KILLS} --data");
            let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            let paths = [data, Path::new("--program"), path.as_path()];
            words.extend(paths.map(|p| p.display().to_string()));
            match child::<Failover>(&words).await {
                Ok(round) => match sum {
                    Some(sum) => sum.join(round),
                    None => *sum = Some(round),
                },
                // The others are worth having all the same.
                Err(failure) => output.note(&format!("  {name}: {}", failure.what)),
            }
        }
    }
    let all: Vec<Failover> = sums.into_iter().flatten().collect();
    for one in &all {
        let times = format!("{:.0} ms median, {:.0} ms longest", one.median_ms, one.longest_ms);
        output.note(&format!("  {:<44}{times}, {} kills", one.system, one.gaps_ms.len()));
    }
    Ok(all)
}

/// Offers Quorate more than it can take.
///
/// # Errors
/// The load generator can't be run, or nothing was acknowledged.
pub async fn overload(
    args: &CompareArgs,
    data: &Path,
    output: Output,
) -> Result<Overload, Failure> {
    output.note("overload");
    let ms = (args.duration * OVERLOAD_TIMES).as_millis();
    let peak = args.duration.as_millis();
    let words = format!("bench overload --duration {ms}ms --peak-duration {peak}ms --data");
    let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    words.push(data.display().to_string());
    if let Some(node) = &args.node {
        words.extend(["--program".into(), node.display().to_string()]);
    }
    let overload: Overload = child(&words).await?;
    let percent = 100.0 * overload.goodput_of_peak;
    output.note(&format!("  {percent:.0} % of the peak at twice the load"));
    Ok(overload)
}

/// This program again, with a report of its own.
async fn child<T: DeserializeOwned>(words: &[String]) -> Result<T, Failure> {
    let exe = std::env::current_exe().map_err(|e| Failure::refused(e.to_string()))?;
    let mut command = tokio::process::Command::new(exe);
    command.args(words).args(["--output", "json"]).stdin(Stdio::null()).kill_on_drop(true);
    let ended = command.output().await;
    let ended = ended.map_err(|e| Failure::refused(format!("the load generator: {e}")))?;
    if !ended.status.success() {
        return Err(super::refusal(&ended.stderr));
    }
    serde_json::from_slice(&ended.stdout)
        .map_err(|e| Failure::refused(format!("the load generator's report: {e}")))
}
