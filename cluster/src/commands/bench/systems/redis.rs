//! Redis with two replicas.

use super::{super::redis as client, Id, NODES, Program, Running};
use crate::exit::Failure;

/// Starts it.
///
/// # Errors
/// It does not come up.
pub async fn start(program: &Program<'_>) -> Result<Running, Failure> {
    program.prepare()?;
    let version = program.version("--version")?;
    let base = program.ports(NODES)?;
    let mut arguments = Vec::new();
    for n in 0..NODES {
        let mut config = format!(
            "bind 127.0.0.1\nport {port}\ndir {dir:?}\nappendonly yes\nappendfsync always\n\
             appenddirname n{n}\ndbfilename n{n}.rdb\nsave \"\"\nmaxclients 20000\n",
            port = base + n,
            dir = program.dir.display().to_string(),
        );
        if n > 0 {
            config += &format!("replicaof 127.0.0.1 {base}\n");
        }
        let path = program.write(&format!("n{n}.conf"), &config)?;
        arguments.push(vec![path.display().to_string()]);
    }
    let mut nodes = program.start_all(&arguments)?;
    let endpoints: Vec<String> =
        (0..NODES).map(|n| format!("http://127.0.0.1:{}", base + n)).collect();
    program.ready(&mut nodes, || client::is_ready(&endpoints[0], u32::from(NODES) - 1)).await?;
    Ok(Running {
        id: Id::Redis,
        name: program.name,
        version,
        settings: "appendonly yes, appendfsync always on all; XADD, then WAIT 1",
        acknowledges: "synced to disk by the master, received (not: synced) by one replica. There is \
                       no consensus: a failover by hand or by Sentinel may lose acknowledged entries",
        writers: vec![endpoints[0].clone()],
        endpoints,
        nodes,
        arguments,
    })
}
