//! What is scraped is what the table declares, with the values that went in.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use quorate_state_machine::types::{GroupId, LogIndex, Term};

use super::{
    Metrics,
    histogram::HistogramSample,
    page::page,
    sources::{
        AdmissionSample, ForwardSample, GroupSample, LogStoreSample, ReadSample, Role, Sources,
    },
    table::{Kind, TABLE, Unit},
};
use crate::{
    log_store::{LogStore, Options, VoteRecord},
    peer::stats::PeerStats,
    raft::{self, group::Vitals},
};

/// A node that leads group 0 and follows in group 1.
#[derive(Default)]
struct TwoGroups {
    peers: PeerStats,
}

fn group(id: u32, role: Role) -> GroupSample {
    let leads = role == Role::Leader;
    GroupSample {
        group: GroupId(id),
        role,
        term: Term(7),
        leader: leads.then_some(1),
        leader_changes: 3,
        quorum_ack_age: leads.then_some(Duration::from_millis(25)),
        last_log_index: LogIndex(50),
        commit_index: LogIndex(40),
        applied_index: LogIndex(39),
        purged_index: LogIndex(10),
        snapshot_index: LogIndex(20),
        matched: if leads { vec![(2, LogIndex(40)), (3, LogIndex(30))] } else { vec![] },
        reads: reads(),
        store_bytes: vec![("sst", 1000), ("memtable", 10)],
    }
}

fn reads() -> ReadSample {
    ReadSample {
        age: Some(Duration::from_millis(30)),
        worst_age: Some(Duration::from_millis(1250)),
        probe: Some(Duration::from_micros(500)),
        recent_bytes: 4321,
    }
}

impl Sources for TwoGroups {
    fn forward(&self) -> ForwardSample {
        ForwardSample { in_flight: 3, limit: 64, breaker_open: true }
    }

    fn groups(&self) -> Vec<GroupSample> {
        vec![group(0, Role::Leader), group(1, Role::Follower)]
    }

    fn admission(&self) -> AdmissionSample {
        AdmissionSample { in_flight_bytes: 512, limit_bytes: 1024 }
    }

    fn log_store(&self) -> LogStoreSample {
        LogStoreSample {
            sync_seconds: HistogramSample {
                buckets: vec![(0.001, 4), (0.01, 1), (f64::MAX, 0)],
                sum: 0.012,
            },
            written_bytes: 4096,
            payload_bytes: 3000,
            entries: 12,
            ..LogStoreSample::default()
        }
    }

    fn peers(&self) -> &PeerStats {
        &self.peers
    }
}

/// Everything was used once.
fn busy() -> Metrics {
    let (metrics, ms) = (Metrics::new(), Duration::from_millis);
    metrics.append_done("accepted", 10, 1000, ms(3));
    metrics.append_done("accepted", 5, 500, ms(700));
    metrics.append_done("fenced", 1, 20, ms(1));
    metrics.admission_refused();
    metrics.entry_proposed(GroupId(0), 16, 70_000);
    metrics.applied(GroupId(0), 4, ms(2));
    metrics.read("linearizable", "ok", ms(1));
    metrics.read("linearizable", "deadline", ms(1_000));
    metrics.read("bounded", "too_stale", ms(1));
    metrics.read_round(GroupId(0), 7);
    metrics.read_round(GroupId(0), 1);
    metrics.forwarded("answered");
    metrics.forwarded("open");
    metrics.batches_read("memory", 3);
    metrics.snapshot_built(GroupId(0), 5_000, ms(40));
    metrics.snapshot_installed(GroupId(1), 6_000, ms(90));
    metrics.tail_started();
    metrics.tail_started();
    metrics.tail_ended();
    metrics
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "no line `{line}` in\n{text}");
}

