#!/bin/sh
# `make sim`: whole clusters under faults. Not yet a stage of `make test`: it still finds violations
# (README, "What was proven, and how").
set -eu
cd "$(dirname "$0")/.."
exec cargo run -p sim -- --seeds "${SEEDS:-200}" --nodes "${NODES:-5}" --first-seed "${FIRST_SEED:-1}" "$@"
