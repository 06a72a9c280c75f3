# Shared by the scripts in this folder; sourced, not run.
# shellcheck shell=bash
#
# What it promises to them: only processes that these scripts started are ever signalled (a pid
# file counts only while /proc says that the process runs our binary on our configuration), every
# wait has an end, and a wait that ends badly shows the log of the node it waited for.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# Node data, configuration, pid files and logs of the local cluster.
RUN_DIR=${QUORATE_RUN_DIR:-$ROOT/.run}
BASE_PORT=${QUORATE_BASE_PORT:-7101}
NODES=3
# cargo's profile. A script that measures beside others sets QUORATE_PROFILE to dist (docs/adr/0014).
PROFILE=${QUORATE_PROFILE:-release}
# Programs from elsewhere than this checkout's build; then nothing is built.
BIN_DIR=${QUORATE_BIN_DIR:-${CARGO_TARGET_DIR:-$ROOT/target}/$PROFILE}

# ---- talking ------------------------------------------------------------------------------------

if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
  BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' YELLOW=$'\e[33m' PLAIN=$'\e[0m'
else
  BOLD='' DIM='' RED='' GREEN='' YELLOW='' PLAIN=''
fi

# A chapter, a step that went well, something to know, a way out.
title() { printf '\n%s%s%s\n' "$BOLD" "$*" "$PLAIN"; }
good() { printf '  %s✓%s %s\n' "$GREEN" "$PLAIN" "$*"; }
bad() { printf '  %s✗ %s%s\n' "$RED" "$*" "$PLAIN"; }
info() { printf '  %s%s%s\n' "$DIM" "$*" "$PLAIN"; }
warn() { printf '  %s!%s %s\n' "$YELLOW" "$PLAIN" "$*"; }
die() {
  printf '%serror%s: %s\n' "$RED" "$PLAIN" "$1" >&2
  [[ $# -lt 2 ]] || printf '  %stry%s: %s\n' "$BOLD" "$PLAIN" "$2" >&2
  exit 1
}

# ---- time ---------------------------------------------------------------------------------------

# Milliseconds on the wall clock; for durations that people are told, not for decisions.
now_ms() { local t=${EPOCHREALTIME/[.,]/}; echo $((t / 1000)); }

# wait_for SECONDS COMMAND...: runs COMMAND every 100 ms until it succeeds; fails when time is up.
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}

# ---- building -----------------------------------------------------------------------------------

# Finds cargo also where rustup put it without a new login shell, or says how to get it.
need_cargo() {
  if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
  fi
  command -v cargo >/dev/null || die "cargo is not installed" \
    "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y   (see https://rustup.rs)"
}

build() {
  [[ -z ${QUORATE_BIN_DIR:-} ]] || return 0
  (cd "$ROOT" && cargo build --profile "$PROFILE" --locked --quiet -p quorate-raft-node -p quorate-cluster --bins)
}

quorate() { "$BIN_DIR/quorate" "$@"; }

# ---- nodes --------------------------------------------------------------------------------------

endpoints() { echo "http://127.0.0.1:$BASE_PORT,$((BASE_PORT + 1)),$((BASE_PORT + 2))"; }
node_address() { echo "127.0.0.1:$((BASE_PORT + $1 - 1))"; }
node_config() { echo "$RUN_DIR/node$1.toml"; }
node_log() { echo "$RUN_DIR/node$1.log"; }

# Prints the pid of node $1 if it runs and is ours.
node_pid() {
  local pid exe
  pid=$(cat "$RUN_DIR/node$1.pid" 2>/dev/null) || return 1
  [[ $pid =~ ^[0-9]+$ ]] || return 1
  # A binary that was built anew while it runs shows as deleted. Which build it is does not matter:
  # the configuration below is this cluster's.
  exe=$(readlink "/proc/$pid/exe" 2>/dev/null) || return 1
  [[ ${exe% (deleted)} == */quorate-node ]] || return 1
  tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "$(node_config "$1")" || return 1
  echo "$pid"
}

start_node() {
  local log
  log=$(node_log "$1")
  # A session of its own: Ctrl-C in the terminal that started the cluster must not stop it.
  setsid "$BIN_DIR/quorate-node" --config "$(node_config "$1")" </dev/null >>"$log" 2>&1 &
  local pid=$!
  echo "$pid" >"$RUN_DIR/node$1.pid"
  # Or bash reports its end in words of its own.
  disown "$pid"
  # Until it runs our binary it isn't known as ours; one that ends at once is told about later.
  wait_for 5 started "$1" "$pid" || true
}

node_gone() { ! node_pid "$1" >/dev/null; }
started() { node_pid "$1" >/dev/null || ! kill -0 "$2" 2>/dev/null; }

# stop_node N: asks it to stop, and ends it when it doesn't.
stop_node() {
  local pid
  pid=$(node_pid "$1") || { rm -f "$RUN_DIR/node$1.pid"; return 0; }
  kill -TERM "$pid" 2>/dev/null || true
  if ! wait_for 15 node_gone "$1"; then
    warn "node $1 did not stop within 15 s: killing it"
    kill -KILL "$pid" 2>/dev/null || true
    wait_for 5 node_gone "$1" || die "node $1 (pid $pid) can't be killed"
  fi
  rm -f "$RUN_DIR/node$1.pid"
}

# Dies with the last words of the first node that should run and doesn't.
all_alive() {
  local n
  for ((n = 1; n <= NODES; n++)); do
    node_pid "$n" >/dev/null && continue
    bad "node $n has ended; the last lines of $(node_log "$n"):"
    tail -n 15 "$(node_log "$n")" | sed 's/^/    /'
    die "node $n does not run"
  done
}

# Every node answers and every group has a leader.
whole() { quorate --timeout 2s status >/dev/null 2>&1; }

# whole_within SECONDS: waits for that, and shows what is missing if it doesn't come.
whole_within() {
  local end=$((SECONDS + $1))
  until whole; do
    all_alive
    if ((SECONDS >= end)); then
      quorate --timeout 2s status || true
      die "the cluster is not whole after $1 s" "look at $RUN_DIR/node*.log"
    fi
    sleep 0.1
  done
}

# Removes what these scripts and the nodes put into the run directory, and nothing else.
wipe_run_dir() {
  local n
  for ((n = 1; n <= NODES; n++)); do
    node_gone "$n" || die "node $n still runs"
    rm -rf -- "${RUN_DIR:?}/node$n" "$RUN_DIR/node$n."{toml,log,pid}
  done
  rm -f -- "$RUN_DIR/append.json" "$RUN_DIR/append.log" "$RUN_DIR/verify.log"
  rmdir -- "$RUN_DIR" 2>/dev/null || true
}
