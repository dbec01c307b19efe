"""/proc/net: the tables that programs open to see whether something is there. There is one network: UNIX-domain sockets.

The other families are absent, so their tables have a head and no rows.
"""

from __future__ import annotations

from trapline.typed import Any

from trapline.kernel.net.unix import CONNECTED, LISTENING, sockets_of

_TCP = (
    b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
    b"                                                     \n"
)
_TCP6 = (
    b"  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when "
    b"retrnsmt   uid  timeout inode\n"
)
_UDP = (
    b"   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops"
    b"             \n"
)
_UDP6 = (
    b"  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when "
    b"retrnsmt   uid  timeout inode ref pointer drops\n"
)
_DEV = (
    b"Inter-|   Receive                                                |  Transmit\n"
    b" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
    b"compressed\n"
    b"    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0"
    b"          0\n"
)
_ROUTE = b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
_ARP = b"IP address       HW type     Flags       HW address            Mask     Device\n"
_SOCKSTAT = (
    b"sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\n"
    b"RAW: inuse 0\nFRAG: inuse 0 memory 0\n"
)

FIXED: dict[bytes, bytes] = {
    b"arp": _ARP,
    b"dev": _DEV,
    b"if_inet6": b"",
    b"netlink": b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n",
    b"packet": b"sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n",
    b"raw": _UDP,
    b"route": _ROUTE.ljust(127) + b"\n",
    b"sockstat": _SOCKSTAT,
    b"tcp": _TCP.rstrip(b"\n").ljust(149) + b"\n",
    b"tcp6": _TCP6,
    b"udp": _UDP.rstrip(b"\n").ljust(127) + b"\n",
    b"udp6": _UDP6,
}

_UNIX_HEAD = b"Num       RefCount Protocol Flags    Type St Inode Path\n"
SO_ACCEPTCON = 0x10000
SS_UNCONNECTED, SS_CONNECTED = 1, 3


def unix(kernel: Any) -> bytes:
    """proc(5), /proc/net/unix. Addresses in the kernel are not shown."""
    rows = [_UNIX_HEAD]
    for socket in list(sockets_of(kernel).values()):
        path = b" " + socket.address.replace(b"\0", b"@") if socket.address else b""
        rows.append(
            b"0000000000000000: %08X 00000000 %08X %04X %02X %5d%b\n"
            % (
                socket.refs + 1, SO_ACCEPTCON if socket.state == LISTENING else 0, socket.kind,
                SS_CONNECTED if socket.state == CONNECTED else SS_UNCONNECTED, socket.inode.ino, path,
            )
        )  # fmt: skip
    return b"".join(rows)
