# shellcheck shell=bash
# The parts of a boot lab: messages, a folder and processes that are cleaned up, hosts in network
# namespaces round one bridge, our daemons, machines under QEMU.
# A scenario sources this file, calls `lab_open`, then the rest in the order below.
# Everything stays in namespaces of its own: nothing is added to the host's network.

QEMU_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034  # used by the files that source this one
REPO=$(dirname "$QEMU_DIR")

# Addresses of the lab's hosts, all in one /24; `segment_host_up` adds those of other ones.
declare -A HOST_ADDRESS=(
    [dhcp]=10.77.0.1 [dhcp2]=10.77.0.2 [binld1]=10.77.0.11 [binld2]=10.77.0.12 [binld3]=10.77.0.13
    [mtftp1]=10.77.0.21 [mtftp2]=10.77.0.22 [stranger]=10.77.0.66
)
# shellcheck disable=SC2034  # used by the files that source this one
readonly POOL_FIRST=10.77.0.100 POOL_LAST=10.77.0.199
# shellcheck disable=SC2034  # here, too
readonly PINNED_GROUP=239.255.1.1 PINNED_PORT=3001

# --- Messages -------------------------------------------------------------------------------------

LAB_START=$EPOCHREALTIME

# elapsed: seconds since the start, with one decimal.
elapsed() {
    awk -v a="$LAB_START" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'
}

step() { printf '[%6s s] %s\n' "$(elapsed)" "$*"; }
warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
    warn "$*"
    exit 1
}

# is_number TEXT LEAST MOST
is_number() { [[ $1 =~ ^[1-9][0-9]{0,5}$ && $1 -ge $2 && $1 -le $3 ]]; }

# wait_until SECONDS COMMAND...: runs COMMAND every 0.1 s until it succeeds or the time is over.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -le "$end" ] || return 1
        sleep 0.1
    done
}

# --- The lab: a folder, and what is cleaned up with it ----------------------------------------------

LAB_DIR=
LAB_ID=
LAB_KEEP=
declare -A LAB_PID=()

