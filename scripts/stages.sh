# shellcheck shell=sh
# Sourced, not run. Runs the stages of a check one after another and remembers what each took.
#
#   stage NAME COMMAND [ARGUMENT...]   runs COMMAND; when it fails, says which stage and stops
#   stage_times                        prints the wall time of every stage so far

stage_table=''
stage_total_seconds=0

stage() {
    stage_name=$1
    shift
    printf '\n==> %s\n' "$stage_name"
    stage_started=$(date +%s)
    stage_status=0
    "$@" || stage_status=$?
    stage_seconds=$(($(date +%s) - stage_started))
    stage_total_seconds=$((stage_total_seconds + stage_seconds))
    stage_table="$stage_table$(printf '%6d s  %s' "$stage_seconds" "$stage_name")
"
    if [ "$stage_status" -ne 0 ]; then
        stage_times
        printf '\nFAILED in stage "%s" (exit code %d). The command was:\n  %s\n' \
            "$stage_name" "$stage_status" "$*" >&2
        exit "$stage_status"
    fi
    printf '    %s: %d s\n' "$stage_name" "$stage_seconds"
}

stage_times() {
    printf '\nWall time by stage\n%s%6d s  all of them\n' "$stage_table" "$stage_total_seconds"
}
