# shellcheck shell=bash
# The rows of qemu/matrix. Each lays out its network, boots its machines, and says what was shown by `expect`. It leaves
# two figures for the table: `per_block`, how often each block of the multicast file went out, and `plain`, how many
# requests there were for it by plain TFTP; "-" where there is no such file.

# shellcheck disable=SC2034  # used by qemu/matrix
per_block=- plain=-

# KiB of random payload in an initramfs; in one for slow machines; in one whose transfer lasts until something has
# happened to it. Some 2 MiB of programs come on top.
readonly PAYLOAD_KIB=1024 SHORT_PAYLOAD_KIB=128 LONG_PAYLOAD_KIB=2048

# --- What rows have in common -----------------------------------------------------------------------

# payload_sum[FILE]: SHA-256 of the payload in that initramfs; blocks[FILE]: how many blocks it has.
declare -A payload_sum=() blocks=()

# make_initramfs FILE KIB
make_initramfs() {
    payload_sum[$1]=$(initramfs_image "$LAB_DIR/boot/$1" "$2")
    blocks[$1]=$(($(stat -c %s "$LAB_DIR/boot/$1") / 512 + 1))
}

# images KIB: what iPXE boots: kernel, script, and initrd.img.
images() {
    step "making what the machines boot"
    kernel_image "$LAB_DIR/boot/vmlinuz"
    make_initramfs initrd.img "$1"
    fill_in boot.ipxe "$LAB_DIR/boot/boot.ipxe"
}

# network BINLD...: dhcp, mtftp1 and those, on a bridge; what captures see begins here.
network() {
    local host
    step "laying out the network pxemc-$LAB_ID: a bridge, and dhcp, mtftp1, $*"
    network_up
    for host in dhcp mtftp1 "$@"; do host_up "$host"; done
    capture_up
}

# servers BINLD...: starts them all; their boot items are in conf/BINLD.items.
servers() {
    local name
    step "starting dnsmasq, mtftpd, $*"
    dhcp_up dhcp "$POOL_FIRST" "$POOL_LAST" "$@"
    daemon_config mtftpd mtftpd.toml "BOOT=$LAB_DIR/boot"
    [ -z "${NO_WINDOWS:-}" ] || printf '[tftp]\nwindow_size_max = 1\n' >>"$LAB_DIR/conf/mtftpd.toml"
    daemon_start mtftpd mtftp1 mtftpd
    for name in "$@"; do
        daemon_config "$name" binld.toml
        cat "$LAB_DIR/conf/$name.items" >>"$LAB_DIR/conf/$name.toml"
        daemon_start "$name" "$name" binld
    done
    daemon_wait mtftpd mtftpd
    for name in "$@"; do daemon_wait "$name" binld; done
}

# ipxe_servers: two boot servers with one item, initrd.img on the pinned tuple, which both hold.
ipxe_servers() {
    local name
    network binld1 binld2
    for name in binld1 binld2; do item debian 0x8001 initrd.img true >"$LAB_DIR/conf/$name.items"; done
    servers binld1 binld2
    for name in binld1 binld2; do wait_held "$name" initrd.img; done
}

wait_held() {
    wait_until 30 holds "$1" "$2" || die_with_logs "$1 does not hold an address for $2 within 30 s."
    step "$1 holds $(group_of "$1" "$2") for $2"
}

machines_on() {
    local n
    for n in "$@"; do machine_on "$n"; done
}

# right N FILE: whether machine N proved the payload of that initramfs.
right() { [ -n "${payload_sum[$2]}" ] && [ "${shown[$1 OK]:-}" = "${payload_sum[$2]:0:16}" ]; }

# finish: until all machines are off. The captures end then.
finish() {
    follow_all "${NETBOOT_TIMEOUT:-240}" || warn "not all machines were done within ${NETBOOT_TIMEOUT:-240} s"
    capture_down
}

