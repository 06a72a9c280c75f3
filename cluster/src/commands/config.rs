//! `quorate config local`: the configuration files of a cluster on this machine.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use uuid::Uuid;

use crate::{args::LocalArgs, exit::Failure, output::Output};

/// Distances of the other two ports of a node from its client port: room for 100 nodes.
const PEER_PORT_ABOVE: u16 = 100;
const HTTP_PORT_ABOVE: u16 = 200;

/// What was written, for `--output json`.
#[derive(Serialize)]
pub struct Written {
    cluster_id: Uuid,
    /// Where clients find the nodes.
    pub endpoints: Vec<String>,
    nodes: Vec<WrittenNode>,
}

#[derive(Serialize)]
struct WrittenNode {
    id: u16,
    config: PathBuf,
    data_dir: PathBuf,
    client: String,
    peer: String,
    http: String,
}

impl Written {
    /// The configuration files, in the order of node ids.
    pub fn configs(&self) -> impl Iterator<Item = &Path> {
        self.nodes.iter().map(|node| node.config.as_path())
    }

    /// `HOST:PORT` of each node's metrics, in the order of node ids.
    pub fn http(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.http.as_str())
    }
}

/// `quorate config local`: writes the files and says so.
///
/// # Errors
/// As [`write()`].
pub fn local(args: &LocalArgs, output: Output) -> Result<(), Failure> {
    let written = write(args)?;
    if output.is_json() {
        return output.json(&written);
    }
    let mut text = format!("cluster {}\n", written.cluster_id);
    for node in &written.nodes {
        let line =
            writeln!(text, "node {}: quorate-node --config {}", node.id, node.config.display());
        line.expect("writing to a String cannot fail");
    }
    text += &format!("export QUORATE_ENDPOINTS={}\n", written.endpoints.join(","));
    output.print(&text)
}

/// Writes the files.
///
/// # Errors
/// [`Failure`] when a directory or file cannot be written, or would be overwritten.
pub fn write(args: &LocalArgs) -> Result<Written, Failure> {
    let dir = make_dir(&args.dir)?;
    let cluster_id = args.cluster_id.unwrap_or_else(Uuid::new_v4);
    let nodes: Vec<WrittenNode> =
        (1..=args.nodes).map(|id| node(&dir, args.base_port, id)).collect();
    if !args.force {
        refuse_foreign_files(&nodes)?;
    }
    for node in &nodes {
        let text = render(node, &nodes, cluster_id, args.groups);
        fs::write(&node.config, text).map_err(|e| cannot_write(&node.config, &e))?;
    }
    let endpoints = nodes.iter().map(|n| format!("http://{}", n.client)).collect();
    Ok(Written { cluster_id, endpoints, nodes })
}

fn node(dir: &Path, base_port: u16, id: u16) -> WrittenNode {
    // In range: at most 65000 + 98 + 200.
    let client = base_port + id - 1;
    WrittenNode {
        id,
        config: dir.join(format!("node{id}.toml")),
        data_dir: dir.join(format!("node{id}")),
        client: format!("127.0.0.1:{client}"),
        peer: format!("127.0.0.1:{}", client + PEER_PORT_ABOVE),
        http: format!("127.0.0.1:{}", client + HTTP_PORT_ABOVE),
    }
}

fn make_dir(dir: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(dir).map_err(|e| cannot_write(dir, &e))?;
    // Absolute, so that the files mean the same whatever directory a node is started in.
    fs::canonicalize(dir).map_err(|e| cannot_write(dir, &e))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::refused(format!("{} cannot be written: {error}", path.display()))
}

/// A file that is there belongs to a cluster with data under the old id: replacing it would leave
/// nodes that refuse to start.
fn refuse_foreign_files(nodes: &[WrittenNode]) -> Result<(), Failure> {
    let existing = nodes.iter().flat_map(|n| [&n.config, &n.data_dir]).find(|p| p.exists());
    match existing {
        None => Ok(()),
        Some(path) => Err(Failure::refused(format!("{} exists already", path.display()))
            .advise("choose another --dir, remove it, or overwrite with --force")),
    }
}

fn render(node: &WrittenNode, all: &[WrittenNode], cluster_id: Uuid, groups: u32) -> String {
    let mut text = format!(
        "# Node {id} of a cluster on this machine, written by `quorate config local`.\n\
         # What is not here has its default; `quorate-node --config FILE --print-config` shows all.\n\
         cluster_id = \"{cluster_id}\"  # the same on every node\n\
         node_id = {id}  # unique, and never used again after its disk was lost\n\
         data_dir = {data_dir}\n\
         groups = {groups}  # fixed at the first start\n\
         \n\
         [listen]\n\
         client = \"{client}\"\n\
         peer = \"{peer}\"\n\
         http = \"{http}\"\n",
        id = node.id,
        data_dir = toml_string(&node.data_dir.to_string_lossy()),
        client = node.client,
        peer = node.peer,
        http = node.http,
    );
    text.push_str("\n# Every node, the same list in every file.\n");
    for n in all {
        let block = format!(
            "[[nodes]]\nid = {}\npeer = \"{}\"\nclient = \"{}\"\n\n",
            n.id, n.peer, n.client
        );
        text.push_str(&block);
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// A TOML basic string.
fn toml_string(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn a_file() {
        let nodes: Vec<_> = (1..=2).map(|id| node(Path::new("/run/q\"x"), 9000, id)).collect();
        let want = r##"# Node 2 of a cluster on this machine, written by `quorate config local`.
# What is not here has its default; `quorate-node --config FILE --print-config` shows all.
cluster_id = "00000000-0000-0000-0000-000000000000"  # the same on every node
node_id = 2  # unique, and never used again after its disk was lost
data_dir = "/run/q\"x/node2"
groups = 4  # fixed at the first start

[listen]
client = "127.0.0.1:9001"
peer = "127.0.0.1:9101"
http = "127.0.0.1:9201"

# Every node, the same list in every file.
[[nodes]]
id = 1
peer = "127.0.0.1:9100"
client = "127.0.0.1:9000"

[[nodes]]
id = 2
peer = "127.0.0.1:9101"
client = "127.0.0.1:9001"
"##;
        assert_eq!(render(&nodes[1], &nodes, Uuid::nil(), 4), want);
    }

    #[test]
    fn no_cluster_is_overwritten_by_accident() {
        let dir = tempfile::tempdir().unwrap();
        let mut args = LocalArgs {
            nodes: 3,
            dir: dir.path().join("run"),
            groups: 1,
            base_port: 7101,
            cluster_id: None,
            force: false,
        };
        let output = Output { format: Format::Table, color: false, color_stderr: false };
        local(&args, output).unwrap();
        let before = fs::read(dir.path().join("run/node1.toml")).unwrap();
        assert!(local(&args, output).unwrap_err().what.contains("exists already"));
        assert_eq!(fs::read(dir.path().join("run/node1.toml")).unwrap(), before);
        args.force = true;
        local(&args, output).unwrap();
        assert_ne!(fs::read(dir.path().join("run/node1.toml")).unwrap(), before, "another id");
    }
}
