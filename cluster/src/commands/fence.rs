//! `quorate fence`.

use crate::{
    args::{FenceArgs, Global},
    exit::Failure,
    output::Output,
    sdk,
};

/// Raises the writer epoch.
///
/// # Errors
/// The cluster's refusal.
pub async fn run(args: &FenceArgs, global: &Global, output: Output) -> Result<(), Failure> {
    let fenced = sdk::client(global)?.fence(&args.log, args.min_epoch, None).await?;
    if output.is_json() {
        return output.json(&serde_json::json!({
            "writer_epoch": fenced.writer_epoch,
            "next_offset": fenced.next_offset,
            "incarnation": fenced.incarnation,
        }));
    }
    output.print(&format!(
        "writer epoch {}: no append of a lower one is at offset {} or behind it\n",
        fenced.writer_epoch, fenced.next_offset
    ))
}
