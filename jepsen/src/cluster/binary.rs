//! Where the server binary and the folder for runs are.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// The folder of the build profile this program was built with.
fn profile_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("where is this program?")?;
    let dir = exe.parent().context("this program is in no folder")?;
    // target/release/deps/<test>, or target/release/<program>
    let in_deps = dir.file_name().is_some_and(|name| name == "deps");
    let dir = if in_deps { dir.parent().context("deps is in no folder")? } else { dir };
    Ok(dir.to_owned())
}

/// The server: `QUORATE_NODE_BIN`, or what was built next to this program.
///
/// # Errors
/// There is none; the message says how to build it.
pub fn server_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("QUORATE_NODE_BIN") {
        return Ok(path.into());
    }
    let build = "cargo build --release -p quorate-raft-node (or name one in QUORATE_NODE_BIN)";
    sibling_binary("quorate-node", build)
}

/// What was built next to this program, under this name.
///
/// # Errors
/// It was not; the message says that `build` does.
pub(crate) fn sibling_binary(name: &str, build: &str) -> Result<PathBuf> {
    let path = profile_dir()?.join(name);
    if !path.exists() {
        bail!("{} does not exist; build it with: {build}", path.display());
    }
    Ok(path)
}

/// The folder for runs: `QUORATE_JEPSEN_DIR`, or `jepsen-runs` in the target folder.
pub(super) fn work_dir() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("QUORATE_JEPSEN_DIR") {
        return Ok(path.into());
    }
    Ok(profile_dir()?.join("jepsen-runs"))
}
