"""Structures that strace(1) abbreviates, with every member: -v."""

from __future__ import annotations

from struct import Struct

from trapline.scope.strace.structs import Shape, date, timeval
from trapline.scope.strace.text import device, mode, quote

_STAT = Struct("<QQQIII4xQqqqqQqQqQ")
_GENERIC = Struct("<QQIIIIQ8xqi4xqqQqQqQ")
_USAGE = "maxrss ixrss idrss isrss minflt majflt nswap inblock oublock msgsnd msgrcv nsignals nvcsw nivcsw".split()
_NAMES = "sysname nodename release version machine domainname".split()
_DIRENT = Struct("<QqHB")
_TYPES = {1: "FIFO", 2: "CHR", 4: "DIR", 6: "BLK", 8: "REG", 10: "LNK", 12: "SOCK", 14: "WHT"}


def _stat(data: bytes) -> str:
    dev, ino, nlink, st_mode, uid, gid, rdev, size, blksize, blocks, *times = _STAT.unpack(data[: _STAT.size])
    return _members(dev, ino, st_mode, nlink, (uid, gid), rdev, (blksize, blocks, size), times)


def _stat_generic(data: bytes) -> str:
    dev, ino, st_mode, nlink, uid, gid, rdev, size, blksize, blocks, *times = _GENERIC.unpack(data[: _GENERIC.size])
    return _members(dev, ino, st_mode, nlink, (uid, gid), rdev, (blksize, blocks, size), times)


def _members(
    dev: int, ino: int, st_mode: int, nlink: int, who: tuple[int, int], rdev: int, sizes: tuple[int, int, int], times: list[int]
) -> str:
    special = st_mode & 0o170000 in (0o020000, 0o060000)
    last = f"st_rdev={device(rdev)}" if special else f"st_size={sizes[2]}"
    stamps = ", ".join(
        f"st_{which}time={sec}{date(sec, nsec, 9)}, st_{which}time_nsec={nsec}"
        for which, sec, nsec in zip("amc", times[::2], times[1::2], strict=True)
    )
    return (
        f"{{st_dev={device(dev)}, st_ino={ino}, st_mode={mode(st_mode)}, st_nlink={nlink}, st_uid={who[0]}, st_gid={who[1]}, "
        f"st_blksize={sizes[0]}, st_blocks={sizes[1]}, {last}, {stamps}}}"
    )


def _utsname(data: bytes) -> str:
    fields = (data[65 * i : 65 * i + 65].split(b"\0")[0] for i in range(6))
    return "{" + ", ".join(f"{name}={quote(text, 65)}" for name, text in zip(_NAMES, fields, strict=True)) + "}"


def _rusage(data: bytes) -> str:
    counts = Struct("<14q").unpack(data[32:144])
    rest = ", ".join(f"ru_{name}={count}" for name, count in zip(_USAGE, counts, strict=True))
    return f"{{ru_utime={timeval(data)}, ru_stime={timeval(data[16:])}, {rest}}}"


def entries(data: bytes) -> str:
    """What getdents64(2) wrote."""
    shown, at = [], 0
    while at + _DIRENT.size < len(data):
        ino, offset, length, kind = _DIRENT.unpack_from(data, at)
        if length <= _DIRENT.size:
            break
        name = data[at + _DIRENT.size : at + length].split(b"\0")[0]
        type_ = f"DT_{_TYPES[kind]}" if kind in _TYPES else "DT_UNKNOWN"
        shown.append(f"{{d_ino={ino}, d_off={offset}, d_reclen={length}, d_type={type_}, d_name={quote(name, 256)}}}")
        at += length
    return "[" + ", ".join(shown) + "]"


_COMMON = {"utsname": Shape(390, _utsname), "rusage": Shape(144, _rusage)}
#: architecture -> structures
WHOLE: dict[str, dict[str, Shape]] = {
    "x86_64": {**_COMMON, "stat": Shape(144, _stat)},
    "riscv64": {**_COMMON, "stat": Shape(128, _stat_generic)},
}
