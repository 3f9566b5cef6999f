# shellcheck shell=bash
# Scenarios: each in a process with a lab of its own, with a table of what was shown; and what several of them ask of
# servers and machines. Sourced by qemu/domain and qemu/matrix. Needs lib.sh.

# --- What was shown -------------------------------------------------------------------------------

facts=() faults=()

# fact WHAT DETAIL, fault WHAT DETAIL: a row of the table, of what is so and of what is not; note: of neither.
fact() { facts+=("ok     $(printf '%-46s' "$1")  $2"); }
note() { facts+=("-      $(printf '%-46s' "$1")  $2"); }
fault() {
    facts+=("WRONG  $(printf '%-46s' "$1")  $2")
    faults+=("$1: $2")
}

# expect WHAT DETAIL COMMAND...: the one or the other, as the command says.
expect() {
    local what=$1 detail=$2
    shift 2
    if "$@"; then fact "$what" "$detail"; else fault "$what" "$detail"; fi
}

# since INSTANT: seconds from then, an $EPOCHREALTIME, to now.
since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

# --- One after another ----------------------------------------------------------------------------

scenario=

# alone SECONDS SCRIPT ARGUMENT...: runs the script in a process that is ended when its time is over (124), or when this
# one is told to end, and waits for it. Not a function: `set -e` would be off in it.
alone() {
    local seconds=$1 status=0
    shift
    trap 'stop_alone 130' INT
    trap 'stop_alone 143' TERM HUP
    timeout --foreground --kill-after=60 "$seconds" "$BASH" "$@" </dev/null &
    scenario=$!
    # In the background, so that a signal is passed on at once.
    wait "$scenario" || status=$?
    scenario=
    return "$status"
}

# stop_alone STATUS: ends the one that runs, waits until it has cleaned up, and exits.
stop_alone() {
    trap '' INT TERM HUP
    [ -z "$scenario" ] || kill -TERM "$scenario" 2>/dev/null || true
    wait
    exit "$1"
}

# scenario_end NAME: the table, and with faults the logs and exit code 1. With SCENARIO_KEEP the lab stays.
scenario_end() {
    step "done"
    printf '\n=== %s\n' "$1"
    printf '%s\n' "${facts[@]}"
    if [ -n "${SCENARIO_KEEP:-}" ]; then
        # shellcheck disable=SC2034  # used by lib.sh
        LAB_KEEP=1
        printf "\nThe network is still up; all about it is in %s. Take it down: %s --down %s\n" "$LAB_DIR" "$QEMU_DIR/netboot" "$LAB_ID"
    fi
    [ ${#faults[@]} -gt 0 ] || return 0
    show_logs 20
    printf '\n'
    printf "$1: wrong: %s\n" "${faults[@]}"
    exit 1
}

# --- Servers --------------------------------------------------------------------------------------

# item NAME TYPE FILE [PINNED]: a boot item.
item() { filled_in item.toml "NAME=$1" "TYPE=$2" "FILE=$3" "PINNED=${4:-false}"; }

# ask NAME FILTER [JQ-ARGUMENT...]: what a jq filter makes of its status.
ask() { daemon_status "$1" --json | jq -r "${@:3}" "$2"; }

# group_of BINLD FILE: the address that it holds for the file, whichever file server has it.
group_of() {
    # shellcheck disable=SC2016  # what stands in single quotes is for jq
    ask "$1" '[.claims[] | select(.file == $file and .state == "held") | .group][0] // empty' --arg file "$2"
}

holds() { [ -n "$(group_of "$1" "$2")" ]; }

# --- Machines -------------------------------------------------------------------------------------

# has N WORD: whether machine N has said that.
has() { [ -n "${shown[$1 $2]+told}" ]; }

# panics N: why its kernel gave up, if it did; a host that is short of time is enough for that.
panics() { plain_text <"$LAB_DIR/serial/$1" | sed -n 's/.*Kernel panic - not syncing: \(.*\)/ (panic: \1)/p' | paste -sd ' '; }
