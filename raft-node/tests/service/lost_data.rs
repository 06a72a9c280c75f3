//! A node that has lost a part of its data directory must not come back as if it had promised
//! nothing: it ends, says why, and the others go on without it.

use std::fs;

use crate::{append, cluster::Cluster, create};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_a_part_of_its_data_refuses_to_start() {
    let mut cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    let victim = (leader + 1) % 3;
    create(&mut cluster.logs(leader), "a").await;
    append(&mut cluster.logs(leader), "a", &["0"]).await;
    let data = cluster.data_dir(victim);
    let aside = data.with_extension("aside");
    for part in ["log", "groups/0/CURRENT"] {
        let leader = cluster.leader().await;
        let done = append(&mut cluster.logs(leader), "a", &["all have it"]).await;
        let index = done.stamp.expect("where it is").log_index;
        cluster.wait_for(victim, "has it too", |g| g.applied_index >= index).await;
        cluster.kill(victim);
        let lost = data.join(part);
        let was_directory = lost.is_dir();
        fs::rename(&lost, &aside).expect("taking it away");
        if was_directory {
            fs::create_dir(&lost).expect("an empty one");
        }
        cluster.run(victim);
        let (code, last) = cluster.ended(victim).await;
        assert!(code.is_some_and(|code| code == 78 || code == 74), "{part}: {code:?} {last}");
        assert!(last.contains("node id"), "{part}: it does not say what to do: {last}");

        let leader = cluster.leader().await;
        append(&mut cluster.logs(leader), "a", &["without it"]).await;
        if was_directory {
            fs::remove_dir(&lost).expect("nothing was written there");
        }
        fs::rename(&aside, &lost).expect("putting it back");
        cluster.run(victim);
    }
    let leader = cluster.leader().await;
    let done = append(&mut cluster.logs(leader), "a", &["whole again"]).await;
    let index = done.stamp.expect("where it is").log_index;
    cluster.wait_for(victim, "has it too", |g| g.applied_index >= index).await;
}
