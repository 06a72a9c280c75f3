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
  for word in "$@"; do
    if [[ $word == mutants || $word == --mutant* ]]; then
      # A program of its own name beside the real one, which is not touched.
      (cd "$ROOT" && cargo build --release --locked --quiet -p quorate-raft-node \
        --features planted --bin quorate-node-planted)
      break
    fi
  done
fi

# What faults on hosts, clocks and disks need of the system; without it the runner does with less, and
# says so. Only as root, only on Debian and its kin, and only what is missing.
need_tools() {
  local tool missing=()
  for tool in "ip iproute2" "nft nftables" "iptables iptables" "faketime faketime" "mkfs.ext4 e2fsprogs"; do
    command -v "${tool% *}" >/dev/null || missing+=("${tool#* }")
  done
  ((${#missing[@]})) || return 0
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "for all faults these packages are missing: ${missing[*]}" >&2
    return 0
  fi
  echo "installing ${missing[*]} (apt-get), which some faults need" >&2
  if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >&2 </dev/null; then
    echo "could not install them; faults that need them cannot be done" >&2
  fi
}
case ${1:-} in
  test | test-all | ci | mutants | doctor)
    # On hosts of the user's, their tools count.
    [[ " $* " == *" --hosts"* ]] || need_tools
    ;;
esac

# The program's own default is relative to the repository.
export QUORATE_JEPSEN_STORE=${QUORATE_JEPSEN_STORE:-$ROOT/jepsen/store}
exec "$BIN_DIR/jepsen" "$@"
