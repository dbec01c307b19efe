"""netdevice(7): what ioctl(2) on any socket tells of network interfaces. There is one, the loopback, without addresses.

A request is a struct ifreq: 16 bytes of name, 24 bytes whose meaning depends on the request.
"""

from __future__ import annotations

from struct import Struct
from trapline.typed import Any

from trapline.abi import ioctl as io
from trapline.abi.errno import EINVAL, ENODEV, ENOTTY, EOPNOTSUPP, EPERM
from trapline.abi.netlink import ARPHRD_LOOPBACK
from trapline.kernel.net.netlink.route import CAP_NET_ADMIN, LO_FLAGS, LO_INDEX, LO_MTU, LO_NAME, TX_QUEUE

IFREQ = Struct("<16s24s")
_INT = Struct("<i")
#: what each request that only asks is answered with, from the start of the 24 bytes
_ANSWERS = {
    io.SIOCGIFFLAGS: (LO_FLAGS & 0xFFFF).to_bytes(2, "little"),
    io.SIOCGIFMETRIC: _INT.pack(0),
    io.SIOCGIFMTU: _INT.pack(LO_MTU),
    io.SIOCGIFHWADDR: ARPHRD_LOOPBACK.to_bytes(2, "little") + bytes(14),
    io.SIOCGIFINDEX: _INT.pack(LO_INDEX),
    io.SIOCGIFTXQLEN: _INT.pack(TX_QUEUE),
    io.SIOCGIFMAP: bytes(24),
}
_CHANGES = (
    io.SIOCSIFFLAGS, io.SIOCSIFMETRIC, io.SIOCSIFMTU, io.SIOCSIFNAME, io.SIOCSIFHWADDR, io.SIOCSIFTXQLEN, io.SIOCSIFMAP,
)  # fmt: skip


def ioctl(task: Any, cmd: int, arg: int) -> int:
    """Answer a request that a socket's own family does not know: EFAULT, ENODEV, EPERM; ENOTTY if it is none of these."""
    if cmd == io.SIOCGIFCONF:  # a list of addresses, and there are none
        task.mm.read(arg, 16)
        task.mm.write_u32(arg, 0)
        return 0
    if cmd not in _ANSWERS and cmd not in _CHANGES and cmd not in (io.SIOCGIFNAME, io.SIOCGIFSLAVE):
        raise ENOTTY
    name, rest = IFREQ.unpack(task.mm.read(arg, IFREQ.size))
    if cmd == io.SIOCGIFNAME:
        if _INT.unpack_from(rest)[0] != LO_INDEX:
            raise ENODEV
        task.mm.write(arg, LO_NAME.ljust(16, b"\0"))
        return 0
    if cmd in _CHANGES and not task.creds.has_cap(CAP_NET_ADMIN):
        raise EPERM("CAP_NET_ADMIN")
    if name[:15].partition(b"\0")[0].partition(b":")[0] != LO_NAME:
        raise ENODEV
    if cmd in _CHANGES:
        raise EOPNOTSUPP("the loopback is as it is")
    if cmd == io.SIOCGIFSLAVE:
        raise EINVAL
    answer = _ANSWERS[cmd]
    task.mm.write(arg + 16, answer + rest[len(answer) :])
    return 0
