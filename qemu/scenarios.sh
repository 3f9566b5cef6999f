# shellcheck shell=bash
# Scenarios: each in a process with a lab of its own, with a table of what was shown; and what several of them ask of
# servers and machines. Sourced by the scripts of qemu/ but netboot. Needs lib.sh.

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

# since INSTANT [INSTANT]: seconds from then, an $EPOCHREALTIME, to the other one or now.
since() { awk -v a="$1" -v b="${2:-$EPOCHREALTIME}" 'BEGIN { printf "%.1f", b - a }'; }

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

# --- All servers of a domain: BINLDS and FILE_SERVERS -----------------------------------------------

# addresses_of NAME...: of hosts, in one line.
addresses_of() {
    local name list=()
    for name in "$@"; do list+=("${HOST_ADDRESS[$name]}"); done
    printf '%s\n' "${list[*]}"
}

# serve FILE-SERVER FILE...: puts files in its boot folder; makes those that are not there yet.
serve() {
    local file
    for file in "${@:2}"; do
        [ -e "$LAB_DIR/boot/$file" ] || head -c 100000 /dev/urandom >"$LAB_DIR/boot/$file"
        ln "$LAB_DIR/boot/$file" "$LAB_DIR/boot/$1/$file"
    done
}

# stays CONDITION...: whether it holds for the tenth look in a row; the first of them ended at `held_since`. Right after a cut
# is mended servers are joined for a moment, until hellos show that their records differ.
stays() {
    if ! "$@"; then
        looks=0
    elif [ $((looks += 1)) -eq 1 ]; then
        # shellcheck disable=SC2034  # used by qemu/segments
        held_since=$EPOCHREALTIME
    fi
    [ "$looks" -ge 10 ]
}

# all_are WORD [NAME...]: whether those servers, or all, say that of the domain.
all_are() {
    local word=$1 name
    shift
    [ $# -gt 0 ] || set -- "${BINLDS[@]}" "${FILE_SERVERS[@]}"
    for name in "$@"; do
        [ "$(ask "$name" .domain)" = "$word" ] || return 1
    done
}

# is_cut_off NAME MEMBER...: whether it says that it is cut off from those, and no others.
is_cut_off() {
    all_are partitioned "$1" &&
        [ "$(ask "$1" '[.unreachable[].address] | sort | join(" ")')" = "$(addresses_of "${@:2}")" ]
}

# used_addresses: "ADDRESS CONTENT" of all stores and of all servers that run, as often as it is told: claims beyond
# clearing, claims of others, references, rests.
used_addresses() {
    local name
    for name in "${BINLDS[@]}"; do
        dump "$name" binld.db --json | jq -r 'select((.record == "claim" and .state != "clearing") or .record == "rest") |
            "\(.address) \(.mtftp_server):\(.file)"'
        running "$name" || continue
        ask "$name" '(.claims[] | select(.group and .state != "clearing") | "\(.group) \(.server):\(.file)"),
            (.claims_of_others[] | "\(.address) \(.content)"), (.rests[] | "\(.group) \(.server):\(.file)")'
    done
    for name in "${FILE_SERVERS[@]}"; do
        dump "$name" mtftpd.db --json | jq -r --arg own "${HOST_ADDRESS[$name]}" 'select(.record == "reference" or .record == "rest") |
            "\(.address) \(.mtftp_server // $own):\(.file)"'
        # shellcheck disable=SC2016  # what stands in single quotes is for jq
        ask "$name" '(.claims[], .rests[]) | "\(.group) \($own):\(.file)"' --arg own "${HOST_ADDRESS[$name]}"
    done
}

# twice_used: addresses of two contents in what `used_addresses` said, on standard input, sorted.
twice_used() { cut -d ' ' -f 1 | uniq -d | paste -sd ' '; }

# expect_no_address_twice WHEN
expect_no_address_twice() {
    local used twice
    used=$(used_addresses | sort -u)
    twice=$(twice_used <<<"$used")
    expect "no address twice, $1" "$(grep -c . <<<"$used") addresses in all stores and statuses${twice:+; TWO CONTENTS ON $twice}" \
        test -z "$twice" -a -n "$used"
}

# --- Machines -------------------------------------------------------------------------------------

# has N WORD: whether machine N has said that.
has() { [ -n "${shown[$1 $2]+told}" ]; }

# panics N: why its kernel gave up, if it did; a host that is short of time is enough for that.
panics() { plain_text <"$LAB_DIR/serial/$1" | sed -n 's/.*Kernel panic - not syncing: \(.*\)/ (panic: \1)/p' | paste -sd ' '; }

# all_wait N...: whether those machines wait in Linux for their file server to say `go`, or are off.
all_wait() {
    local n
    for n in "$@"; do has "$n" WAITS || has "$n" off || return 1; done
}

# got N FILTER: what a jq filter makes of what `mtftp-get` told on machine N.
got() { jq -r "$2 // empty" <<<"${shown[$1 GET]:-null}" 2>/dev/null || printf 'NOTHING\n'; }