# expect_right FILE N...: those machines came up with the payload of that file, and are off.
expect_right() {
    local file=$1 n
    shift
    for n in "$@"; do
        expect "machine $n comes up, payload right" "SHA-256 ${shown[$n OK]:-${shown[$n BAD]:-NONE}}...$(panics "$n"), wanted ${payload_sum[$file]:0:16}..." \
            right "$n" "$file"
        expect "machine $n is off" "" has "$n" off
    done
}

# count_stream FILE: sets packets, different and senders to what was multicast on the pinned tuple, per_block and plain
# to the figures of the table.
count_stream() {
    read -r packets different senders < <(stream_counts)
    per_block=$(awk -v a="$packets" -v b="${blocks[$1]}" 'BEGIN { printf "%.3f", a / b }')
    plain=$(plain_requests "$1")
    expect "the captures are complete" "$(capture_lost data) packets lost" test "$(capture_lost data)" = 0
}

# expect_one_stream FILE: everything by one multicast stream, sent less than twice over, and nothing by plain TFTP.
expect_one_stream() {
    count_stream "$1"
    expect "one sender on $PINNED_GROUP:$PINNED_PORT" "$senders" test "$senders" -eq 1
    expect "all of $1 was multicast" "$different different blocks of ${blocks[$1]}" test "$different" -eq "${blocks[$1]}"
    expect "fewer than 2 packets per block" "$packets packets, $per_block" test "$packets" -lt $((2 * ${blocks[$1]}))
    expect "nobody asked for $1 by plain TFTP" "$plain requests" test "$plain" -eq 0
}

# expect_run_ahead: blocks went out before the ACK of those before them, to clients that asked for no windows, and hardly one
# went out again.
expect_run_ahead() {
    local ahead again
    ahead=$(ask mtftpd '.counters["transfer.ahead"] // 0')
    again=$(ask mtftpd '.counters["transfer.window_again"] // 0')
    expect "the file server runs ahead of ACKs" "$ahead blocks" test "$ahead" -gt 0
    expect "and seldom lacks a machine one" "$again times" test "$((again * 100))" -lt "$ahead"
}

# --- BIOS machines with iPXE in ROM -----------------------------------------------------------------

row_bios_virtio() { three_bios virtio-net-pci; }

# Linux has no driver for this card in the cloud kernel, and needs none: the payload is in the initramfs.
row_bios_e1000() { three_bios e1000; }

three_bios() {
    images "$PAYLOAD_KIB"
    ipxe_servers
    MACHINE_NIC=$1
    machines_on 1 2 3
    finish
    expect_right initrd.img 1 2 3
    expect_one_stream initrd.img
    expect_run_ahead
}

# --- UEFI machines ----------------------------------------------------------------------------------

# uefi_servers MENU FILE: a boot server whose item has FILE for UEFI firmware, and initrd.img for iPXE. The files are on
# mtftp1, another host.
uefi_servers() {
    DHCP_MENU=$1
    network binld1
    { item debian 0x8001 initrd.img true && filled_in item-uefi.toml "FILE=$2"; } >"$LAB_DIR/conf/binld1.items"
    servers binld1
    wait_held binld1 initrd.img
    MACHINE_FIRMWARE=uefi MACHINE_MEMORY=512
}

# uefi_boots MENU DESTINATION: one machine asks for its boot server only at DESTINATION, gets linux.efi, all that it
# boots in one file, from mtftp1 by plain TFTP, and comes up.
uefi_boots() {
    local from asked
    images "$PAYLOAD_KIB"
    unified_image "$LAB_DIR/boot/linux.efi" "$LAB_DIR/boot/vmlinuz" "$LAB_DIR/boot/initrd.img"
    uefi_servers "$1" linux.efi
    machine_on 1
    finish
    expect_right initrd.img 1
    from="src host $(machine_address 1)"
    asked="udp dst port 4011 and $from"
    expect "it asks for its boot server at $2" "$(talk_count "$asked and dst host $2") requests" \
        test "$(talk_count "$asked and dst host $2")" -gt 0
    expect "and nowhere else" "$(talk_count "$asked and not dst host $2") requests" \
        test "$(talk_count "$asked and not dst host $2")" -eq 0
    # Two requests for one file: the first is for its size.
    plain=$(plain_requests linux.efi)
    expect "it asks mtftp1 for linux.efi" "$plain requests" test "$plain" -gt 0
    expect "and nobody else" "$(talk_count "udp dst port 69 and not dst host ${HOST_ADDRESS[mtftp1]}") requests" \
        test "$(talk_count "udp dst port 69 and not dst host ${HOST_ADDRESS[mtftp1]}")" -eq 0
}

