#!/usr/bin/env bash
# Starts a cluster of three on this machine, shows that it keeps its promises, and leaves it running.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
Usage: cluster/quickstart.sh [FILE]

Builds Quorate, starts three nodes on this machine, appends the lines of FILE to a log, kills the
leader with kill -9 half way, starts it again, reads the log back from each node and compares it
with FILE byte for byte. Exit code 0 means that all of it held. The cluster is left running.

Run again, it starts from nothing: it stops the cluster it left and removes that cluster's data
(.run/ in this repository).

Environment:
  QUORATE_BASE_PORT  first of the ports (7101; peers use those from 7201, HTTP from 7301)
  QUORATE_RUN_DIR    where data and logs go (.run in this repository)
  QUORATE_BIN_DIR    run quorate and quorate-node from there, and build nothing
TEXT
}

# What appending should take at the least, so that there is a middle to kill the leader in.
APPEND_SECONDS=6
LOG_NAME=quickstart

# A real file that every machine has.
default_file() {
  local file
  for file in /usr/share/dict/words /usr/share/dict/american-english \
    /usr/share/common-licenses/GPL-3 "$ROOT/Cargo.lock"; do
    [[ -s $file ]] && { readlink -f "$file"; return; }
  done
}

start_cluster() {
  title "Three nodes"
  quorate config local --nodes "$NODES" --dir "$RUN_DIR" --base-port "$BASE_PORT" >/dev/null
  local n
  for ((n = 1; n <= NODES; n++)); do start_node "$n"; done
  whole_within 30
  for ((n = 1; n <= NODES; n++)); do
    good "node $n: clients on $(node_address "$n"), pid $(node_pid "$n")"
  done
  good "node $(leader) leads"
}

# Id of the node that says it leads, in the newest term if two say so. That a node is down, which
# status ends with a failure for, is what this is asked after.
leader() {
  { quorate --timeout 2s status 2>/dev/null || true; } |
    awk '$3 == "leader" && $4 > term { term = $4; node = $1 } END { if (node == "") exit 1; print node }'
}

# Records in the log, as of an answer that reflects everything acknowledged.
appended() {
  quorate --timeout 2s log describe "$LOG_NAME" --output json 2>/dev/null |
    sed -n 's/^ *"next_offset": \([0-9]*\).*/\1/p'
}

# Also true when there is nothing to wait for any more; `have` tells.
appended_at_least() {
  kill -0 "$append_pid" 2>/dev/null || return 0
  have=$(appended) && [[ -n $have ]] && ((have >= $1))
}

other_leader() { new_leader=$(leader) && [[ $new_leader != "$1" ]]; }

append_with_failure() {
  local lines=$1 rate=$2 batch=$3
  title "Appending $lines lines, and kill -9 half way"
  quorate log create "$LOG_NAME" >/dev/null
  quorate append "$LOG_NAME" "$FILE" --rate "$rate" --batch-records "$batch" --output json \
    >"$RUN_DIR/append.json" 2>"$RUN_DIR/append.log" &
  append_pid=$!
  wait_for 60 appended_at_least $((lines / 2)) || die "no progress with appending"
  kill -0 "$append_pid" 2>/dev/null || append_failed "it ended before its middle"

  local pid killed_ms pause
  killed=$(leader) || die "no leader to kill"
  pid=$(node_pid "$killed") || die "node $killed does not run"
  kill -KILL "$pid"
  killed_ms=$(now_ms)
  good "killed node $killed, the leader, when $have lines were acknowledged"
  wait_for 30 other_leader "$killed" || die "no other leader within 30 s"
  good "node $new_leader leads now ($(($(now_ms) - killed_ms)) ms later)"

  wait "$append_pid" || append_failed "it gave up"
  append_pid=
  pause=$(sed -n 's/^ *"longest_pause_ms": \([0-9]*\).*/\1/p' "$RUN_DIR/append.json")
  good "appends went on: the longest time without an acknowledged one was ${pause:-?} ms"
  have=$(appended) || die "the log can't be described"
  if [[ $have == "$lines" ]]; then
    good "the log has $have records for $lines lines"
  else
    bad "the log has $have records for $lines lines"
    held=no
  fi
}

append_failed() {
  tail -n 5 "$RUN_DIR/append.log" | sed 's/^/    /' >&2
  die "appending failed: $1" "look at $RUN_DIR/node*.log"
}

read_back() {
  title "The same bytes from every node"
  start_node "$killed"
  whole_within 60
  good "node $killed is back"
  # Waits until every replica has applied the same entries, and compares their digests there.
  if quorate verify --timeout 60s >"$RUN_DIR/verify.log" 2>&1; then
    good "all replicas caught up, and their digests agree"
  else
    bad "verify: $(tail -n 3 "$RUN_DIR/verify.log")"
    held=no
  fi
  local n
  for ((n = 1; n <= NODES; n++)); do
    if quorate read "$LOG_NAME" --node "$(node_address "$n")" --consistency eventual |
      cmp -s - <(expected_bytes); then
      good "node $n: byte for byte the file"
    else
      bad "node $n: NOT the file"
      held=no
    fi
  done
}

# The file, with the line feed at its end that `quorate read` writes after every record.
expected_bytes() {
  cat -- "$FILE"
  [[ -z $(tail -c 1 -- "$FILE" | tr -d '\n' | tr '\0' 'x') ]] || echo
}

case ${1:-} in
  -h | --help) usage; exit 0 ;;
  -*) usage >&2; exit 2 ;;
esac
FILE=${1:-$(default_file)}
[[ -f $FILE && -r $FILE ]] || die "$FILE is not a file that can be read"
[[ -s $FILE ]] || die "$FILE is empty"

held=yes
append_pid='' killed='' new_leader='' have=''
# Interrupted: the append must not go on alone. The nodes stay for a look; down.sh stops them.
trap '[[ -z $append_pid ]] || kill "$append_pid" 2>/dev/null || true' EXIT

title "Building"
if [[ -z ${QUORATE_BIN_DIR:-} ]]; then
  "$ROOT/cluster/setup.sh"
  need_cargo
fi
build
good "$(quorate --version) in ${BIN_DIR#"$ROOT"/}"

for ((n = 1; n <= NODES; n++)); do stop_node "$n"; done
wipe_run_dir
mkdir -p "$RUN_DIR"
QUORATE_ENDPOINTS=$(endpoints)
export QUORATE_ENDPOINTS
start_cluster

# Lines as `quorate append` counts them: a last one without a line feed is one.
lines=$(expected_bytes | wc -l)
rate=$((lines / APPEND_SECONDS + 1))
# Batches small enough that there are many on both sides of the kill.
batch=$((rate / 50 + 1))
info "the file: $FILE ($lines lines, $(wc -c <"$FILE") bytes)"
append_with_failure "$lines" "$rate" "$((batch > 4096 ? 4096 : batch))"
read_back

title "The cluster now"
quorate status || held=no

title "It is left running"
cat <<TEXT
  export QUORATE_ENDPOINTS=$QUORATE_ENDPOINTS
  export PATH=$BIN_DIR:\$PATH
  quorate read $LOG_NAME --last 3
  echo hello | quorate append $LOG_NAME
  quorate --help

  cluster/down.sh           stops it and keeps its data
  cluster/down.sh --wipe    stops it and removes its data
TEXT
if [[ $held == yes ]]; then
  printf '\n%sEverything held.%s\n' "$BOLD$GREEN" "$PLAIN"
else
  printf '\n%sNot everything held: see the lines marked with ✗.%s\n' "$BOLD$RED" "$PLAIN"
  exit 1
fi
