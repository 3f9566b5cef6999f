"""Asks once for an address, as a boot server would that speaks only the frozen packet (wire/PROTOCOL.md, 1), and prints
who echoes. For qemu/domain, which runs it in a namespace of the lab.

usage: query.py OWN-ADDRESS GROUP FILE
"""

import socket
import struct
import sys
import time

QUERY_GROUP, PORT = "239.255.255.15", 4015
# As many queries as a clearing sends, and its time.
QUERIES, GAP_S = 4, 0.1
SERVER_TYPE, LAYER, CLIENT_PORT = 1, 0, 3001


def packet(opcode, server, group, name):
    """The frozen packet."""
    head = struct.pack(
        "!BH4sHH4sHB",
        opcode,
        18 + len(name),
        socket.inet_aton(server),
        SERVER_TYPE,
        LAYER,
        socket.inet_aton(group),
        CLIENT_PORT,
        len(name),
    )
    return head + name


def main():
    own, group, file = sys.argv[1:]
    query, echo = (packet(opcode, own, group, file.encode()) for opcode in (0, 1))
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
    door.bind((own, PORT))
    heard = set()
    for _ in range(QUERIES):
        door.sendto(query, (QUERY_GROUP, PORT))
        end = time.monotonic() + GAP_S
        while (left := end - time.monotonic()) > 0:
            door.settimeout(left)
            try:
                data, (source, _) = door.recvfrom(2048)
            except TimeoutError:
                break
            if data == echo:
                heard.add(source)
    print(" ".join(sorted(heard)))


main()
