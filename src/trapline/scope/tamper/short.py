"""Short transfers: the call that moves fewer bytes than its program asked for, as any transfer may: read(2), write(2).

What is shortened is what the call is made with, never the program's memory: other threads see nothing of it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from trapline.abi.errno import EFAULT

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task
    from trapline.scope.listener import Args

#: Which argument of a call is its length.
_LENGTHS = {
    "read": 2, "write": 2, "pread64": 2, "pwrite64": 2, "sendto": 2, "recvfrom": 2, "getrandom": 1, "sendfile": 3, "splice": 4,
    "tee": 2, "copy_file_range": 4,
}  # fmt: skip
#: Calls with an iovec array, and the call that does the same with one buffer.
_VECTORS = {
    "readv": "read", "writev": "write", "preadv": "pread64", "pwritev": "pwrite64", "preadv2": "", "pwritev2": "",
    "vmsplice": "",
}  # fmt: skip
SHORTENED = frozenset(_LENGTHS) | frozenset(_VECTORS)
_IOV, _COUNT, _OFFSET = 1, 2, 3
_MAX_VECTORS = 1024
_IOVEC = struct.Struct("<QQ")


def shortened(task: Task, name: str, args: Args, limit: int) -> tuple[str, Args] | None:
    """The call to make instead of `name(*args)`, moving at most `limit` bytes; None if it moves no more anyway.

    Of vectors, as many as fit whole; if not one does, the first one's beginning, in the call that takes a single buffer. (The
    forms with flags have no such call: their first vector is moved whole.)
    """
    if name in _LENGTHS:
        index = _LENGTHS[name]
        return (name, (*args[:index], limit, *args[index + 1 :])) if args[index] > limit else None
    if name not in _VECTORS:
        return None
    sizes = _sizes(task, args)
    whole = total = 0
    for _, size in sizes:
        if total + size > limit:
            break
        whole, total = whole + 1, total + size
    if whole == len(sizes):
        return None
    single = _VECTORS[name]
    if total or not single:
        return name, (*args[:_COUNT], whole if total else 1, *args[_COUNT + 1 :])
    base, _ = sizes[whole]
    where = (args[_OFFSET],) if single in ("pread64", "pwrite64") else ()
    return single, (args[0], base, limit, *where)


def _sizes(task: Task, args: Args) -> list[tuple[int, int]]:
    """Address and length of each vector; none where the call is going to fail anyway."""
    count = args[_COUNT]
    if not 0 < count <= _MAX_VECTORS:
        return []
    try:
        data = task.mm.read(args[_IOV], count * _IOVEC.size)
    except EFAULT:
        return []
    return list(_IOVEC.iter_unpack(data))