row_uefi_multicast() { uefi_boots menu-multicast.conf 224.0.1.2; }

row_uefi_unicast() { uefi_boots menu.conf "${HOST_ADDRESS[binld1]}"; }

row_uefi_lockstep() {
    NO_WINDOWS=1 uefi_boots menu.conf "${HOST_ADDRESS[binld1]}"
    expect_run_ahead
}

row_uefi_ipxe() {
    local n asked
    # As a program of UEFI, iPXE moves all that it has of a file for each block that comes.
    images "$SHORT_PAYLOAD_KIB"
    ipxe_uefi_image "$LAB_DIR/boot/snponly.efi"
    fill_in uefi.ipxe "$LAB_DIR/boot/uefi.ipxe"
    uefi_servers menu-uefi-ipxe.conf snponly.efi
    machines_on 1 2
    finish
    expect_right initrd.img 1 2
    for n in 1 2; do
        asked="udp dst port 4011 and dst host ${HOST_ADDRESS[binld1]} and src host $(machine_address "$n")"
        expect "machine $n: EDK2 asks binld1" "$(talk_count "$asked and src port 4011") requests" \
            test "$(talk_count "$asked and src port 4011")" -gt 0
        expect "machine $n: iPXE asks binld1, by pxebs" "$(talk_count "$asked and src port 68") requests" \
            test "$(talk_count "$asked and src port 68")" -gt 0
        expect "machine $n: its URI is of the multicast file" "${shown[$n URI]:-NONE}" \
            test "${shown[$n URI]:-}" = "mtftp://${HOST_ADDRESS[mtftp1]}:1759/initrd.img"
    done
    expect "both load snponly.efi by plain TFTP" "$(plain_requests snponly.efi) requests" \
        test "$(plain_requests snponly.efi)" -ge 2
    expect_one_stream initrd.img
}

# --- What may happen to a stream --------------------------------------------------------------------

# session FILTER: what a jq filter makes of the session on the pinned tuple; nothing if there is none.
session() {
    # shellcheck disable=SC2016  # what stands in single quotes is for jq
    ask mtftpd ".claims[] | select(.group == \$g) | .sessions[] | $1 // empty" --arg g "$PINNED_GROUP"
}

# sent_part PERCENT FILE: whether so much of the file has been multicast.
sent_part() {
    local sent
    sent=$(session .multicast)
    [ "${sent:-0}" -ge $((${blocks[$2]} * $1 / 100)) ]
}

row_late_fourth() {
    local at before
    images "$LONG_PAYLOAD_KIB"
    ipxe_servers
    machines_on 1 2 3
    follow_until 120 sent_part 1 initrd.img || die_with_logs "no such part of the transfer within 120 s."
    machine_on 4
    finish
    expect_right initrd.img 1 2 3 4
    at=$(opens "src host $(machine_address 4)" | awk 'NR == 1 { print $1 }')
    read -r _ before _ < <(stream_before "$at")
    expect "the 4th opens in mid-transfer" "after $before of ${blocks[initrd.img]} blocks" \
        test "$before" -gt 0 -a "$before" -lt "${blocks[initrd.img]}"
    expect_one_stream initrd.img
}

