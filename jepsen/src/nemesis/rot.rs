//! Reading everything from a node that has a damaged record, and what shows that it was met.
//!
//! A node that does not answer may have met it or not. So only its own word counts: the kind of a
//! refusal, the log of a node that stopped by itself. Or the damaged bytes themselves.

use std::{ops::AddAssign, process::ExitStatus};

use anyhow::Result;
use quorate_jepsen_core::{
    history::Event,
    ids::Node,
    op::{Answer, Call, Claim, Identity, ReplicaLog},
};
use quorate_proto::v1::ErrorKind;
use tonic::Status;

use crate::{
    cluster::Cluster,
    direct::Failure,
    node_api::NodeApi,
    record::Recorder,
    workload::{REBORN, Workload},
};

/// In a node's log, of its state: its own words, or RocksDB's.
const DAMAGED: [&str; 3] = [" is damaged: ", "damaged state: ", "Corruption: "];

/// What came of looking for the damage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Met {
    /// Logs that a node refused to show because of damage, or showed with damaged bytes.
    pub damaged: u64,
    /// Nodes that stopped by themselves over damage.
    pub stopped: u64,
    /// Logs of which nothing is known: no answer, or a refusal for another reason. A node that is
    /// not up counts as one.
    pub unknown: u64,
}

impl AddAssign for Met {
    fn add_assign(&mut self, other: Self) {
        self.damaged += other.damaged;
        self.stopped += other.stopped;
        self.unknown += other.unknown;
    }
}

impl Met {
    /// How often the damage was met.
    pub(super) fn count(self) -> u64 {
        self.damaged + self.stopped
    }

    /// Who met it.
    pub(super) fn in_words(self) -> String {
        let read = format!("{} damaged logs met by readers", self.damaged);
        let stopped = format!("{} nodes stopped themselves over damage", self.stopped);
        match (self.damaged, self.stopped) {
            (_, 0) => read,
            (0, _) => stopped,
            _ => format!("{read}, {stopped}"),
        }
    }
}

/// Whether the damage is to be looked for, after what came of it the last time: where something is
/// not known, the damage may be in that.
pub(super) fn look_again(last: Option<Met>) -> bool {
    last.is_none_or(|met| met.count() == 0 && met.unknown > 0)
}

/// Looks for the damage on one node.
///
/// # Errors
/// Its log can't be read.
pub(super) async fn look(cluster: &mut Cluster, node: Node, recorder: &Recorder) -> Result<Met> {
    let mut api = cluster.api(node)?;
    if api.status().await.is_ok() {
        return Ok(read_everything(&mut api, recorder).await);
    }
    // Not up yet, or no longer.
    let Some(status) = cluster.exited(node) else { return Ok(of_end(false)) };
    Ok(of_end(ended_over_damage(status, &cluster.log_of_last_life(node)?)))
}

/// What a node shows that is not up.
fn of_end(over_damage: bool) -> Met {
    let stopped = u64::from(over_damage);
    Met { stopped, unknown: 1 - stopped, ..Met::default() }
}

/// Reads all logs from this node, for the history.
async fn read_everything(api: &mut NodeApi, recorder: &Recorder) -> Met {
    let process = recorder.process();
    let mut met = Met::default();
    for log in Workload::logs() {
        let at = recorder.moment();
        match api.show_all(&log).await {
            Ok((replica, _)) if replica.incarnation.is_none() => {}
            Ok((ReplicaLog { incarnation, start_offset, next_offset, batches, .. }, stamp)) => {
                let damaged = batches.iter().flat_map(|batch| &batch.records).any(Option::is_none);
                met.damaged += u64::from(damaged);
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
                match is_of_damage(&why) {
                    true => met.damaged += 1,
                    false => met.unknown += 1,
                }
            }
        }
    }
    met
}

/// Did the node say that what it has is damaged?
fn is_of_damage(why: &anyhow::Error) -> bool {
    let failure = why.downcast_ref::<Status>().map(Failure::of);
    failure.is_some_and(|said| said.detail.is_some() && said.kind == ErrorKind::Corrupt)
}

