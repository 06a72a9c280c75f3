#!/usr/bin/env bash
# The front door of the fault suite: builds what it needs, and passes its arguments on.
#   jepsen/run.sh test --workload append --nemesis partition,kill --time-limit 30
#   jepsen/run.sh --help
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

if [[ -z ${QUORATE_BIN_DIR:-} ]]; then
  "$ROOT/cluster/setup.sh" >&2
  need_cargo
  (cd "$ROOT" && cargo build --release --locked --quiet -p quorate-raft-node -p quorate-jepsen --bins)
fi
# The program's own default is relative to the repository.
export QUORATE_JEPSEN_STORE=${QUORATE_JEPSEN_STORE:-$ROOT/jepsen/store}
exec "$BIN_DIR/jepsen" "$@"