# lab_open: makes the lab's folder and with it the name that all its namespaces share. From here on
# the end of the script, however it comes, cleans up, unless LAB_KEEP is set.
lab_open() {
    LAB_DIR=$(mktemp -d "${TMPDIR:-/tmp}/pxemc-XXXXXX")
    LAB_ID=${LAB_DIR##*/pxemc-}
    mkdir "$LAB_DIR"/{log,boot,conf,state,run,serial}
    : >"$LAB_DIR/pids"
    : >"$LAB_DIR/namespaces"
    trap lab_end EXIT
    # What a command says for itself may be little: name the place, too.
    set -E
    trap 'warn "stopped by a failure at ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND"' ERR
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

lab_end() {
    local status=$?
    trap - EXIT ERR
    trap '' INT TERM HUP
    [ -n "$LAB_KEEP" ] || lab_clean "$LAB_DIR"
    exit "$status"
}

# lab_down ID: cleans up a lab that was kept.
lab_down() {
    local dir=${TMPDIR:-/tmp}/pxemc-$1
    if ! [[ $1 =~ ^[A-Za-z0-9]+$ && -f $dir/namespaces ]]; then
        die "there is no lab '$1' in ${TMPDIR:-/tmp}."
    fi
    lab_clean "$dir"
}

# lab_clean FOLDER: ends the processes of a lab by their ids, removes its namespaces (with them go
# bridge, cables and taps), then the folder.
lab_clean() {
    local dir=$1 pid start ns signal pids=()
    while read -r pid start _; do
        # The start time tells our process from a later one with the same id.
        [ "$(start_time "$pid")" = "$start" ] && pids+=("$pid")
    done <"$dir/pids"
    for signal in TERM KILL; do
        [ ${#pids[@]} -eq 0 ] || kill -"$signal" "${pids[@]}" 2>/dev/null || true
        wait_until 4 all_gone "${pids[@]}" && break
    done
    while read -r ns; do
        ip netns del "$ns" 2>/dev/null || true
    done <"$dir/namespaces"
    rm -rf "$dir"
}

# start_time PID: when that process started, in clock ticks since boot; nothing if there is none (or
# only its remains, which wait for their parent).
start_time() {
    local line
    { line=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
    line=${line##*) }
    [ "${line%% *}" = Z ] || awk '{ print $20 }' <<<"$line"
}

all_gone() {
    local pid
    for pid in "$@"; do
        [ -z "$(start_time "$pid")" ] || return 1
    done
}

# spawn NAME HOST COMMAND...: starts COMMAND in the namespace of HOST, its output added to log/NAME.log.
spawn() {
    local name=$1 host=$2 pid
    shift 2
    ip netns exec "$(namespace "$host")" "$@" </dev/null >>"$LAB_DIR/log/$name.log" 2>&1 &
    pid=$!
    LAB_PID[$name]=$pid
    printf '%s %s %s\n' "$pid" "$(start_time "$pid")" "$name" >>"$LAB_DIR/pids"
}

running() { [ -n "$(start_time "${LAB_PID[$1]}")" ]; }

# stop_dead NAME: ends a process that `spawn` started with no chance to say a last word.
stop_dead() {
    kill -KILL "${LAB_PID[$1]}"
    # The shell has its own word to say about a child that was killed.
    wait "${LAB_PID[$1]}" 2>/dev/null || true
}

# stop NAME: ends a process that `spawn` started, and waits for it.
stop() {
    kill -TERM "${LAB_PID[$1]}" 2>/dev/null || true
    wait_until 5 all_gone "${LAB_PID[$1]}" || kill -KILL "${LAB_PID[$1]}" 2>/dev/null || true
}

# show_logs [LINES]: the ends of all logs and consoles.
show_logs() {
    local file
    for file in "$LAB_DIR"/log/*.log "$LAB_DIR"/serial/*; do
        [ -s "$file" ] || continue
        printf -- '--- end of %s\n' "${file#"$LAB_DIR"/}"
        # Consoles redraw lines with escape sequences, which have no place on this terminal.
        tail -n "${1:-15}" "$file" | plain_text
    done
}

plain_text() { LC_ALL=C sed 's/\x1b\[[0-9;?]*[A-Za-z]//g; s/\x1bc//g; s/[^[:print:]\t]//g'; }

# --- Network ----------------------------------------------------------------------------------------

namespace() { printf 'pxemc-%s-%s\n' "$LAB_ID" "$1"; }

make_namespace() {
    local ns
    ns=$(namespace "$1")
    printf '%s\n' "$ns" >>"$LAB_DIR/namespaces"
    ip netns add "$ns" ||
        die "cannot make a network namespace: this needs a root that may (in a container: CAP_SYS_ADMIN, and /run writable)."
    ip -n "$ns" link set lo up
}

# More options of a bridge, for `ip link`.
BRIDGE_OPTIONS=()

# network_up: the bridge. It keeps the kernel's defaults but for spanning tree and those options, so multicast snooping
# is on; without a querier in the network it then passes all groups on to everybody.
network_up() {
    make_namespace bridge
    bridge_up br0
}

bridge_up() {
    ip -n "$(namespace bridge)" link add "$1" type bridge stp_state 0 forward_delay 0 "${BRIDGE_OPTIONS[@]}"
    ip -n "$(namespace bridge)" link set "$1" up
}

# second_bridge_up: another bridge, br1, on a cable to the first one; `way down` cuts it, `way up` mends it.
second_bridge_up() {
    local bridge
    bridge=$(namespace bridge)
    bridge_up br1
    ip -n "$bridge" link add way0 type veth peer name way1
    ip -n "$bridge" link set way0 master br0 up
    ip -n "$bridge" link set way1 master br1 up
}

way() { ip -n "$(namespace bridge)" link set way0 "$1"; }

# host_up NAME [BRIDGE [ROUTER]]: a host with `eth0` on a cable to the bridge; the bridge's end has the host's name. By that
# router it reaches what is beyond its link.
host_up() {
    local ns bridge
    make_namespace "$1"
    ns=$(namespace "$1")
    bridge=$(namespace bridge)
    ip -n "$bridge" link add "$1" type veth peer name eth0 netns "$ns"
    ip -n "$bridge" link set "$1" master "${2:-br0}" up
    ip -n "$ns" address add "${HOST_ADDRESS[$1]}/24" brd + dev eth0
    # No segmentation offload: every datagram is a packet of its own and can be counted on the cable.
    ip -n "$ns" link set eth0 gso_max_segs 1 up
    [ -z "${3:-}" ] || ip -n "$ns" route add default via "$3"
}

# segments_up COUNT: instead of `network_up`, segments 1 to COUNT: bridge br1 with 10.77.1.0/24 and so on, and a router,
# 10.77.1.254 and so on, that joins them. Multicast it does not pass on.
segments_up() {
    local n bridge router
    make_namespace bridge
    make_namespace router
    bridge=$(namespace bridge)
    router=$(namespace router)
    for ((n = 1; n <= $1; n++)); do
        bridge_up "br$n"
        ip -n "$bridge" link add "seg$n" type veth peer name "seg$n" netns "$router"
        ip -n "$bridge" link set "seg$n" master "br$n" up
        ip -n "$router" address add "10.77.$n.254/24" brd + dev "seg$n"
        ip -n "$router" link set "seg$n" up
    done
    ip netns exec "$router" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}

# segment_host_up N NAME: the host sN-NAME on segment N. It has the number there that NAME has in HOST_ADDRESS.
segment_host_up() {
    HOST_ADDRESS[s$1-$2]=10.77.$1.${HOST_ADDRESS[$2]##*.}
    host_up "s$1-$2" "br$1" "10.77.$1.254"
}

# segment_cut N: the router passes nothing on from and to that segment, until `segment_mend`.
segment_cut() {
    ip netns exec "$(namespace router)" nft -f - <<<"table inet cut { chain forward { type filter hook forward priority 0
iifname seg$1 drop
oifname seg$1 drop
}
}"
}

segment_mend() { ip netns exec "$(namespace router)" nft delete table inet cut; }

# dhcp_up HOST POOL-FIRST POOL-LAST BINLD...: dnsmasq on HOST, which names those boot servers in that order.
dhcp_up() {
    dhcp_start "$@"
    wait_until 10 bound "$1" 67 || die_with_logs "dnsmasq did not start within 10 s."
}

# What machines are told of boot servers: a file of files/, part of the configuration of dnsmasq.
DHCP_MENU=menu.conf

# dhcp_start ...: the same without waiting for it.
dhcp_start() {
    local host=$1 first=$2 last=$3 list name file
    shift 3
    list=$(printf '%02x' $#)
    for name in "$@"; do list+=:$(hex_address "${HOST_ADDRESS[$name]}"); done
    ip -n "$(namespace "$host")" address add "fd77::${HOST_ADDRESS[$host]##*.}/64" dev eth0 nodad
    for file in dnsmasq.conf "$DHCP_MENU"; do
        filled_in "$file" "POOL_FIRST=$first" "POOL_LAST=$last" "BOOT_SERVERS=$list" \
            "BINLD1=$(hex_address "${HOST_ADDRESS[binld1]}")" "BINLD2=$(hex_address "${HOST_ADDRESS[binld2]}")"
    done >"$LAB_DIR/conf/$host.conf"
    spawn "dnsmasq-$host" "$host" dnsmasq --keep-in-foreground --conf-file="$LAB_DIR/conf/$host.conf" \
        --user=root --log-facility=- --pid-file=
}

hex_address() {
    local bytes
    IFS=. read -r -a bytes <<<"$1"
    printf '%02x:%02x:%02x:%02x' "${bytes[@]}"
}

# bound HOST PORT: whether somebody there listens on that UDP port.
bound() { ip netns exec "$(namespace "$1")" ss -Hlun "sport = :$2" | grep -q .; }

# fill_in TEMPLATE FILE NAME=VALUE...: writes FILE from files/TEMPLATE with each @NAME@ replaced.
fill_in() { filled_in "$1" "${@:3}" >"$2"; }

# filled_in TEMPLATE NAME=VALUE...: prints it.
filled_in() {
    local template=$QEMU_DIR/files/$1 pair script=()
    shift
    for pair in "$@" "MTFTP1=${HOST_ADDRESS[mtftp1]}" "MTFTP2=${HOST_ADDRESS[mtftp2]}"; do
        script+=(-e "s|@${pair%%=*}@|${pair#*=}|g")
    done
    sed "${script[@]}" "$template"
}

die_with_logs() {
    show_logs 30 >&2
    die "$@"
}

# --- Daemons ----------------------------------------------------------------------------------------

# daemon_up NAME HOST PROGRAM: starts `PROGRAM run` on HOST with files/NAME.toml, a store and a run
# folder of its own, and waits until its control socket answers.
daemon_up() {
    daemon_config "$1" "$1.toml" "BOOT=$LAB_DIR/boot"
    daemon_start "$@"
    daemon_wait "$1" "$3"
}

# daemon_config NAME TEMPLATE [NAME=VALUE...]: writes its configuration from files/TEMPLATE.
daemon_config() {
    local name=$1 template=$2
    shift 2
    fill_in "$template" "$LAB_DIR/conf/$name.toml" "STATE=$LAB_DIR/state/$name" "RUN=$LAB_DIR/run/$name" "$@"
}

# daemon_start NAME HOST PROGRAM: starts it with the configuration that was written.
daemon_start() {
    local name=$1 host=$2 program=$3
    mkdir -p "$LAB_DIR/state/$name" "$LAB_DIR/run/$name"
    printf '%s %s\n' "$host" "$program" >"$LAB_DIR/conf/$name.daemon"
    spawn "$name" "$host" "$PXEMC_BIN/$program" run --config "$LAB_DIR/conf/$name.toml"
}

# daemon_wait NAME PROGRAM: until it answers.
daemon_wait() {
    local name=$1 program=$2
    if ! wait_until "${DAEMON_TIMEOUT:-15}" daemon_settled "$name"; then
        tail -n 30 "$LAB_DIR/log/$name.log" >&2
        die "$name did not answer '$program status' within ${DAEMON_TIMEOUT:-15} s."
    elif ! running "$name"; then
        tail -n 30 "$LAB_DIR/log/$name.log" >&2
        die "$name ended at its start; its last words are above."
    fi
}

# daemon_settled NAME: whether it answers, or has ended and never will.
daemon_settled() { ! running "$1" || daemon_status "$1" --json; }

# daemon_status NAME [--json]: what the daemon says about itself.
daemon_status() {
    local host program
    read -r host program <"$LAB_DIR/conf/$1.daemon"
    timeout 5 ip netns exec "$(namespace "$host")" "$PXEMC_BIN/$program" status "${@:2}" --config "$LAB_DIR/conf/$1.toml"
}

# daemon_holds NAME: whether that BINLD holds the pinned tuple.
daemon_holds() { daemon_status "$1" | grep -qiE "${PINNED_GROUP//./\\.}.*held"; }

# dump NAME FILE [--json]: the records of a daemon's store.
dump() { timeout 30 "$PXEMC_BIN/pxemc-db" dump "${@:3}" "$LAB_DIR/state/$1/$2"; }

# --- Machines ---------------------------------------------------------------------------------------

# All machines that were powered on.
MACHINES=()
# A machine that cannot boot ends, unless the scenario says otherwise.
MACHINE_BOOT=(-boot n -no-reboot)
# The network card of the next machine; what starts it, `bios` (with Debian's stock iPXE ROM on the card) or `uefi`
# (EDK2 alone: no ROM on the card); MiB of memory.
MACHINE_NIC=virtio-net-pci
MACHINE_FIRMWARE=bios
MACHINE_MEMORY=256

# machine_on N [BRIDGE]: powers on machine N on a tap of its own. Its serial console (firmware, iPXE and Linux) goes
# to serial/N.
machine_on() {
    local n=$1 bridge nic=$MACHINE_NIC firmware=()
    bridge=$(namespace bridge)
    if [ "$MACHINE_FIRMWARE" = uefi ]; then
        nic+=,romfile=,bootindex=0
        uefi_firmware "$LAB_DIR/state/uefi$n"
        firmware=(
            -drive "if=pflash,format=raw,unit=0,readonly=on,file=$LAB_DIR/state/uefi$n.code"
            -drive "if=pflash,format=raw,unit=1,file=$LAB_DIR/state/uefi$n.vars"
        )
    fi
    ip -n "$bridge" tuntap add dev "tap$n" mode tap
    ip -n "$bridge" link set "tap$n" master "${2:-br0}" up
    spawn "machine$n" bridge qemu-system-x86_64 \
        -name "pxemc-$LAB_ID-machine$n" -machine pc,accel=tcg,graphics=off -cpu qemu64 -smp 1 -m "$MACHINE_MEMORY" \
        -nodefaults -no-user-config -display none -vga none -monitor none "${MACHINE_BOOT[@]}" "${firmware[@]}" \
        -serial "file:$LAB_DIR/serial/$n" -uuid "$(machine_uuid "$n")" \
        -netdev "tap,id=net0,ifname=tap$n,script=no,downscript=no" \
        -device "$nic,netdev=net0,mac=$(machine_mac "$n")"
    MACHINES+=("$n")
    step "machine $n: power on ($(machine_mac "$n"))"
}

machine_mac() { printf '52:54:00:77:00:%02x' "$1"; }
machine_uuid() { printf '7e577e57-0000-4000-8000-0000000000%02x' "$1"; }

# machine_address N: the address that it last got by DHCP.
machine_address() {
    sed -n "s/.* DHCPACK(eth0) \([0-9.]*\) $(machine_mac "$1").*/\1/p" "$LAB_DIR"/log/dnsmasq-*.log | tail -n 1
}

# markers N: the lines "PXEMC-WORD TEXT" on the console of machine N so far, as "WORD TEXT".
markers() {
    [ ! -f "$LAB_DIR/serial/$1" ] || plain_text <"$LAB_DIR/serial/$1" | sed -n 's/.*PXEMC-\([A-Z].*\)/\1/p'
}

# What has been told of each machine: shown[N WORD] is what followed the marker, shown_at[N WORD] when that was seen.
declare -A shown=() shown_at=()

# follow: tells what is new on the consoles; succeeds when no machine runs any more.
follow() {
    local n word text open=0
    for n in "${MACHINES[@]}"; do
        [ -z "${shown[$n off]:-}" ] || continue
        # First whether it still runs, then what it said: in this order no last word is lost.
        local on=1
        running "machine$n" || on=
        while read -r word text; do
            [ -z "${shown[$n $word]+told}" ] || continue
            shown[$n $word]=$text
            # shellcheck disable=SC2034  # used by qemu/segments
            shown_at[$n $word]=$EPOCHREALTIME
            case $word in
                SCRIPT) step "machine $n: boot server found, its script runs" ;;
                URI) step "machine $n: fetches the initramfs from $text" ;;
                INITRD) step "machine $n: has the initramfs" ;;
                KERNEL) step "machine $n: has the kernel" ;;
                LINUX) step "machine $n: Linux $text is up" ;;
                WAITS) step "machine $n: has an address, waits $text" ;;
                GET) step "machine $n: mtftp-get is done" ;;
                OK) step "machine $n: payload right, SHA-256 $text..." ;;
                BAD) step "machine $n: PAYLOAD WRONG, SHA-256 $text..." ;;
                FAILED) step "machine $n: BOOT SCRIPT FAILED" ;;
            esac
        done < <(markers "$n")
        if [ -n "$on" ]; then
            open=1
        else
            shown[$n off]=1
            step "machine $n: off"
        fi
    done
    [ "$open" -eq 0 ]
}

# follow_all SECONDS: follows the machines until all are off; fails if the time is over before.
follow_all() {
    local end=$((SECONDS + $1))
    while ! follow; do
        [ "$SECONDS" -le "$end" ] || return 1
        sleep 0.2
    done
}

# follow_until SECONDS COMMAND...: follows them until COMMAND succeeds; fails if the time is over before.
follow_until() {
    local end=$((SECONDS + $1))
    shift
    until follow || true && "$@"; do
        [ "$SECONDS" -le "$end" ] || return 1
        sleep 0.1
    done
}