/// Did a node stop by itself over damage to its state, as it says in the log of that life?
fn ended_over_damage(status: ExitStatus, log: &str) -> bool {
    let by_itself = status.code().is_some_and(|code| code != 0);
    by_itself && DAMAGED.iter().any(|word| log.contains(word))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use anyhow::Result;
    use prost::Message as _;
    use quorate_proto::v1::ErrorDetail;
    use tonic::Code;

    use super::*;

    fn said(kind: ErrorKind) -> anyhow::Error {
        let detail = ErrorDetail { kind: kind.into(), ..ErrorDetail::default() };
        let mut packed = tonic_types::pb::Status::default();
        packed.details.push(Default::default());
        packed.details[0].type_url = "type.googleapis.com/quorate.v1.ErrorDetail".to_owned();
        packed.details[0].value = detail.encode_to_vec();
        Status::with_details(Code::DataLoss, "", packed.encode_to_vec().into()).into()
    }

    #[test]
    fn only_the_word_of_a_node_is_of_damage() {
        assert!(is_of_damage(&said(ErrorKind::Corrupt)));
        assert!(is_of_damage(&said(ErrorKind::Corrupt).context("reading")));
        for kind in [ErrorKind::Unavailable, ErrorKind::ShuttingDown, ErrorKind::Deadline] {
            assert!(!is_of_damage(&said(kind)), "{kind:?}");
        }
        assert!(!is_of_damage(&Status::data_loss("no node's word").into()));
        assert!(!is_of_damage(&Status::unavailable("connection refused").into()));
        assert!(!is_of_damage(&anyhow::anyhow!("n2 became another log meanwhile")));
    }

    #[test]
    fn a_node_that_ends_says_why() {
        let log =
            "INFO serving\nERROR group 0 stopped: the state in /d is damaged: Corruption: x\n";
        let (io, software) = (ExitStatus::from_raw(74 << 8), ExitStatus::from_raw(70 << 8));
        assert!(ended_over_damage(io, log) && ended_over_damage(software, log));
        let full = "ERROR the Raft log could not be written (No space left on device)\n";
        assert!(!ended_over_damage(io, full));
        assert!(!ended_over_damage(ExitStatus::from_raw(libc::SIGKILL), log), "it was killed");
        assert!(!ended_over_damage(ExitStatus::from_raw(0), log), "it was told to");
    }

    #[test]
    fn readers_look_until_it_is_known_what_they_meet() {
        let met = |damaged, stopped, unknown| Met { damaged, stopped, unknown };
        // How often they look, if this comes of it the first time, the second, and so on.
        let looks = |script: &[Met]| {
            let (mut last, mut looks) = (None, 0);
            while look_again(last) && looks < script.len() {
                last = Some(script[looks]);
                looks += 1;
            }
            looks
        };
        assert_eq!(looks(&[met(0, 0, 3), met(1, 0, 2), met(1, 0, 2)]), 2, "some were not known");
        assert_eq!(looks(&[met(0, 0, 3), met(0, 0, 3), of_end(true), of_end(true)]), 3);
        assert_eq!(looks(&[of_end(false), of_end(false), met(1, 0, 0), met(1, 0, 0)]), 3);
        assert_eq!(looks(&[met(0, 0, 0); 2]), 1, "all was shown, and whole");
    }

    #[test]
    fn it_is_said_who_met_it() {
        let words = |damaged, stopped| Met { damaged, stopped, unknown: 9 }.in_words();
        let (read, ended) =
            ("2 damaged logs met by readers", "1 nodes stopped themselves over damage");
        assert_eq!(words(0, 0), "0 damaged logs met by readers");
        assert_eq!((words(2, 0), words(0, 1)), (read.to_owned(), ended.to_owned()));
        assert_eq!(words(2, 1), format!("{read}, {ended}"));
    }

    #[tokio::test]
    async fn a_refused_connection_meets_no_damage() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("quorate-rot-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let recorder = Recorder::new(&dir, "rot", 1)?;
        // Bound and not listened on, so that nobody else comes to listen there.
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind("127.0.0.1:0".parse()?)?;
        let url = format!("http://{}", socket.local_addr()?);
        let mut api = NodeApi::new(quorate_jepsen_core::ids::Node(1), &url)?;
        let logs = Workload::logs().len() as u64;
        let met = read_everything(&mut api, &recorder).await;
        assert_eq!(met, Met { unknown: logs, ..Met::default() });
        assert!(look_again(Some(met)), "it may have been up too late");
        Ok(std::fs::remove_dir_all(&dir)?)
    }
}
