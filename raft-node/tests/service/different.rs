//! A replica whose state is not that of the others takes itself out of service, and stays out.

use std::path::PathBuf;

use quorate_state_machine::{keys, values::GroupMeta};

use super::{Level, all, append, cluster::Cluster, create, read};

/// The directory of a node's state, group 0.
fn state_dir(cluster: &Cluster, n: usize) -> PathBuf {
    let group = cluster.data_dir(n).join("groups/0");
    let entries = std::fs::read_dir(&group).expect("the group's directory");
    let mut dirs = entries.map(|entry| entry.expect("an entry").path()).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("state-"))
    });
    dirs.next().expect("a generation of the state")
}

/// What a bit that fell over in memory leaves behind: a row that is sound in itself, and wrong.
fn change_the_digest(cluster: &Cluster, n: usize) {
    let db = rocksdb::DB::open_default(state_dir(cluster, n)).expect("the node has ended");
    let row = db.get(keys::group()).expect("reading").expect("a group that was used");
    let mut meta = GroupMeta::decode(&row).expect("a sound row");
    meta.digest.0[0] ^= 1;
    db.put(keys::group(), meta.encode()).expect("writing");
    db.flush().expect("flushing");
}

#[tokio::test]
async fn a_replica_that_differs_goes_and_stays_out() {
    let mut cluster = Cluster::start(3, "state.compare_interval_s = 2").await;
    let leader = cluster.leader().await;
    let odd = (leader + 1) % 3;
    let mut logs = cluster.logs(leader);
    create(&mut logs, "a").await;
    append(&mut logs, "a", &["before"]).await;
    cluster.stop(odd).await;
    change_the_digest(&cluster, odd);
    cluster.run(odd);

    let (code, last) = cluster.ended(odd).await;
    assert_eq!(code, Some(74), "{last}");
    assert!(last.contains("takes itself out of service"), "{last}");
    let others: Vec<_> = (0..3).filter(|n| *n != odd).map(|n| format!("node {}", n + 1)).collect();
    assert!(last.contains(&others.join(" and ")), "it says who agrees: {last}");

    // A supervisor that starts it again gets nowhere.
    cluster.run(odd);
    let (code, last) = cluster.ended(odd).await;
    assert_eq!(code, Some(78), "{last}");
    assert!(last.contains("keeps this node out of service"), "{last}");

    // The others, which are right, go on.
    append(&mut logs, "a", &["after"]).await;
    let (values, _) = read(&mut logs, all("a", Level::Linearizable)).await.expect("a read");
    assert_eq!(values, ["before", "after"]);
    assert!((0..3).filter(|n| *n != odd).all(|n| cluster.is_running(n)));
}
