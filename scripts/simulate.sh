#!/bin/sh
# Whole clusters under faults, on virtual time: each seed one random cluster and one scripted scenario. Runs all
# seeds, says of each that breaks an invariant how to replay it, and fails at the end if one did or if a fault or a path
# of recovery never happened in a long run. To stop at the first one, run `sim` itself with --stop.
#
#   scripts/simulate.sh [SEEDS [NODES [FIRST_SEED]]]     default: 200 5 1
set -eu
cd "$(dirname "$0")/.."
exec cargo run ${CI:+--locked} -q --bin sim -- --seeds "${1:-200}" --nodes "${2:-5}" --first-seed "${3:-1}"