# master_machine: the number of the machine whose ACKs pace the session; nothing if there is none.
master_machine() {
    local address n
    address=$(session .master)
    for n in "${MACHINES[@]}"; do
        [ -z "$address" ] || [ "$(machine_address "$n")" != "${address%:*}" ] || printf '%s\n' "$n"
    done
}

# freeze_master: stops the machine whose ACKs pace the session, and sets `frozen` to it. They take turns: one that has
# just handed over goes on.
freeze_master() {
    frozen=$(master_machine)
    [ -n "$frozen" ] || return 1
    kill -STOP "${LAB_PID[machine$frozen]}"
    [ "$(master_machine)" != "$frozen" ] || return 0
    kill -CONT "${LAB_PID[machine$frozen]}"
    return 1
}

# other_master: sets `pacer` to the machine that paces the session now; whether that is another one than `frozen`.
other_master() {
    pacer=$(master_machine)
    [ -n "$pacer" ] && [ "$pacer" != "$frozen" ]
}

row_master_off() {
    local frozen='' pacer='' others=() n before at
    images "$LONG_PAYLOAD_KIB"
    ipxe_servers
    machines_on 1 2 3
    follow_until 120 sent_part 20 initrd.img || die_with_logs "no such part of the transfer within 120 s."
    follow_until 10 freeze_master || die_with_logs "nobody paces the transfer."
    stop_dead "machine$frozen"
    at=$EPOCHREALTIME
    step "machine $frozen, whose ACKs pace the session, is powered off"
    for n in 1 2 3; do [ "$n" = "$frozen" ] || others+=("$n"); done
    follow_until 10 other_master || pacer=
    expect "another machine paces the session" "machine ${pacer:-NONE}, $(since "$at") s later" test -n "$pacer"
    finish
    read -r _ before _ < <(stream_before "$at")
    expect "machine $frozen is off in mid-transfer" "after $before of ${blocks[initrd.img]} blocks" \
        test "$before" -gt 0 -a "$before" -lt "${blocks[initrd.img]}"
    expect "it does not come up" "" test -z "${shown[$frozen OK]:-}"
    expect "the server counts 1 of 3 as lost" "$(session_ends)" test "$(session_ends)" = "openers=3 complete=2 lost=1 slow=0"
    expect_right initrd.img "${others[@]}"
    expect_one_stream initrd.img
}

# session_ends: what mtftpd logged of the clients of each session that ended.
session_ends() { sed -n 's/.*multicast session ended.* \(openers=.*\)/\1/p' "$LAB_DIR/log/mtftpd.log" | paste -sd ';'; }

# --- No multicast for machines ----------------------------------------------------------------------

# iPXE never says by IGMP what it wants to hear. A switch that snoops, with a querier, prunes it.
row_snooping_querier() {
    local n heard
    images "$PAYLOAD_KIB"
    # The querier prunes nothing before the time to answer its first query is over: 1 s instead of 10 s, if it is set
    # before there is a querier.
    BRIDGE_OPTIONS=(mcast_snooping 1 mcast_query_response_interval 100)
    ipxe_servers
    ip -n "$(namespace bridge)" link set br0 type bridge mcast_querier 1
    machines_on 1 2
    for n in 1 2; do capture "tap$n" "tap$n" 96 "udp and dst host $PINNED_GROUP"; done
    finish
    expect_right initrd.img 1 2
    count_stream initrd.img
    expect "the stream is sent" "$packets packets" test "$packets" -gt 0
    for n in 1 2; do
        heard=$(captured "tap$n" udp | wc -l)
        expect "nothing of it reaches machine $n" "$heard packets" test "$heard" -eq 0
        expect "machine $n falls back to plain TFTP" "$(plain_requests initrd.img "src host $(machine_address "$n")") requests" \
            test "$(plain_requests initrd.img "src host $(machine_address "$n")")" -gt 0
    done
    expect "the server stops soon" "$packets packets for ${blocks[initrd.img]} blocks, $per_block" \
        test "$packets" -lt $((${blocks[initrd.img]} / 10))
    expect_fall_back_reported
}

