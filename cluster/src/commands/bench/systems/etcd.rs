//! etcd.

use super::{super::etcd as client, Id, NODES, Program, Running};
use crate::exit::Failure;

/// Above the default of 2 GiB: a full database would refuse the later loads.
const QUOTA_BYTES: u64 = 16 << 30;

/// Starts it.
///
/// # Errors
/// It does not come up.
pub async fn start(program: &Program<'_>) -> Result<Running, Failure> {
    program.prepare()?;
    let version = program.version("--version")?;
    let base = program.ports(2 * NODES)?;
    let client = |n: u16| format!("http://127.0.0.1:{}", base + n);
    let peer = |n: u16| format!("http://127.0.0.1:{}", base + NODES + n);
    let cluster: Vec<String> = (0..NODES).map(|n| format!("n{n}={}", peer(n))).collect();
    let arguments = |n: u16| {
        vec![
            format!("--name=n{n}"),
            format!("--data-dir={}", program.dir.join(format!("n{n}")).display()),
            format!("--listen-client-urls={}", client(n)),
            format!("--advertise-client-urls={}", client(n)),
            format!("--listen-peer-urls={}", peer(n)),
            format!("--initial-advertise-peer-urls={}", peer(n)),
            format!("--initial-cluster={}", cluster.join(",")),
            "--initial-cluster-state=new".into(),
            format!("--quota-backend-bytes={QUOTA_BYTES}"),
            "--log-level=warn".into(),
        ]
    };
    let arguments: Vec<Vec<String>> = (0..NODES).map(arguments).collect();
    let mut nodes = program.start_all(&arguments)?;
    let endpoints: Vec<String> = (0..NODES).map(client).collect();
    let leader = program.ready(&mut nodes, || client::leader(&endpoints)).await?;
    Ok(Running {
        id: Id::Etcd,
        name: program.name,
        version,
        settings: "defaults, --quota-backend-bytes raised; writes go to the leader",
        acknowledges: "synced to disk by a majority, applied by the node that answers",
        writers: vec![leader],
        endpoints,
        nodes,
        arguments,
    })
}
