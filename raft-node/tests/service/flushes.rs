//! Flushes of the state go around the page cache where the log's writes do, and are as good.

use std::{
    fs,
    path::{Path, PathBuf},
};

use quorate_proto::{
    admin::v1::TriggerSnapshotRequest,
    v1::{Level, read_from::From},
};

use crate::{all, append, cluster::Cluster, create, from, read};

/// The files in which RocksDB says with which settings it was opened.
fn options(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(options(&path));
        } else if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("OPTIONS"))
        {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_write_as_the_log_does() {
    for extra in ["", "[log]\ndurability = \"fdatasync\""] {
        let mut cluster = Cluster::start(1, extra).await;
        let dir = cluster.data_dir(0);
        let said = fs::read_to_string(dir.with_extension("log")).expect("its log");
        let direct = said.contains("durability=\"direct+dsync\"");
        assert!(!direct || extra.is_empty(), "the log does as it was told");
        let files = options(&dir.join("groups"));
        assert!(!files.is_empty(), "RocksDB says what it was told");
        for file in files {
            let text = fs::read_to_string(&file).expect("its settings");
            let wanted = format!("use_direct_io_for_flush_and_compaction={direct}");
            assert!(text.contains(&wanted), "{wanted} is not in {}", file.display());
        }

        create(&mut cluster.logs(0), "a").await;
        let large = "x".repeat(100_000);
        append(&mut cluster.logs(0), "a", &[&large, "small"]).await;
        // Flushed, so that what comes back is what was written there.
        let flush = TriggerSnapshotRequest { group: 0 };
        cluster.admin(0).trigger_snapshot(flush).await.expect("a snapshot");
        cluster.kill(0);
        cluster.run(0);
        cluster.leader().await;
        let (values, _) = read(&mut cluster.logs(0), all("a", Level::Linearizable)).await.unwrap();
        assert!(values == [large.as_str(), "small"], "{} values", values.len());
        let (last, _) = read(&mut cluster.logs(0), from("a", From::Last(1))).await.unwrap();
        assert_eq!(last, ["small"]);
    }
}