# fall_back_of N: the likely cause that mtftpd shows of each fall-back of machine N.
fall_back_of() {
    # shellcheck disable=SC2016  # what stands in single quotes is for jq
    ask mtftpd '.fall_backs.recent[] | select(.mac == $mac) | .cause' --arg mac "$(machine_mac "$1")" | paste -sd ' '
}

# expect_fall_back_reported: that mtftpd says of the two, once each, that they fell back, and that the querier is the
# likely cause.
expect_fall_back_reported() {
    local n cause lines total
    for n in 1 2; do
        cause=$(fall_back_of "$n")
        expect "mtftpd shows why machine $n fell back" "$(machine_mac "$n"): ${cause:-NOTHING}" test "$cause" = querier
        lines=$(grep -c "fall-back.*$(machine_mac "$n")" "$LAB_DIR/log/mtftpd.log") || true
        expect "and its log says so, once" "$lines lines" test "$lines" -eq 1
    done
    total=$(ask mtftpd .fall_backs.total)
    expect "it counts these two and no other" "$total" test "$total" -eq 2
}

# --- Two files for one tuple ------------------------------------------------------------------------

# What each machine loads: machine 1 has the menu of type 0x8001, machine 2 that of type 0x8002.
declare -Ar FILE_OF=([1]=initrd.img [2]=other.img)

row_two_files() {
    local n by_multicast='' by_plain=''
    images "$LONG_PAYLOAD_KIB"
    make_initramfs other.img "$LONG_PAYLOAD_KIB"
    DHCP_MENU=menu-two.conf
    network binld1 binld2
    item debian 0x8001 initrd.img true >"$LAB_DIR/conf/binld1.items"
    item other 0x8002 other.img true >"$LAB_DIR/conf/binld2.items"
    servers binld1 binld2
    wait_until 30 one_holds || die_with_logs "nobody holds $PINNED_GROUP within 30 s."
    machines_on 1 2
    follow_until 60 both_fetch || true
    expect "both machines load at once" "${shown[1 URI]:-NONE}, ${shown[2 URI]:-NONE}" both_fetch
    finish
    for n in 1 2; do
        expect_right "${FILE_OF[$n]}" "$n"
        case ${shown[$n URI]:-} in
            "mtftp://${HOST_ADDRESS[mtftp1]}:1759/${FILE_OF[$n]}") by_multicast+=$n ;;
            "tftp://${HOST_ADDRESS[mtftp1]}/${FILE_OF[$n]}") by_plain+=$n ;;
        esac
    done
    expect "one is told the stream, one plain TFTP" "machine ${by_multicast:-NONE}, machine ${by_plain:-NONE}" \
        test "${#by_multicast}" -eq 1 -a "${#by_plain}" -eq 1
    [ -n "$by_multicast" ] && [ -n "$by_plain" ] || return 0
    expect_one_stream "${FILE_OF[${by_multicast:0:1}]}"
    plain=$(plain_requests "${FILE_OF[${by_plain:0:1}]}")
    expect "the other file goes by plain TFTP" "$plain requests" test "$plain" -gt 0
}

one_holds() { holds binld1 initrd.img || holds binld2 other.img; }
both_fetch() { has 1 URI && has 2 URI && ! has 1 INITRD && ! has 2 INITRD; }

# --- Linux machines that fetch by mtftp-get ---------------------------------------------------------

# The boot item of the payload, and its address.
readonly GET_TYPE=0x8003
get_group=

