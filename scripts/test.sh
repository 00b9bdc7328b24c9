#!/bin/sh
# `make test`: everything that CI checks. Nextest comes last, so that its summary is the last thing
# you read; the wall times of the other stages stand right above it.
#
#   FRESH_FIRST_SEED=N   replays the fresh seeds of an earlier run (default: random, printed)
#   FUZZ_SECONDS=N       seconds for each fuzz target (default 8)
set -eu
cd "$(dirname "$0")/.."
. scripts/stages.sh

FIXED_SEEDS=200
FRESH_SEEDS=50
NODES=5

# `cargo install` puts cargo-nextest there, and a login shell is what usually adds it to PATH.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
export PATH

# CI builds once from nothing, so incremental state is only written and never read; and a lock file
# that was not committed must fail there instead of being resolved anew.
locked=''
if [ -n "${CI:-}" ]; then
    locked='--locked'
    CARGO_INCREMENTAL=0
    export CARGO_INCREMENTAL
fi

fresh_first_seed=${FRESH_FIRST_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' \n')}

stage 'tools' sh scripts/install-tools.sh
stage 'format' cargo fmt --all --check
stage 'format of the fuzz targets' cargo fmt --manifest-path fuzz/Cargo.toml --check
# shellcheck disable=SC2086 # `locked` is one word or none, here and below.
stage 'clippy' cargo clippy $locked --all-targets -- -D warnings
# shellcheck disable=SC2086
stage 'build the tests' cargo nextest run $locked --no-run
# shellcheck disable=SC2086
stage 'documentation tests' cargo test $locked --doc
# shellcheck disable=SC2086
stage "simulate $FIXED_SEEDS fixed seeds" \
    cargo run $locked -p sim -- --seeds "$FIXED_SEEDS" --nodes "$NODES" --first-seed 1
printf '\nThe first of the fresh seeds is %s. To replay them:\n  %s\n' "$fresh_first_seed" \
    "cargo run -p sim -- --seeds $FRESH_SEEDS --nodes $NODES --first-seed $fresh_first_seed"
# shellcheck disable=SC2086
stage "simulate $FRESH_SEEDS fresh seeds" \
    cargo run $locked -p sim -- --seeds "$FRESH_SEEDS" --nodes "$NODES" --first-seed "$fresh_first_seed"
stage 'fuzz, from the committed corpus' sh scripts/fuzz.sh --seconds "${FUZZ_SECONDS:-8}"
stage_times

printf '\n==> unit and integration tests\n'
# shellcheck disable=SC2086
exec cargo nextest run $locked --no-fail-fast