#[test]
fn what_went_in_comes_out() {
    let sources = TwoGroups::default();
    sources.peers.append_bytes.fetch_add(77, std::sync::atomic::Ordering::Relaxed);
    let text = busy().text(&sources);
    for line in [
        r#"quorate_append_records_total{outcome="accepted"} 15"#,
        r#"quorate_append_bytes_total{outcome="accepted"} 1500"#,
        r#"quorate_append_records_total{outcome="fenced"} 1"#,
        r#"quorate_append_duration_seconds_count{outcome="accepted"} 2"#,
        r#"quorate_append_duration_seconds_bucket{le="0.005",outcome="accepted"} 1"#,
        r#"quorate_append_duration_seconds_bucket{le="1.0",outcome="accepted"} 2"#,
        r#"quorate_append_duration_seconds_bucket{le="+Inf",outcome="accepted"} 2"#,
        "quorate_admission_refused_total 1",
        "quorate_admission_in_flight_bytes 512",
        "quorate_admission_limit_bytes 1024",
        r#"quorate_proposed_entry_bytes_sum{group="0"} 70000.0"#,
        r#"quorate_proposed_entry_commands_sum{group="0"} 16.0"#,
        r#"quorate_apply_batch_entries_sum{group="0"} 4.0"#,
        r#"quorate_apply_duration_seconds_count{group="0"} 1"#,
        r#"quorate_read_duration_seconds_count{level="linearizable",outcome="ok"} 1"#,
        r#"quorate_read_duration_seconds_count{level="linearizable",outcome="deadline"} 1"#,
        r#"quorate_read_duration_seconds_count{level="bounded",outcome="too_stale"} 1"#,
        r#"quorate_read_index_round_readers_count{group="0"} 2"#,
        r#"quorate_read_index_round_readers_sum{group="0"} 8.0"#,
        r#"quorate_read_forwarded_total{outcome="open"} 1"#,
        "quorate_read_forward_in_flight 3",
        r#"quorate_read_batches_total{source="memory"} 3"#,
        r#"quorate_read_recent_bytes{group="1"} 4321"#,
        "quorate_read_forward_limit 64",
        "quorate_read_forward_breaker_open 1",
        r#"quorate_read_age_seconds{group="0"} 0.03"#,
        r#"quorate_read_age_worst_seconds{group="1"} 1.25"#,
        r#"quorate_read_probe_duration_seconds{group="0"} 0.0005"#,
        r#"quorate_snapshot_bytes_total{group="0",action="built"} 5000"#,
        r#"quorate_snapshot_bytes_total{group="1",action="installed"} 6000"#,
        "quorate_tail_subscribers 1",
        "quorate_tail_started_total 2",
        r#"quorate_raft_term{group="0"} 7"#,
        r#"quorate_raft_role{group="0",role="leader"} 1"#,
        r#"quorate_raft_role{group="0",role="follower"} 0"#,
        r#"quorate_raft_role{group="1",role="follower"} 1"#,
        r#"quorate_raft_leader_id{group="0"} 1"#,
        r#"quorate_raft_leader_id{group="1"} 0"#,
        r#"quorate_raft_leader_changes_total{group="0"} 3"#,
        r#"quorate_raft_quorum_ack_age_seconds{group="0"} 0.025"#,
        r#"quorate_raft_last_log_index{group="0"} 50"#,
        r#"quorate_raft_commit_index{group="0"} 40"#,
        r#"quorate_raft_applied_index{group="0"} 39"#,
        r#"quorate_raft_purged_index{group="0"} 10"#,
        r#"quorate_raft_snapshot_index{group="0"} 20"#,
        r#"quorate_raft_matched_index{group="0",node="3"} 30"#,
        "quorate_log_store_sync_duration_seconds_count 5",
        r#"quorate_log_store_sync_duration_seconds_bucket{le="0.01"} 5"#,
        "quorate_log_store_written_bytes_total 4096",
        "quorate_log_store_payload_bytes_total 3000",
        "quorate_log_store_entries_total 12",
        "quorate_peer_append_bytes_total 77",
        r#"quorate_state_store_bytes{group="0",kind="sst"} 1000"#,
    ] {
        has(&text, line);
    }
    assert!(!text.contains(r#"quorum_ack_age_seconds{group="1"}"#), "only a leader has one");
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(
        busy().reads(),
        [("linearizable", "ok", 1), ("linearizable", "deadline", 1), ("bounded", "too_stale", 1)]
    );
}

#[test]
fn a_stopped_core_has_no_role_any_more() {
    let running = Vitals {
        role: raft::group::Role::Leader,
        term: Term(7),
        leader: Some(raft::group::Leader {
            id: 1,
            client_address: "127.0.0.1:7101".to_owned(),
            term: Term(7),
        }),
        last_log_index: LogIndex(50),
        commit_index: LogIndex(40),
        applied_index: LogIndex(39),
        purged_index: LogIndex(10),
        snapshot_index: LogIndex(20),
        quorum_ack_age: Some(Duration::from_millis(25)),
        matched: [(2, LogIndex(40)), (3, LogIndex(30))].into(),
        voters: vec![1, 2, 3],
        learners: vec![],
        stopped: None,
    };
    let sample = |vitals| {
        GroupSample::of(GroupId(0), vitals, 3, reads(), group(0, Role::Leader).store_bytes)
    };
    assert_eq!(sample(running.clone()), group(0, Role::Leader));
    let stopped = Vitals { stopped: Some("storage".to_owned()), ..running };
    assert_eq!(sample(stopped).role, Role::Stopped);
}

#[tokio::test]
async fn a_log_on_disk_is_sampled() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 1 << 20, ..Options::default() };
    let (log, _) = LogStore::open(dir.path(), options).unwrap();
    log.group(0).save_vote(VoteRecord { term: 1, node: 1, committed: false }).await.unwrap();
    let sample = LogStoreSample::of(&log);
    assert!(sample.sync_seconds.count() >= 1, "{sample:?}");
    assert!(sample.sync_seconds.sum > 0.0 && sample.sync_seconds.sum < 60.0, "{sample:?}");
    assert!(sample.written_bytes > 0 && sample.disk_bytes >= 1 << 20, "{sample:?}");
    assert_eq!(sample.segments, 1);
    log.close();
}