# linux_get: lays out a network for machines that load a small initramfs, and in Linux ask for the payload by `mtftp-get`:
# a file of MATRIX_PAYLOAD_KIB with an address of the pool, by RFC 2090. Their blocks have 1468 bytes.
linux_get() {
    step "making what the machines boot, and a payload of $MATRIX_PAYLOAD_KIB KiB"
    kernel_image "$LAB_DIR/boot/vmlinuz"
    fill_in boot.ipxe "$LAB_DIR/boot/boot.ipxe"
    payload_sum[payload.img]=$(random_payload "$LAB_DIR/boot/payload.img" "$MATRIX_PAYLOAD_KIB")
    blocks[payload.img]=$((MATRIX_PAYLOAD_KIB * 1024 / 1468 + 1))
    get_initramfs_image "$LAB_DIR/boot/initrd.img" "$GET_TYPE" "${payload_sum[payload.img]}"
    network binld1
    filled_in item-get.toml "TYPE=$GET_TYPE" FILE=payload.img >"$LAB_DIR/conf/binld1.items"
    servers binld1
    wait_held binld1 payload.img
    get_group=$(group_of binld1 payload.img)
    capture stream mtftp1 64 "udp and dst host $get_group and dst port 1758"
    # The payload, and what Linux needs to unpack its initramfs.
    MACHINE_MEMORY=$((256 + 2 * MATRIX_PAYLOAD_KIB / 1024))
}

# boot_and_get N...: boots them, has them fetch the payload at once when the last one is ready, and waits for the end.
boot_and_get() {
    machines_on "$@"
    follow_until "${NETBOOT_TIMEOUT:-400}" all_wait "$@" || warn "not all machines came up within ${NETBOOT_TIMEOUT:-400} s"
    printf 'go\n' >"$LAB_DIR/boot/go"
    step "go: all fetch the payload"
    NETBOOT_TIMEOUT=${NETBOOT_TIMEOUT:-400} finish
}

# expect_got N...: they have the payload by RFC 2090, sent once for all of them.
expect_got() {
    local n packets different senders
    expect_right payload.img "$@"
    for n in "$@"; do
        expect "machine $n has it by RFC 2090" "$(got "$n" '"\(.source // .error), \(.seconds | floor) s, asked again \(.asked_again)"')" \
            test "$(got "$n" .source)" = rfc2090
    done
    read -r packets different senders < <(stream_before 1e12 stream)
    per_block=$(awk -v a="$packets" -v b="${blocks[payload.img]}" 'BEGIN { printf "%.3f", a / b }')
    expect "the capture is complete" "$(capture_lost stream) packets lost" test "$(capture_lost stream)" = 0
    expect "one sender on $get_group:1758" "$senders" test "$senders" -eq 1
    expect "all of the payload was multicast" "$different different blocks of ${blocks[payload.img]}" \
        test "$different" -eq "${blocks[payload.img]}"
    expect "fewer than 1.2 packets per block" "$packets packets, $per_block" \
        test $((10 * packets)) -lt $((12 * ${blocks[payload.img]}))
    plain=$(plain_gets)
    expect "nobody asked for it by plain TFTP" "$plain requests" test "$plain" -eq 0
}

# plain_gets: requests for the payload without the option `multicast`.
plain_gets() {
    captured talk 'udp dst port 69 and udp[8:2] = 1' |
        awk '/payload\.img/ && !/multicast/ { count++ } END { print count + 0 }'
}

row_linux_mtftp_get() {
    linux_get
    boot_and_get 1 2 3
    expect_got 1 2 3
}

# Linux says by IGMP what it wants to hear, other than iPXE: it stays on multicast where the switch prunes.
row_linux_mtftp_get_querier() {
    local n heard
    # As in row_snooping_querier.
    BRIDGE_OPTIONS=(mcast_snooping 1 mcast_query_response_interval 100)
    linux_get
    ip -n "$(namespace bridge)" link set br0 type bridge mcast_querier 1
    # Nobody there wants it.
    capture bystander dhcp 64 "udp and dst host $get_group"
    boot_and_get 1 2 3
    expect_got 1 2 3
    heard=$(captured bystander udp | wc -l)
    expect "the bridge prunes it where nobody asked" "$heard packets at dhcp" test "$heard" -eq 0
}
