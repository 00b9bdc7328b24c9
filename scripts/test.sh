#!/bin/sh
# `make test`: everything that CI checks. Nextest comes last, so that its summary is the last thing
# you read; the wall times of the other stages stand right above it.
#
# Of `bench` the format and clippy are checked here: building it optimises every rival library, and `make bench` does.
set -eu
cd "$(dirname "$0")/.."
. scripts/stages.sh

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

stage 'tools' sh scripts/install-tools.sh
stage 'WordPress' sh scripts/fetch-wordpress.sh
stage 'format' cargo fmt --all --check
# The fuzz targets have a lock file of their own, and are built late: what is wrong with it is said here.
stage 'lock files' sh -c "cargo metadata $locked --format-version 1 >/dev/null &&
    cargo metadata $locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null"
# shellcheck disable=SC2086 # `locked` is one word or none, here and below.
stage 'clippy' cargo clippy $locked --workspace --all-targets -- -D warnings
# All at once, because cargo chooses features for what it builds together: the simulator built alone is another one.
# shellcheck disable=SC2086
stage 'build the tests' cargo build $locked --all-targets
# shellcheck disable=SC2086
stage 'documentation tests' cargo test $locked --doc
stage 'simulate 200 seeds' sh scripts/simulate.sh 200 5 1
# Seeds that nobody ran before: what they find is found before a user does. The first one is printed, to run them again.
fresh=$(date +%s)
stage "simulate 50 fresh seeds from $fresh on" sh scripts/simulate.sh 50 5 "$fresh"
# shellcheck disable=SC2086
stage 'deliberate bugs are caught' cargo nextest run $locked --features sim/mutants,laws/mutants \
    --test mutants --test laws -E 'binary(mutants) | test(/^mutants::/)' --no-fail-fast
stage 'fuzz the decoders, 5 s each' sh scripts/fuzz.sh --seconds 5
stage_times

printf '\n==> unit and integration tests\n'
# shellcheck disable=SC2086
exec cargo nextest run $locked --no-fail-fast
