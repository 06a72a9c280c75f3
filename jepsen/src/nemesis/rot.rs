//! Reading everything from a node that has a damaged record.

use quorate_jepsen_core::{
    history::Event,
    op::{Answer, Call, Claim, Identity, ReplicaLog},
};

use crate::{
    node_api::NodeApi,
    record::Recorder,
    workload::{REBORN, Workload},
};

/// Reads all logs from this node, for the history; how many of them it refused to show, or showed
/// with damaged bytes.
pub(super) async fn read_everything(api: &mut NodeApi, recorder: &Recorder) -> u64 {
    let process = recorder.process();
    let mut met = 0;
    for log in Workload::logs() {
        let at = recorder.moment();
        match api.show_all(&log).await {
            Ok((replica, _)) if replica.incarnation.is_none() => {}
            Ok((ReplicaLog { incarnation, start_offset, next_offset, batches, .. }, stamp)) => {
                let damaged = batches.iter().flat_map(|batch| &batch.records).any(Option::is_none);
                met += u64::from(damaged);
                let from = batches.first().map_or(start_offset, |batch| batch.first_offset);
                // That name stands for one log after the other. Of the others' pages, the first may be of
                // an older state than the last: no one stamp fits.
                let reborn = log == REBORN;
                let stamp = stamp.filter(|_| reborn);
                let call = Call::Read { log, from, linearizable: false };
                let op = recorder.invoke_at(process, call, at);
                if reborn {
                    let identity = Identity { op, asked: None, answered: incarnation };
                    recorder.add(Event::Identity(identity));
                }
                recorder.answer(op, Answer::Read { batches, next_offset, stamp });
                let node = api.node();
                let (bound_ms, age_ms, served, at_least) = (None, None, None, None);
                recorder.add(Event::Claim(Claim { op, node, bound_ms, age_ms, served, at_least }));
            }
            Err(why) => {
                recorder.fault(format!("n{} does not show {log:?}: {why:#}", api.node()));
                met += 1;
            }
        }
    }
    met
}
