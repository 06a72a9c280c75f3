#!/usr/bin/env bash
# The simulation's front door: builds what it needs, and passes its arguments on.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

usage() {
  cat <<'TEXT'
Usage: jepsen/sim.sh ARGUMENTS      what `sim` does with them, e.g.
         jepsen/sim.sh run --seeds 1000
         jepsen/sim.sh replay 17 --trace
         jepsen/sim.sh mutants
       jepsen/sim.sh ci             lints and tests of the simulation, some seeds, determinism, mutants
       jepsen/sim.sh nightly        many seeds that were never run before, and the rest

Simulates whole clusters, seed by seed; see jepsen/sim/README.md.
TEXT
}

case ${1:-} in
  '' | -h | --help) usage; exit 0 ;;
esac

need_cargo
SIM=$ROOT/jepsen/sim
# Its flags are in its own .cargo/config.toml, which counts in its own directory only; flags from
# outside would replace them.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR
cd "$SIM"

sim() { "$SIM/target/release/sim" "$@"; }

build_sim() { cargo build --release --locked --quiet; }

step() {
  local began=$SECONDS
  title "simulation: $1"
  shift
  "$@"
  info "$((SECONDS - began)) s"
}

# Planted faults are behind a feature that nothing in the project's own workspace turns on.
no_faults_in_servers() {
  local features
  features=$(cd "$ROOT" && cargo tree --locked --workspace --edges features --invert quorate-state-machine)
  # Or the search below would find nothing in nothing.
  grep -q 'quorate-state-machine feature "rocksdb"' <<<"$features"
  if grep -Eq 'feature "(simulation|planted)"' <<<"$features"; then
    bad "a server would be built with planted faults: see cargo tree --workspace -e features" >&2
    return 1
  fi
}

case $1 in
  ci)
    cargo fmt --check
    step "no planted faults in servers" no_faults_in_servers
    step "lints" cargo clippy --release --locked --quiet --all-targets -- -D warnings
    step "tests" cargo test --release --locked
    build_sim
    step "the same seed is the same run" sim meta --seeds 3
    step "seeds" sim run --from 1 --seeds 80
    step "planted faults are caught" sim mutants
    good "simulation"
    ;;
  nightly)
    build_sim
    step "the same seed is the same run" sim meta --seeds 50
    step "seeds" sim run --seeds 20000 --keep-going
    step "longer runs" sim run --seeds 1000 --fault-ms 30000 --keep-going
    step "planted faults are caught" sim mutants --from 1000
    good "simulation"
    ;;
  *)
    build_sim
    exec "$SIM/target/release/sim" "$@"
    ;;
esac
