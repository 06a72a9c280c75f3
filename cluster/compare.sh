#!/usr/bin/env bash
# Measures Quorate side by side with other replicated systems on this machine.
set -euo pipefail
# What is shipped is what is measured (docs/adr/0014).
QUORATE_PROFILE=dist
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
Usage: cluster/compare.sh [--only-debian] [options of `quorate bench compare`]

Builds Quorate as it is shipped, finds or fetches the others (etcd, NATS JetStream, Redis), starts
three nodes of each on this machine and runs the same loads against all of them, in turns. Writes
compare.json, compare.md and compare.svg into docs/performance (or --out DIR). Without options it
takes about half an hour; `--rounds 1 --duration 2s` gives a first look.

Where the others come from, in this order:
  a program on the PATH, or named by QUORATE_ETCD, QUORATE_NATS, QUORATE_REDIS;
  Go modules at the versions below, built with `go` into target/peers;
  Debian packages, unpacked into target/peers without being installed.
One that can't be had is left out, and the tables say so.

  --only-debian   don't build anything with go
TEXT
}

# The newest of each when the published figures were measured.
ETCD_VERSION=v3.7.3
NATS_VERSION=v2.15.2
PEERS_DIR=${CARGO_TARGET_DIR:-$ROOT/target}/peers

use_go=yes
case ${1:-} in
  -h | --help) usage; exit 0 ;;
  --only-debian) use_go=no; shift ;;
esac

# The program of a package that the system's go builds: gets it as package main of a module of our
# own, because `go install` refuses modules that replace others, as etcd's does.
from_go() {
  local name=$1 module=$2 version=$3
  command -v go >/dev/null && [[ $use_go == yes ]] || return 1
  local program=$PEERS_DIR/$name-$version
  if [[ ! -x $program ]]; then
    info "building $name $version from $module"
    local work
    work=$(mktemp -d "$PEERS_DIR/build.XXXXXX")
    if ! (cd "$work" && go mod init compare && go get "$module@$version" &&
      go build -trimpath -ldflags '-s -w' -o "$program" "$module") >"$PEERS_DIR/$name.log" 2>&1; then
      warn "$name $version could not be built; see $PEERS_DIR/$name.log"
      rm -rf -- "$work"
      return 1
    fi
    rm -rf -- "$work"
  fi
  echo "$program" >&3
}

# A program from Debian packages, unpacked but not installed: installing would start a service.
# from_debian NAME FILE PACKAGE...: FILE is what to run, the packages are it and its libraries.
from_debian() {
  local name=$1 file=$2 dir=$PEERS_DIR/debian-$1 program=$PEERS_DIR/$1
  shift 2
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
  # Also one whose checkout has moved: it names its libraries by their path.
  if ! "$program" --version >/dev/null 2>&1; then
    info "fetching $name from Debian"
    local package
    rm -rf -- "$dir"
    mkdir -p "$dir"
    if ! (cd "$dir" && apt-get download "$@" && for package in *.deb; do dpkg-deb -x "$package" .; done) \
      >"$PEERS_DIR/$name.log" 2>&1; then
      warn "$name could not be fetched; see $PEERS_DIR/$name.log"
      return 1
    fi
    rm -f -- "$dir"/*.deb
    ln -sf "$file" "$dir/$name"
    # shellcheck disable=SC2016 # The script's own variables.
    printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' \
      "$dir/usr/lib/$(uname -m)-linux-gnu" "$dir/$name" >"$program"
    chmod +x "$program"
  fi
  if ! "$program" --version >/dev/null 2>&1; then
    warn "$name from Debian does not run here"
    return 1
  fi
  echo "$program" >&3
}

on_path() {
  local found
  found=$(command -v "$1") || return 1
  echo "$found" >&3
}

# find NAME: prints the path of its program; fails when there is none. Talks on stderr.
find_peer() {
  exec 3>&1 1>&2
  case $1 in
    etcd)
      from_go etcd go.etcd.io/etcd/server/v3 "$ETCD_VERSION" || on_path etcd ||
        from_debian etcd usr/bin/etcd etcd-server
      ;;
    nats)
      from_go nats-server github.com/nats-io/nats-server/v2 "$NATS_VERSION" || on_path nats-server ||
        from_debian nats-server usr/bin/nats-server nats-server
      ;;
    redis)
      # redis-tools has the server too: its checking tool is the same program under another name.
      on_path redis-server ||
        from_debian redis-server usr/bin/redis-check-rdb redis-tools liblzf1 libjemalloc2 \
          liblua5.1-0 lua-cjson lua-bitop
      ;;
  esac
}

title "Building"
if [[ -z ${QUORATE_BIN_DIR:-} ]]; then
  "$ROOT/cluster/setup.sh"
  need_cargo
fi
build
good "$(quorate --version)"

title "The others"
mkdir -p "$PEERS_DIR"
options=()
for peer in etcd nats redis; do
  variable=QUORATE_${peer^^}
  if program=${!variable:-} && [[ -n $program ]] || program=$(find_peer "$peer"); then
    good "$peer: $program"
    options+=("--$peer" "$program")
  else
    warn "no $peer: it is left out"
  fi
done

title "Measuring"
mkdir -p "$RUN_DIR"
QUORATE_COMPARE_COMMAND="cluster/compare.sh${*:+ $*}"
export QUORATE_COMPARE_COMMAND
cd "$ROOT"
quorate bench compare --data "$RUN_DIR" --node "$BIN_DIR/quorate-node" "${options[@]}" "$@"
