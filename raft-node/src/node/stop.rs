//! The end of a node, in order.

use std::time::Duration;

use super::{parts::Parts, serve::Servers};
use crate::{
    raft::group::{Group, Role},
    runtime,
    shutdown::Phases,
};

/// Appends that were admitted get their answer within this, or their effect is unknown.
const DRAIN: Duration = Duration::from_secs(5);

/// Handing all groups over.
const HAND_OVER: Duration = Duration::from_secs(2);

/// Open calls and streams of clients.
const CLOSE_CLIENTS: Duration = Duration::from_secs(3);

/// Cores and peers, each.
const CLOSE_PEERS: Duration = Duration::from_secs(3);

/// Memtables.
const FLUSH: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(5);

/// Looks at a hand-over before it is asked for again.
const LOOKS: u32 = 40;

pub(super) async fn in_order(parts: Parts, servers: Servers) {
    // New appends are refused from here on, with effect NONE; streams end; probes say "not ready".
    parts.gate.close();
    let Servers { stop_clients, clients, stop_peers, peers, stop_http, .. } = servers;
    let (admission, groups) = (&parts.context.admission, &parts.groups);
    Phases::new()
        .then("drain", DRAIN, || async {
            while admission.in_flight_bytes() > 0 {
                runtime::sleep(POLL).await;
            }
        })
        .then("hand over", HAND_OVER, || async {
            let all = groups.iter().map(|g| hand_over(g.group.clone()));
            futures::future::join_all(all).await;
        })
        .then("close clients", CLOSE_CLIENTS, || async move {
            stop_clients.cancel();
            // A panic aborts the process, so the task can't have ended by one.
            let _ = clients.await;
        })
        .then("stop groups", CLOSE_PEERS, || async {
            futures::future::join_all(groups.iter().map(|g| g.group.shutdown())).await;
        })
        .then("close peers", CLOSE_PEERS, || async move {
            stop_peers.cancel();
            let _ = peers.await;
        })
        .then("flush", FLUSH, || async {
            for parts in groups {
                let store = parts.group.store();
                if let Err(error) = runtime::blocking(move || store.flush()).await {
                    tracing::error!(%error, "flushing the state failed; the Raft log has it all");
                }
            }
        })
        .run()
        .await;
    parts.log_store.close();
    stop_http.cancel();
    tracing::info!("stopped");
}

/// Gives the leadership of a group to the most advanced other voter, and waits until it took it.
async fn hand_over(group: Group) {
    loop {
        let vitals = group.vitals();
        if vitals.role != Role::Leader {
            return;
        }
        let others = vitals.voters.iter().filter(|id| **id != group.node_id());
        let Some(to) = others.max_by_key(|id| vitals.matched.get(id).copied()) else { return };
        if group.transfer_leadership(*to).await.is_err() {
            return;
        }
        // Asked again if it did not happen: the target may have lagged behind.
        for _ in 0..LOOKS {
            runtime::sleep(POLL).await;
            if group.vitals().role != Role::Leader {
                return;
            }
        }
    }
}
