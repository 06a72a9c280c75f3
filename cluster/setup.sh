#!/usr/bin/env bash
# Installs what building Quorate needs on Debian and Ubuntu. Quick, silent and harmless when
# everything is there. Needs rustup (or a cargo of the right version); fetches nothing but Debian
# packages and, through rustup, the Rust toolchain.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
Usage: cluster/setup.sh

Installs what is missing for building: g++, make, libclang and ccache with apt (as root or with
sudo), and a Rust toolchain if rustup has none that is new enough. Says what it does; does nothing
when everything is there.
TEXT
}

case ${1:-} in
  '') ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

need_cargo

# The library that the bindings of RocksDB are generated with.
have_libclang() {
  local dir
  for dir in ${LIBCLANG_PATH:-} /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/local/lib; do
    # Not libclang-cpp, which comes with other packages: the bindings can't be made with it.
    compgen -G "$dir/libclang[.-]*so*" | grep -qv 'libclang-cpp\.' && return 0
  done
  return 1
}

missing=()
command -v g++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
have_libclang || missing+=(libclang-dev)
required=${#missing[@]}
# Not needed, but it makes the second build of RocksDB a matter of seconds.
command -v ccache >/dev/null || missing+=(ccache)

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
    sudo "$@"
  else
    return 126
  fi
}

install_packages() {
  local command="apt-get install -y --no-install-recommends ${missing[*]}"
  if ! command -v apt-get >/dev/null; then
    ((required == 0)) && return 0
    die "missing: ${missing[*]}, and this system has no apt" "install their equivalents"
  fi
  info "installing ${missing[*]}"
  local log code=0
  log=$(mktemp)
  # One list of environment settings for both calls: sudo doesn't pass ours on.
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o Dpkg::Use-Pty=0 -o Acquire::Retries=3)
  { as_root "${apt[@]}" update && as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1 || code=$?
  if ((code != 0 && required == 0)); then
    warn "ccache could not be installed; going on without it"
  elif ((code == 126)); then
    die "missing: ${missing[*]}, and installing needs root" "sudo $command"
  elif ((code != 0)); then
    tail -n 20 "$log" >&2
    die "apt failed to install ${missing[*]}" "$command"
  fi
  rm -f "$log"
}

# The oldest Rust that the workspace is built with.
wanted_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")

rust_is_new_enough() {
  local have
  have=$(cargo --version 2>/dev/null | awk '{print $2}') || return 1
  [[ -n $have && $(printf '%s\n' "$wanted_rust" "${have%%-*}" | sort -V | head -n 1) == "$wanted_rust" ]]
}

((${#missing[@]} == 0)) || install_packages
if ! rust_is_new_enough; then
  command -v rustup >/dev/null || die "cargo is older than $wanted_rust" "get rustup: https://rustup.rs"
  info "installing the stable Rust toolchain"
  rustup toolchain install stable --profile minimal --component rustfmt --component clippy
  rustup default stable
  rust_is_new_enough || die "cargo is still older than $wanted_rust" "rustup override unset; rustup default stable"
fi
