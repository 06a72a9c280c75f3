#!/usr/bin/env bash
# Stops the cluster that quickstart.sh started.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
Usage: cluster/down.sh [--wipe]

Stops the nodes that quickstart.sh left running (only those: it goes by the pid files under .run/
and checks that each process is the node it should be). Their data stays and can be started again
with quorate-node --config .run/nodeN.toml; --wipe removes it.
TEXT
}

wipe=no
case ${1:-} in
  '') ;;
  --wipe) wipe=yes ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

stopped=0
for ((n = 1; n <= NODES; n++)); do
  node_gone "$n" || stopped=$((stopped + 1))
  stop_node "$n"
done
good "$stopped of $NODES nodes ran; none does now"

if [[ $wipe == yes ]]; then
  wipe_run_dir
  good "removed their data from $RUN_DIR"
fi
