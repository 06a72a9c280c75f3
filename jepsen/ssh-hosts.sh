#!/usr/bin/env bash
# Three hosts (or more) to try the ssh backend on, without having any: namespaces of this machine, each
# with a real sshd, a file tree of its own below /var/tmp, and its own processes. Needs root, `ip`, and
# sshd (openssh-server, whose own service need not run). The machine's network is neither used nor
# changed: the runner goes where the hosts are.
#   jepsen/ssh-hosts.sh up [N]
#   jepsen/ssh-hosts.sh run test --workload append --nemesis partition,kill,pause,reply-loss
#   jepsen/ssh-hosts.sh in ssh H1      a shell, or any command, where the hosts are
#   jepsen/ssh-hosts.sh down
#   jepsen/ssh-hosts.sh test           builds what is needed, and runs the tests of the backend
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

# On the build's disk: nodes store their data here.
HOSTS_DIR=${QUORATE_SSH_HOSTS_DIR:-$ROOT/target/ssh-hosts}
# Of 198.18.0.0/15, which is set aside for tests of networks.
NET=198.18.200

# Prints process $1 (of the file of this name) if it is one that `up` has started.
holder() {
  local pid
  pid=$(cat "$HOSTS_DIR/$1.pid" 2>/dev/null) || return 1
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$HOSTS_DIR" && echo "$pid"
}

# The first process inside the namespaces that $1 holds.
inside() { pgrep -P "$(holder "$1")" | head -n 1; }
has_inside() { [[ -n $(inside "$1") ]]; }
gone() { ! kill -0 "$1" 2>/dev/null; }
answers() { in_hub ssh -F "$HOSTS_DIR/ssh_config" "H$1" true 2>/dev/null; }
in_hub() { nsenter -t "$(inside hub)" -n -- "$@"; }
# The same as the last thing that is done: who kills this process kills what it has become.
become() { exec nsenter -t "$(inside hub)" -n -- "$@"; }

# hold NAME COMMAND...: namespaces that end with the process that holds them, and all in them with it.
hold() {
  local name=$1
  shift
  setsid unshare --net --mount --uts --pid --mount-proc --fork --kill-child \
    bash -c "$1" "$HOSTS_DIR" "${@:2}" </dev/null >"$HOSTS_DIR/$name.log" 2>&1 &
  echo $! >"$HOSTS_DIR/$name.pid"
  disown $!
  wait_for 10 has_inside "$name" || die "$name did not start: $(cat "$HOSTS_DIR/$name.log")"
}

up() {
  local count=$1 n child sshd
  [[ $(id -u) == 0 ]] || die "namespaces need root"
  sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd) ||
    die "there is no sshd here" "apt-get install openssh-server (its service need not run)"
  [[ ! -e $HOSTS_DIR ]] || down
  mkdir -p "$HOSTS_DIR"
  chmod 700 "$HOSTS_DIR"
  ssh-keygen -q -t ed25519 -N '' -C 'hosts of a test' -f "$HOSTS_DIR/key"
  # shellcheck disable=SC2016 # The script's own variables.
  hold hub 'ip link set lo up && exec sleep infinity'
  in_hub ip link add switch type bridge
  in_hub ip addr add "$NET.254/24" dev switch
  in_hub ip link set switch up
  for ((n = 1; n <= count; n++)); do
    mkdir "$HOSTS_DIR/h$n" "$HOSTS_DIR/h$n/tmp"
    chmod 1777 "$HOSTS_DIR/h$n/tmp"
    ssh-keygen -q -t ed25519 -N '' -C "h$n" -f "$HOSTS_DIR/h$n/host_key"
    printf '%s\n' "HostKey $HOSTS_DIR/h$n/host_key" "AuthorizedKeysFile $HOSTS_DIR/key.pub" \
      'PasswordAuthentication no' 'KbdInteractiveAuthentication no' 'StrictModes no' \
      'PermitRootLogin prohibit-password' 'UsePAM no' 'PidFile none' >"$HOSTS_DIR/h$n/sshd_config"
    # shellcheck disable=SC2016
    hold "h$n" 'set -e; ip link set lo up; hostname "$1"; mount --bind "$0/$1/tmp" /var/tmp
      mount -t tmpfs none /run; mkdir /run/sshd; exec "$2" -D -e -f "$0/$1/sshd_config"' "h$n" "$sshd"
    child=$(inside "h$n")
    in_hub ip link add "h$n" type veth peer name eth0
    in_hub ip link set eth0 netns "$child"
    in_hub ip link set "h$n" master switch up
    nsenter -t "$child" -n -- ip addr add "$NET.$n/24" dev eth0
    nsenter -t "$child" -n -- ip link set eth0 up
    echo "root@$NET.$n" >>"$HOSTS_DIR/hosts"
    printf '%s ' "$NET.$n" | cat - "$HOSTS_DIR/h$n/host_key.pub" >>"$HOSTS_DIR/known_hosts"
    printf '%s\n' "Host H$n" "  HostName $NET.$n" '  User root' "  IdentityFile $HOSTS_DIR/key" \
      "  UserKnownHostsFile $HOSTS_DIR/known_hosts" >>"$HOSTS_DIR/ssh_config"
  done
  for ((n = 1; n <= count; n++)); do
    wait_for 20 answers "$n" || die "h$n does not answer: $(tail -n 3 "$HOSTS_DIR/h$n.log")"
  done
  echo "up: $(paste -sd' ' "$HOSTS_DIR/hosts"); try: jepsen/ssh-hosts.sh run doctor"
}

down() {
  local file name pid
  for file in "$HOSTS_DIR"/*.pid; do
    name=$(basename "$file" .pid)
    pid=$(holder "$name") || continue
    kill -KILL "$pid"
    wait_for 10 gone "$pid" || die "$name (process $pid) can't be ended"
  done
  rm -rf "$HOSTS_DIR"
}

is_up() {
  if [[ ! -e $HOSTS_DIR/hosts ]] || ! holder hub >/dev/null; then
    die "no hosts are up" "jepsen/ssh-hosts.sh up"
  fi
}

case ${1:-} in
  up) up "${2:-3}" ;;
  down) down ;;
  test)
    "$ROOT/cluster/setup.sh" >&2
    need_cargo
    cd "$ROOT"
    cargo build --release --locked --quiet -p quorate-raft-node --bin quorate-node
    cargo build --release --locked --quiet -p quorate-raft-node --features planted \
      --bin quorate-node-planted
    exec cargo test --release --locked -p quorate-jepsen --features ssh-hosts --test ssh -- \
      --test-threads 2
    ;;
  run)
    is_up
    shift
    become "$ROOT/jepsen/run.sh" "$@" --hosts-file "$HOSTS_DIR/hosts" --identity "$HOSTS_DIR/key" \
      --ssh-option "UserKnownHostsFile=$HOSTS_DIR/known_hosts"
    ;;
  in)
    is_up
    shift
    # `ssh H1` finds the hosts as `up` named them.
    if [[ ${1:-} == ssh ]]; then set -- ssh -F "$HOSTS_DIR/ssh_config" "${@:2}"; fi
    become "${@:-${SHELL:-bash}}"
    ;;
  *)
    sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 254
    ;;
esac
