//! A disk that fails a read is not a disk that returned other bytes: the node says which it was, and
//! that nothing came of the read.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, symlink},
    path::{Path, PathBuf},
};

use quorate_proto::{
    admin::v1::TriggerSnapshotRequest,
    v1::{Effect, ErrorDetail, ErrorKind, Level},
};

use super::{all, append, cluster::Cluster, create, read, refused};

/// The file of the state that holds large batches.
fn blob_file(group: &Path) -> PathBuf {
    let under = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    let named = |path: &PathBuf, begin: &str| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begin))
    };
    let state = under(group).into_iter().find(|path| named(path, "state-")).expect("a state");
    let is_blob = |path: &PathBuf| path.extension().is_some_and(|end| end == "blob");
    under(&state).into_iter().find(is_blob).expect("a batch that was written there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_fails_is_told_from_damage() {
    let mut cluster = Cluster::start(1, "").await;
    create(&mut cluster.logs(0), "a").await;
    let large = "x".repeat(100_000);
    append(&mut cluster.logs(0), "a", &[&large]).await;
    let flush = TriggerSnapshotRequest { group: 0 };
    cluster.admin(0).trigger_snapshot(flush).await.expect("a snapshot");
    // What it has in memory is gone then.
    cluster.kill(0);
    cluster.run(0);
    cluster.leader().await;
    let logs = &mut cluster.logs(0);
    let told = |error: ErrorDetail, why: &str| {
        assert_eq!((error.effect(), error.retryable), (Effect::None, true), "{error:?}");
        assert!(error.message.contains(why), "{error:?}");
    };

    let blobs = blob_file(&cluster.data_dir(0).join("groups/0"));
    let aside = blobs.with_extension("aside");
    fs::rename(&blobs, &aside).expect("taking it away");
    // Nobody can open a link to itself.
    symlink(&blobs, &blobs).expect("a link");
    let failed = read(logs, all("a", Level::Linearizable)).await;
    told(refused(failed, ErrorKind::Internal), "IO error");

    fs::rename(&aside, &blobs).expect("putting it back");
    let (values, _) = read(logs, all("a", Level::Linearizable)).await.expect("a disk that works");
    assert!(values == [large], "{} values", values.len());

    let file = File::options().read(true).write(true).open(&blobs).expect("the file");
    let (mut byte, middle) = ([0], 50_000);
    file.read_exact_at(&mut byte, middle).expect("a byte of the batch");
    file.write_all_at(&[byte[0] ^ 1], middle).expect("another one");
    let damaged = read(logs, all("a", Level::Linearizable)).await;
    told(refused(damaged, ErrorKind::Corrupt), "quorate verify --deep");
}
