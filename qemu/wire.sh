# shellcheck shell=bash
# What goes over the wire: captures, and what is counted in them.
# Sourced by qemu/netboot and qemu/matrix. Needs lib.sh.

CAPTURES=()

# capture NAME INTERFACE LENGTH FILTER: records what passes that interface in the bridge's namespace, LENGTH bytes of
# each packet, in NAME.pcap. The bridge's end of a host's cable has the host's name, that of machine N is tapN.
capture() {
    spawn "capture-$1" bridge tcpdump -i "$2" -n -U --immediate-mode -Z root -B 16384 -s "$3" -w "$LAB_DIR/$1.pcap" "$4"
    CAPTURES+=("$1")
    wait_until 10 grep -q 'listening on' "$LAB_DIR/log/capture-$1.log" || die_with_logs "tcpdump did not start within 10 s."
}

# capture_up: records the pinned stream on the MTFTP server's cable (data.pcap) and everything that
# leads to it on the bridge (talk.pcap).
capture_up() {
    capture data mtftp1 96 "udp and dst host $PINNED_GROUP and dst port $PINNED_PORT"
    capture talk br0 1600 "udp and (portrange 67-69 or portrange 4011-4017 or dst port 1759)"
}

# capture_down: ends all captures.
capture_down() {
    local name
    for name in "${CAPTURES[@]}"; do stop "capture-$name"; done
}

# capture_lost NAME: packets of that capture that the kernel could not hand to tcpdump; a count is only right if this is 0.
capture_lost() { sed -n 's/^\([0-9]*\) packets dropped by kernel.*/\1/p' "$LAB_DIR/log/capture-$1.log"; }

# captured NAME FILTER [OPTION...]: the packets of NAME.pcap that match, as tcpdump prints them.
captured() { tcpdump -r "$LAB_DIR/$1.pcap" -n "${@:3}" "$2" 2>/dev/null; }

# stream_counts: "PACKETS BLOCKS SOURCES" of the MTFTP data packets on the pinned tuple: all of them, different block
# numbers, different senders (address and port).
stream_counts() { stream_before 1e12; }

# stream_before INSTANT [NAME]: the same of those before then, in seconds since 1970; of that capture.
stream_before() {
    captured "${2:-data}" 'udp[8:2] = 3' -tt -x | awk -v end="$1" '
        / > / {
            counts = $1 + 0 < end + 0
            if (counts) for (i = 1; i < NF; i++) if ($(i + 1) == ">") sources[$i] = 1
        }
        # The block number is in bytes 30 and 31 of an IP packet without options.
        counts && /0x0010:/ { packets++; blocks[$NF] = 1 }
        END { printf "%d %d %d\n", packets, length(blocks), length(sources) }'
}

# talk_count FILTER: packets of talk.pcap that match.
talk_count() { captured talk "$1" | wc -l; }

# plain_requests FILE [FILTER]: how many read requests for FILE went to the plain TFTP port.
plain_requests() {
    captured talk "udp dst port 69 and udp[8:2] = 1${2:+ and ($2)}" -v | grep -c "\"$1\"\|RRQ $1\b" || true
}

# opens [FILTER]: "TIME SOURCE" of each open of the pinned stream, in seconds since 1970.
opens() { captured talk "udp dst port 1759 and udp[8:2] = 1${1:+ and ($1)}" -tt | awk '{ print $1, $3 }'; }
