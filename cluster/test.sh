#!/usr/bin/env bash
# Every check there is, in the order of how quickly it fails. What CI runs (.ci/run) is this.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
Usage: cluster/test.sh [cargo test's arguments]

Sets up what building needs, then checks formatting, lints, documentation and all tests, and ends
with cargo test's own closing lines. With arguments, runs only the tests they name:
  cluster/test.sh -p quorate-cluster
TEXT
}

case ${1:-} in
  -h | --help) usage; exit 0 ;;
esac

"$ROOT/cluster/setup.sh"
need_cargo
cd "$ROOT"
# A toolchain of rustup's minimal profile lacks these two.
cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
# cargo colours by itself on a terminal only, but the tests below write into a pipe.
[[ -z $BOLD ]] || export CARGO_TERM_COLOR=always
export CARGO_TERM_PROGRESS_WHEN=never

check() {
  local name=$1 began=$SECONDS
  shift
  title "$name"
  "$@"
  good "$name ($((SECONDS - began)) s)"
}

failed=no
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# All tests run even when some fail: one run should tell everything.
tests() {
  cargo test --release --locked --no-fail-fast "$@" 2>&1 | tee "$log" || failed=yes
}

# cargo's line for each program of tests, with the result that program closed with.
closing_lines() {
  sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
    /^ +Running / || /^ +Doc-tests / { what = $0 }
    /^test result: / { print what; print $0; what = ""
      for (i = 1; i < NF; i++) { if ($(i+1) == "passed;") p += $i; if ($(i+1) == "failed;") f += $i; if ($(i+1) == "ignored;") g += $i } }
    END { printf "\ntotal: %d passed; %d failed; %d ignored\n", p, f, g }'
}

if (($#)); then
  tests "$@"
else
  check "formatting" cargo fmt --all --check
  check "lints" cargo clippy --release --locked --workspace --all-targets \
    --features quorate-jepsen/ssh-hosts --quiet -- -D warnings
  # Module documentation is for who works on the module, so it may link to what is private.
  check "documentation" \
    env RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings -A rustdoc::private_intra_doc_links" \
    cargo doc --release --locked --workspace --no-deps --quiet
  title "tests"
  tests --workspace
  title "fault suite"
  # 254: this machine can't do one of the faults (no loop devices in a container, say). That is no
  # finding about the code, and the runner says so.
  "$ROOT/jepsen/run.sh" ci || case $? in
    254) warn "the fault suite did not run in full: see above, and jepsen/run.sh doctor" ;;
    *) failed=yes ;;
  esac
  # A workspace of its own, with flags of its own.
  "$ROOT/jepsen/sim.sh" ci 2>&1 | tee -a "$log" || failed=yes
fi

title "what cargo test said"
closing_lines
if [[ $failed == yes ]]; then
  bad "tests failed" >&2
  exit 1
fi
good "all checks passed in $((SECONDS / 60)) min $((SECONDS % 60)) s"
