//! NATS JetStream.

use super::{super::nats as client, Id, NODES, Program, Running};
use crate::exit::Failure;

/// Starts it, so that it syncs before it acknowledges, or as it comes.
///
/// # Errors
/// It does not come up.
pub async fn start(program: &Program<'_>, sync_always: bool) -> Result<Running, Failure> {
    program.prepare()?;
    let version = program.version("-v")?;
    let base = program.ports(2 * NODES)?;
    let route = |n: u16| format!("127.0.0.1:{}", base + NODES + n);
    let routes: Vec<String> = (0..NODES).map(|n| format!("\"nats://{}\"", route(n))).collect();
    let sync = if sync_always { "sync_interval: always" } else { "" };
    let mut arguments = Vec::new();
    for n in 0..NODES {
        let store = program.dir.join(format!("n{n}"));
        let config = format!(
            "server_name: n{n}\n\
             listen: \"127.0.0.1:{port}\"\n\
             jetstream {{\n  store_dir: \"{store}\"\n  max_file_store: 32GB\n  {sync}\n}}\n\
             cluster {{\n  name: compare\n  listen: \"{route}\"\n  routes: [{routes}]\n}}\n",
            port = base + n,
            store = store.display(),
            route = route(n),
            routes = routes.join(", "),
        );
        let path = program.write(&format!("n{n}.conf"), &config)?;
        arguments.push(vec!["-c".into(), path.display().to_string()]);
    }
    let mut nodes = program.start_all(&arguments)?;
    let endpoints: Vec<String> =
        (0..NODES).map(|n| format!("http://127.0.0.1:{}", base + n)).collect();
    program.ready(&mut nodes, || client::is_ready(&endpoints)).await?;
    let (id, settings, acknowledges) = match sync_always {
        true => (
            Id::NatsAlways,
            "stream with 3 replicas in files, sync_interval: always; published to its leader",
            "synced to disk by a majority",
        ),
        false => (
            Id::NatsDefault,
            "stream with 3 replicas in files, otherwise defaults; published to its leader",
            "written to files by a majority, but not synced (that happens every 2 minutes): a loss of \
             power may lose acknowledged messages",
        ),
    };
    Ok(Running {
        id,
        name: program.name,
        version,
        settings,
        acknowledges,
        writers: endpoints.clone(),
        endpoints,
        nodes,
        arguments,
    })
}