#[test]
fn the_scrape_and_the_table_name_the_same_metrics() {
    let text = busy().text(&TwoGroups::default());
    let scraped: BTreeSet<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let declared: BTreeSet<(String, String)> = TABLE
        .iter()
        .map(|row| {
            // The suffixes of counters and infos belong to their series, not to the family.
            let name = row.name();
            let name = name.strip_suffix("_total").or(name.strip_suffix("_info")).unwrap_or(&name);
            (name.to_owned(), row.kind.name().to_owned())
        })
        .collect();
    assert_eq!(scraped, declared);
    assert_eq!(declared.len(), TABLE.len(), "a name is declared once");
}

#[test]
fn names_follow_the_conventions() {
    for row in TABLE {
        let name = row.name();
        let plain =
            |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b"_0123456789".contains(&b));
        assert!(plain(&name) && row.labels.iter().all(|l| plain(l)), "{name}");
        assert!(name.starts_with("quorate_") || name.starts_with("process_"), "{name}");
        assert!(!row.base.ends_with("_total") && !row.base.ends_with("_bytes"), "{name}");
        assert!(!row.base.ends_with("_seconds"), "{name}: the unit is added");
        assert!(!row.help.ends_with('.') && !row.help.contains(['|', '\n']), "{name}");
        assert!(row.kind != Kind::Info || row.unit == Unit::None, "{name}");
    }
}

#[test]
fn a_fresh_node_can_be_scraped() {
    let text = Metrics::new().text(&TwoGroups::default());
    has(&text, "quorate_admission_refused_total 0");
    assert!(!text.contains("quorate_append_records"), "nothing was appended");
}

#[test]
fn the_metrics_page_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, page()).expect("docs/metrics.md can be written");
    }
    let on_disk = fs::read_to_string(&path).expect("docs/metrics.md can be read");
    assert!(
        on_disk == page(),
        "docs/metrics.md is not what the table says; see its third paragraph"
    );
}
