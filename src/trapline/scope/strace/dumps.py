"""Dumps: what calls read from descriptors and wrote to them, in hexadecimal: strace(1), -e read=SET, -e write=SET."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trapline.scope.strace.memory import Decoder

Fds = Callable[[int], bool]  #: whether a descriptor is in a set

_READ, _WRITE = frozenset(("read", "pread64", "recvfrom")), frozenset(("write", "pwrite64", "sendto"))
_READ_VECTORS = frozenset(("readv", "preadv", "preadv2", "recvmsg"))
_WRITE_VECTORS = frozenset(("writev", "pwritev", "pwritev2", "vmsplice", "sendmsg"))
_MESSAGES = frozenset(("recvmsg", "sendmsg"))
_IOV, _IOVLEN = 16, 24  #: in struct msghdr
_MAX_VECTORS = 1024
_ROW, _HALF = 16, 8


def dump(name: str, d: Decoder, read: Fds, write: Fds) -> str:
    """The lines to write behind a call that has its result; mostly "": it moved no data, or not of a wanted descriptor."""
    moved = d.result or 0
    if d.failed or moved <= 0 or not d.args:
        return ""
    single, vectors = name in _READ or name in _WRITE, name in _READ_VECTORS or name in _WRITE_VECTORS
    if not single and not vectors:
        return ""
    if not (read if name in _READ or name in _READ_VECTORS else write)(d.args[0]):
        return ""
    if single:
        return "".join(_rows(d.read_some(d.args[1], moved) or b""))
    return "".join(_vectors(d, name in _MESSAGES, moved))


def _vectors(d: Decoder, message: bool, left: int) -> Iterator[str]:
    at, count = d.args[1], d.args[2]
    if message:
        at, count = (int.from_bytes(d.read_some(d.args[1] + offset, 8) or b"", "little") for offset in (_IOV, _IOVLEN))
    array = d.read_some(at, 16 * min(count, _MAX_VECTORS)) or b""
    for index in range(len(array) // 16):
        base, size = (int.from_bytes(array[16 * index + part : 16 * index + part + 8], "little") for part in (0, 8))
        size = min(size, left)
        if not size:
            break
        left -= size
        yield f" * {size} bytes in buffer {index}\n"
        yield from _rows(d.read_some(base, size) or b"")


def _rows(data: bytes) -> Iterator[str]:
    for at in range(0, len(data), _ROW):
        row = data[at : at + _ROW]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f" | {at:05x}  {row[:_HALF].hex(' '):<23}  {row[_HALF:].hex(' '):<23}  {text:<16} |\n"
