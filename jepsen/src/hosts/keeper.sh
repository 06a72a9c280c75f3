# Run on a host, as root, for as long as a runner uses it. It does what lines on its standard input say,
# a line of answer each. When they end, because the runner has gone or the connection is lost, or when
# none has come for a while, it ends the node, takes our rules away, and removes what we put here.
base=$1 every=${2:-5}
PATH=$PATH:/usr/sbin:/sbin
umask 077
table=quorate_jepsen
run=$base/run lock=$base/keeper keeper=$$
trap '' HUP INT TERM PIPE

pid_of_node() { cat "$run/pid" 2>/dev/null; }

end_node() {
  [ -d "$run" ] || return 0
  : >"$run/ended"
  pid=$(pid_of_node) || return 0
  # Only if it is ours: a number alone says little after a crash of the host.
  grep -aqF -- "$base/bin/" "/proc/$pid/cmdline" || return 0
  kill -KILL "$pid"
  tries=0
  while kill -0 "$pid" && [ $tries -lt 100 ]; do
    sleep 0.1
    tries=$((tries + 1))
  done
}

end_all() {
  end_node
  nft delete table inet $table
  rm -rf "$run"
  # Last: who finds it gone may begin.
  rm -rf "$lock"
} </dev/null >/dev/null 2>&1

if ! mkdir "$lock" 2>/dev/null; then
  other=$(cat "$lock/pid" 2>/dev/null)
  if [ -n "$other" ] && grep -q quorate-jepsen-keeper "/proc/$other/cmdline" 2>/dev/null; then
    echo "busy process $other there keeps it"
    exit 0
  fi
  # The host itself crashed meanwhile, or somebody killed everything.
  end_all
  mkdir "$lock" || exit 1
fi
echo $$ >"$lock/pid"

# Should this process be killed or its input hang, somebody else does its last work.
watch() {
  silent=0
  while sleep "$every"; do
    [ "$(cat "$lock/pid")" = "$keeper" ] || return 0
    if rm "$lock/heard"; then silent=0; else silent=$((silent + 1)); fi
    if [ $silent -ge 4 ] || ! kill -0 "$keeper"; then
      kill -KILL "$keeper"
      end_all
      return 0
    fi
  done
}
: >"$lock/heard"
watch </dev/null >/dev/null 2>&1 &
watcher=$!

# A node that was just told to start may need a moment to have a process.
signal() {
  tries=0
  until pid=$(pid_of_node); do
    [ $tries -lt 100 ] || { echo "no node runs" >&2; return 1; }
    sleep 0.1
    tries=$((tries + 1))
  done
  kill -s "$1" "$pid"
}

echo ready
while read -r word rest; do
  : >"$lock/heard"
  case $word in
    beat) continue ;;
    begin) said=$({ end_node; rm -rf "$run"; } >/dev/null 2>&1; mkdir "$run" 2>&1) ;;
    signal) said=$(signal "$rest" 2>&1) ;;
    state) said=$(grep State: "/proc/$(pid_of_node)/status" 2>&1) ;;
    rules) said=$(printf '%s\n' "$rest" | nft -f - 2>&1) ;;
    counters) said=$(nft -j list table inet $table 2>&1) ;;
    remove) said=$(rm -rf "$run" 2>&1) ;;
    aside) said=$(rm -f "$run/pid" "$run/ended" && mv "$run" "$base/$rest" 2>&1) ;;
    *) said="unknown: $word"; false ;;
  esac
  echo "$? $(printf '%s' "$said" | tr '\n' ' ')"
done
# Before the lock goes: it is this keeper's watcher only.
kill -KILL "$watcher"
end_all
