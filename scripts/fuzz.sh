#!/bin/sh
# Builds the fuzz targets with stable Rust and runs each for a while, starting from its committed
# corpus. Coverage feedback is LLVM's own (sancov), switched on by stable compiler flags, and
# libFuzzer comes from the libfuzzer-sys crate: neither nightly Rust nor cargo-fuzz is needed.
# A person who has cargo-fuzz gets the same with: cargo fuzz run -s none TARGET
#
#   scripts/fuzz.sh [--seconds N] [TARGET...]   fuzz (default: 60 seconds, all targets)
#   scripts/fuzz.sh --merge [TARGET...]         copy what earlier runs found into the committed
#                                               corpus, only inputs that reach something new
#
# Inputs that reach something new are kept in the target folder, so the next run goes on from
# there. An input that crashes is written to fuzz/artifacts/TARGET/ with the command to replay it.
set -eu
cd "$(dirname "$0")/.."

# A decoder answers in microseconds and in memory that its input bounds; these are far above that
# and far below what would hurt the machine.
TIMEOUT_SECONDS=10
RSS_LIMIT_MIB=1024

fail() {
    printf 'fuzz: %s\n' "$1" >&2
    exit 1
}

seconds=60
merge=no
while [ $# -gt 0 ]; do
    case $1 in
    --seconds)
        [ $# -ge 2 ] || fail '--seconds needs a number'
        seconds=$2
        shift 2
        ;;
    --merge)
        merge=yes
        shift
        ;;
    -*) fail "unknown option $1; known are --seconds N and --merge" ;;
    *) break ;;
    esac
done
case $seconds in
'' | *[!0-9]* | 0) fail "--seconds needs a whole number above 0, not \"$seconds\"" ;;
esac

if [ $# -eq 0 ]; then
    for source in fuzz/fuzz_targets/*.rs; do
        # A run that fuzzes nothing must not look like one that found nothing.
        [ -e "$source" ] || fail 'there is no target in fuzz/fuzz_targets'
        set -- "$@" "$(basename "$source" .rs)"
    done
fi

host=$(rustc -vV | sed -n 's/^host: //p')
if [ -n "${CARGO_TARGET_DIR:-}" ]; then
    target_dir=$CARGO_TARGET_DIR/fuzz
else
    target_dir=fuzz/target
fi
log=$target_dir/log
mkdir -p "$log"

# --target keeps the flags away from build scripts and proc macros. One codegen unit, because
# sancov's counters need each function in one place.
build() {
    unset CARGO_ENCODED_RUSTFLAGS
    RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
        cargo build ${CI:+--locked} --release --bins --target "$host" \
        --manifest-path fuzz/Cargo.toml --target-dir "$target_dir"
}

# Says how a target's last run went, from libFuzzer's own log: inputs tried, edges reached.
summary() {
    counters=$(sed -n 's/.*Loaded 1 modules.*(\([0-9]*\) inline 8-bit counters).*/\1/p' "$1" | head -n 1)
    [ "${counters:-0}" -gt 0 ] ||
        fail "the build counts no edges, so this was no guided fuzzing; see $1"
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$1")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$1" | tail -n 1)
    seed=$(sed -n 's/^INFO: Seed: //p' "$1")
    printf '%-24s %10s runs, %s of %s edges, no crash (seed %s)\n' \
        "$target" "$runs" "${edges:-0}" "$counters" "$seed"
}

fuzz() {
    artifacts=fuzz/artifacts/$target
    mkdir -p "$artifacts"
    status=0
    # The first folder receives new inputs; the committed corpus is only read.
    "$program" -max_total_time="$seconds" -timeout="$TIMEOUT_SECONDS" -rss_limit_mb="$RSS_LIMIT_MIB" \
        -use_value_profile=1 -print_final_stats=1 -artifact_prefix="$artifacts/" \
        "$found" "$corpus" >"$log/$target.log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        sed -n '/panicked at\|ERROR: libFuzzer/,$p' "$log/$target.log" | head -n 60 >&2
        input=$(sed -n 's/.*Test unit written to //p' "$log/$target.log" | tail -n 1)
        fail "$target failed (exit code $status). To replay: $program ${input:-(no input was written)}"
    fi
    summary "$log/$target.log"
}

merge() {
    before=$(find "$corpus" -type f | wc -l)
    "$program" -merge=1 "$corpus" "$found" >"$log/$target.merge.log" 2>&1 ||
        fail "$target: merging failed; see $log/$target.merge.log"
    after=$(find "$corpus" -type f | wc -l)
    printf '%-24s %d inputs in the committed corpus, %d new\n' "$target" "$after" $((after - before))
}

build
for target in "$@"; do
    program=$target_dir/$host/release/$target
    corpus=fuzz/corpus/$target
    found=$target_dir/found/$target
    [ -x "$program" ] || fail "$target is not built: it needs a [[bin]] in fuzz/Cargo.toml"
    [ -n "$(ls -A "$corpus" 2>/dev/null)" ] || fail "$corpus has no committed input to start from"
    mkdir -p "$found"
    if [ "$merge" = yes ]; then merge; else fuzz; fi
done
