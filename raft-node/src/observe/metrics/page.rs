//! The page `docs/metrics.md`: the table, for people.

use super::table::TABLE;

const HEAD: &str = "\
# Metrics

`GET /metrics` on a node's HTTP address answers in the OpenMetrics text format. Counters start at
0 with the process. Histograms have the series `_bucket`, `_sum` and `_count`. A metric appears
with its first value: a fresh node shows fewer than this.

Labels: `group` is the number of a Raft group, `node` a node id. The values of the others are in
the help.

This page is made from the table in `raft-node/src/observe/metrics/table.rs`. A test compares the
two; `UPDATE_GOLDEN=1 cargo test --release -p quorate-raft-node the_metrics_page` writes it anew.

| Metric | Type | Unit | Labels | What it says |
|---|---|---|---|---|
";

/// The page.
#[must_use]
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for row in TABLE {
        let labels: Vec<String> = row.labels.iter().map(|l| format!("`{l}`")).collect();
        page.push_str(&format!(
            "| `{}` | {} | {} | {} | {} |\n",
            row.name(),
            row.kind.name(),
            row.unit.name(),
            labels.join(" "),
            row.help,
        ));
    }
    page
}
