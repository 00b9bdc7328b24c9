#!/bin/sh
# Whole clusters under faults, on virtual time: each seed one random cluster and one scripted scenario. Fails at the
# first seed that breaks an invariant, and says how to replay it.
#
#   scripts/simulate.sh [SEEDS [NODES [FIRST_SEED]]]     default: 200 5 1
set -eu
cd "$(dirname "$0")/.."
exec cargo run ${CI:+--locked} -q -p sim -- --seeds "${1:-200}" --nodes "${2:-5}" --first-seed "${3:-1}"
