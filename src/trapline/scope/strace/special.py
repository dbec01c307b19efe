"""Where one argument decides how another prints: overrides of the declared types, by call and position.

Also what strace(1) adds behind some results: the ready descriptors of poll(2), the flags of fcntl(2).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from trapline.abi.stat import S_IFBLK, S_IFCHR, S_IFMT
from trapline.kernel.task.signals.arch import half
from trapline.scope.strace import arguments as a
from trapline.scope.strace import ioctls, ipc, names, privileges, sockets
from trapline.scope.strace.arguments import Piece, Render
from trapline.scope.strace.constants import ABBREV, RAW, constant, printed, wanted
from trapline.scope.strace.memory import MAX_STRINGS, Decoder
from trapline.scope.strace.structs import SHAPES, cpu_set, open_flags
from trapline.scope.strace.text import device, mode, pointer, quote_hex
from trapline.scope.strace.whole import entries

O_CREAT, O_TMPFILE = 0o100, 0o20200000
STATX_SYNC = 0x6000  #: AT_STATX_SYNC_TYPE


# ---- files


def _open_mode(flags_index: int) -> Render:
    def render(d: Decoder, value: int) -> str | None:
        made = d.args[flags_index]
        return a.mode(d, value) if made & O_CREAT or made & O_TMPFILE == O_TMPFILE else None

    return render


def _node_mode(d: Decoder, value: int) -> str:
    return mode(value)


def _node_device(mode_index: int) -> Render:
    """mknod(2): only devices have a number."""
    return lambda d, value: device(value) if d.args[mode_index] & S_IFMT in (S_IFCHR, S_IFBLK) else None


def _entries(d: Decoder, value: int) -> str:
    """getdents64(2): how many entries were written."""
    if d.result is None or d.failed:
        return pointer(value)
    if d.style.whole:
        return entries(d.read(value, d.result) or b"")
    data, count, at = d.read(value, d.result) or b"", 0, 0
    while at + 18 < len(data):
        length = int.from_bytes(data[at + 16 : at + 18], "little")
        if length < 19:
            break
        count, at = count + 1, at + length
    return f"{pointer(value)} /* {count} entries */"


def _cwd(d: Decoder, value: int) -> str:
    return pointer(value) if d.failed or d.result is None else a.path(d, value)


def _random(d: Decoder, value: int) -> str:
    if d.failed or d.result is None:
        return pointer(value)
    data = d.read_some(value, min(d.result, d.style.limit + 1))
    return pointer(value) if data is None else quote_hex(data, d.style.limit)


def _owner(d: Decoder, value: int) -> str:
    """struct f_owner_ex: a kind and a number."""
    data = d.read(value, 8)
    if data is None:
        return pointer(value)
    kind, number = struct.unpack("<ii", data)
    return f"{{type={names.enum('owner_type', kind)}, pid={number}}}"


def _number(d: Decoder, value: int) -> str:
    return str(value - (1 << 64) if value >> 63 else value)


_FCNTL_BARE = frozenset((1, 3, 9, 11, 1025, 1032, 1034))
_FCNTL: dict[int, Render] = {
    2: lambda d, value: constant(a.hexadecimal(d, value), lambda: "FD_CLOEXEC" if value == 1 else a.hexadecimal(d, value)),
    4: lambda d, value: open_flags(value),
    5: lambda d, value: a.always("flock" if d.failed else "flock_got")(d, value),
    6: a.always("flock"),
    7: a.always("flock"),
    8: lambda d, value: str((value & 0xFFFF_FFFF ^ 1 << 31) - (1 << 31)),
    10: lambda d, value: names.signal(value),
    15: _owner,
    16: lambda d, value: pointer(value) if d.failed else _owner(d, value),
    37: a.always("flock"),
    38: a.always("flock"),
    1024: a.enumeration("flock_type"),
    1026: a.flags("dnotify"),
    1033: a.flags("seals"),
}
_FCNTL[36] = _FCNTL[5]


def _fcntl(d: Decoder, value: int) -> str | None:
    cmd = d.args[1]
    return None if cmd in _FCNTL_BARE else _FCNTL.get(cmd, _number)(d, value)


_open_flags = printed(ABBREV, open_flags)


def _fcntl_result(d: Decoder) -> str:
    result, cmd = d.result or 0, d.args[1]
    if result < 0:
        return ""
    if cmd == 1:
        return f" (flags {constant('0x1', lambda: 'FD_CLOEXEC') if result & 1 else '0'})" if result else ""
    if cmd == 3:
        return f" (flags {_open_flags(result)})"
    if cmd == 11:
        return f" ({names.signal_name(result)})" if result else ""
    return f" ({names.enum('flock_type', result)})" if cmd == 1025 else ""


# ---- memory, processes


def _protection(d: Decoder, value: int) -> str:
    return names.flags("prot", value) if value else constant("0", lambda: "PROT_NONE")


def _statx_flags(d: Decoder, value: int) -> str:
    """statx(2): how to synchronise comes first, and is a choice of its own."""
    sync = names.enum("statx_sync", value & STATX_SYNC)
    if wanted() == RAW and not value & STATX_SYNC:
        sync = ""  # as strace has it
    rest = value & ~STATX_SYNC
    return f"{sync}|{names.flags('statx', rest)}" if rest else sync


def _if_flag(index: int, bit: int, render: Render) -> Render:
    return lambda d, value: render(d, value) if d.args[index] & bit else None


def _clone(label: str, render: Render, wanted: int = 0) -> Render:
    """One named argument of clone(2), left out unless a flag in `wanted` makes the kernel look at it."""

    def show(d: Decoder, value: int) -> str | None:
        return f"{label}={render(d, value)}" if not wanted or d.args[0] & wanted else None

    return show


def _swap_clone(d: Decoder, value: int) -> str:
    """clone(2) shows its stack first, then its flags."""
    return f"child_stack={pointer(d.args[1])}, flags={a.clone_flags(d, d.args[0])}"


def _nothing(d: Decoder, value: int) -> None:
    return None


def _clone3(d: Decoder, value: int) -> str:
    data = d.read(value, min(d.args[1], 88)) if d.args[1] >= 64 else None
    if data is None:
        return pointer(value)
    shown = SHAPES["clone_args"].show(data)
    if d.result and not d.failed and int.from_bytes(data[:8], "little") & 0x100000:
        return f"{shown} => {{parent_tid=[{d.result}]}}"
    return shown


def _wait_status(d: Decoder, value: int) -> str | None:
    return pointer(value) if not d.result else a.structure("wait_status")(d, value)


def _wait_info(d: Decoder, value: int) -> str | None:
    return a.structure("siginfo")(d, value)


# ---- signals, time


_FUTEX_TIMED = frozenset((0, 6, 9, 11, 13))
_FUTEX_SECOND = frozenset((3, 4, 5, 11, 12))


def _futex(index: int) -> Render:
    def render(d: Decoder, value: int) -> str | None:
        op = d.args[1] & 0x7F
        if index == 2:
            return None if op in (6, 7, 8, 13) else str(value)
        if index == 3:
            if op in _FUTEX_TIMED:
                return a.always("timespec")(d, value)
            return str(value & 0xFFFFFFFF) if op in _FUTEX_SECOND else None
        if index == 4:
            return pointer(value) if op in _FUTEX_SECOND else None
        if op in (9, 10):
            return constant(f"{value:#x}", lambda: "FUTEX_BITSET_MATCH_ANY" if value == 0xFFFFFFFF else f"{value:#x}")
        return (f"{value:#x}" if op == 5 else str(value)) if op in (4, 5, 12) else None

    return render


def _sigreturn(d: Decoder) -> str:
    """rt_sigreturn(2) has no argument: what it restores lies on the stack (struct rt_sigframe)."""
    sp = d.task.ctx.regs[d.task.kernel.machine.arch.sp]
    if d.style.pointers:
        return f"{{mask={pointer(sp + half(d.task).sigmask)}}}"
    data = d.read(sp + half(d.task).sigmask, 8)
    return "" if data is None else f"{{mask={names.signal_set(int.from_bytes(data, 'little'))}}}"


def _remaining(d: Decoder, value: int) -> str | None:
    """nanosleep(2): what is left is written only when a signal came."""
    interrupted = value and d.result == -4
    return a.always("timespec")(d, value) if interrupted else pointer(value)


def _kept(name: str) -> Render:
    return a.structure(name)


# ---- readiness


def _pollfds(field: str) -> Callable[[Decoder, int, int], str]:
    def render(d: Decoder, value: int, count: int) -> str:
        data = d.read(value, 8 * min(count, MAX_STRINGS)) if 0 <= count <= 1 << 20 else None
        if data is None or not value:
            return pointer(value)
        parts = []
        for i in range(0, len(data), 8):
            fd = int.from_bytes(data[i : i + 4], "little", signed=True)
            events = int.from_bytes(data[i + 4 : i + 6], "little")
            revents = int.from_bytes(data[i + 6 : i + 8], "little")
            if field == "events":
                parts.append(f"{{fd={d.descriptor(fd)}, events={names.flags('poll', events)}}}" if fd >= 0 else f"{{fd={fd}}}")
            elif revents:
                parts.append(f"{{fd={d.descriptor(fd)}, revents={names.flags('poll', revents)}}}")
        return "[" + ", ".join(parts + (["..."] if count > MAX_STRINGS else [])) + "]"

    return render


def _poll(d: Decoder, value: int) -> str:
    return _pollfds("events")(d, value, d.args[1])


def _poll_result(d: Decoder) -> str:
    if d.failed:
        return ""
    return " (Timeout)" if not d.result else f" ({_pollfds('revents')(d, d.args[0], d.args[1])})"


def _fd_set(d: Decoder, value: int) -> str:
    if not value:
        return "NULL"
    count = min(max(d.args[0], 0), 1024)
    data = d.read(value, (count + 63) // 64 * 8)
    if data is None:
        return pointer(value)
    mask = int.from_bytes(data, "little")
    return "[" + " ".join(d.descriptor(fd) for fd in range(count) if mask >> fd & 1) + "]"


def _select_result(d: Decoder) -> str:
    if d.failed:
        return ""
    if not d.result:
        return " (Timeout)"
    sets = [f"{word} {_fd_set(d, d.args[i])}" for i, word in ((1, "in"), (2, "out"), (3, "except")) if d.args[i]]
    sets = [each for each in sets if not each.endswith("[]")]
    left = a.always("timeval" if len(d.args) == 5 else "timespec")(d, d.args[4])
    return f" ({', '.join([*sets, f'left {left}'] if d.args[4] else sets)})"


def _epoll_events(d: Decoder, value: int) -> str:
    if d.failed or d.result is None:
        return pointer(value)
    size, show = d.shape("epoll_event", SHAPES["epoll_event"])
    data = d.read(value, size * min(d.result, MAX_STRINGS))
    if data is None:
        return pointer(value)
    return "[" + ", ".join(show(data[i : i + size]) for i in range(0, len(data), size)) + "]"


# ---- lists


def _ids(count_of: Callable[[Decoder], int]) -> Render:
    def render(d: Decoder, value: int) -> str:
        count = count_of(d)
        data = d.read(value, 4 * min(count, MAX_STRINGS)) if value and count > 0 and not d.failed else None
        if data is None:
            return "[]" if value and not count and not d.failed else pointer(value)
        ids = [str(int.from_bytes(data[i : i + 4], "little")) for i in range(0, len(data), 4)]
        return "[" + ", ".join(ids + (["..."] if count > MAX_STRINGS else [])) + "]"

    return render


def _cpus(count_of: Callable[[Decoder], int]) -> Render:
    def render(d: Decoder, value: int) -> str:
        count = count_of(d)
        data = d.read(value, min(count, 128)) if value and count > 0 and not d.failed else None
        return pointer(value) if data is None else cpu_set(data)

    return render


def _result(d: Decoder) -> int:
    return d.result or 0


def _written(d: Decoder, value: int) -> str:
    """A string of the caller's as long as the result (readlink(2))."""
    return a.buffer_out(d, value)


_late = True
_MAP_OFFSET = a.hexadecimal
#: call -> {position: how it prints}
OVERRIDES: dict[str, dict[int, Piece]] = {
    **ipc.OVERRIDES,
    "open": {1: Piece(a.flags("open")), 2: Piece(_open_mode(1))},
    "openat": {2: Piece(a.flags("open")), 3: Piece(_open_mode(2))},
    "openat2": {2: Piece(a.structure("open_how"))},
    "getdents64": {1: Piece(_entries, _late)},
    "getcwd": {0: Piece(_cwd, _late)},
    "getrandom": {0: Piece(_random, _late), 2: Piece(a.flags("getrandom"))},
    "readlink": {1: Piece(_written, _late)},
    "readlinkat": {2: Piece(_written, _late)},
    **{name: {4: Piece(_nothing)} for name in ("preadv", "pwritev", "preadv2", "pwritev2")},
    "mknod": {1: Piece(_node_mode), 2: Piece(_node_device(1))},
    "mknodat": {2: Piece(_node_mode), 3: Piece(_node_device(2))},
    "dup3": {2: Piece(a.flags("dup"))},
    "pipe2": {1: Piece(a.flags("pipe"))},
    "statx": {2: Piece(_statx_flags)},
    "umask": {0: Piece(a.mode)},
    "timer_create": {2: Piece(a.structure("int"), _late)},
    "access": {1: Piece(a.access_mode)},
    "faccessat": {2: Piece(a.access_mode)},
    "faccessat2": {2: Piece(a.access_mode), 3: Piece(a.flags("faccessat"))},
    "fcntl": {1: Piece(a.enumeration("fcntl")), 2: Piece(_fcntl, _late)},
    "ioctl": {1: Piece(ioctls.request), 2: Piece(ioctls.argument, _late)},
    "mmap": {
        0: Piece(a.address), 2: Piece(_protection), 3: Piece(a.mmap_flags), 5: Piece(a.hexadecimal),
    },
    "mprotect": {0: Piece(a.address), 2: Piece(_protection)},
    "munmap": {0: Piece(a.address)},
    "brk": {0: Piece(a.address)},
    "mremap": {0: Piece(a.address), 3: Piece(a.flags("mremap")), 4: Piece(_if_flag(3, 6, a.address))},
    "madvise": {0: Piece(a.address), 2: Piece(a.enumeration("madvise"))},
    "clone": {
        0: Piece(_swap_clone), 1: Piece(_nothing),
        2: Piece(_clone("parent_tid", a.structure("int"), 0x100000), _late),
        3: Piece(_clone("child_tidptr", a.address, 0x1200000)), 4: Piece(_clone("tls", a.hexadecimal, 0x80000)),
    },
    "clone3": {0: Piece(_clone3, _late)},
    "execve": {1: Piece(a.argv), 2: Piece(a.envp)},
    "execveat": {2: Piece(a.argv), 3: Piece(a.envp)},
    "wait4": {1: Piece(_wait_status, _late), 2: Piece(a.flags("wait")), 3: Piece(a.structure("rusage"), _late)},
    "waitid": {0: Piece(a.enumeration("idtype")), 2: Piece(_wait_info, _late), 3: Piece(a.flags("wait"))},
    "prctl": {0: Piece(a.enumeration("prctl")), **{i: Piece(privileges.prctl(i), i == 1) for i in range(1, 5)}},
    "capget": {0: Piece(a.structure("cap_header")), 1: Piece(a.structure("cap_data"), _late)},
    "capset": {0: Piece(a.structure("cap_header")), 1: Piece(a.structure("cap_data"))},
    "ioprio_set": {2: Piece(privileges.io_priority)},
    "arch_prctl": {0: Piece(a.enumeration("arch_prctl")), 1: Piece(a.hexadecimal)},
    "rseq": {1: Piece(a.hexadecimal), 2: Piece(a.flags("rseq")), 3: Piece(a.hexadecimal)},
    "prlimit64": {1: Piece(a.enumeration("rlimit")), 2: Piece(a.structure("rlimit")), 3: Piece(a.structure("rlimit"), _late)},
    "rt_sigaction": {1: Piece(a.structure("sigaction")), 2: Piece(a.structure("sigaction"), _late)},
    "rt_sigprocmask": {
        0: Piece(a.enumeration("sigmask")), 1: Piece(a.structure("sigset")), 2: Piece(a.structure("sigset"), _late),
    },
    "futex": {1: Piece(a.futex_op), **{i: Piece(_futex(i)) for i in range(2, 6)}},
    "nanosleep": {0: Piece(a.structure("timespec")), 1: Piece(_remaining, _late)},
    "clock_nanosleep": {1: Piece(a.flags("timer")), 2: Piece(a.structure("timespec")), 3: Piece(_remaining, _late)},
    "poll": {0: Piece(_poll)},
    "ppoll": {0: Piece(_poll), 2: Piece(a.always("timespec")), 3: Piece(a.structure("sigset"))},
    "select": {i: Piece(_fd_set) for i in (1, 2, 3)} | {4: Piece(a.always("timeval"))},
    "pselect6": {i: Piece(_fd_set) for i in (1, 2, 3)} | {4: Piece(a.always("timespec")), 5: Piece(a.address)},
    "epoll_wait": {1: Piece(_epoll_events, _late)},
    "epoll_pwait": {1: Piece(_epoll_events, _late), 4: Piece(a.structure("sigset"))},
    "epoll_pwait2": {1: Piece(_epoll_events, _late), 3: Piece(a.structure("timespec"))},
    "epoll_ctl": {1: Piece(a.enumeration("epoll_ctl")), 3: Piece(a.structure("epoll_event"))},
    "socket": {0: Piece(a.enumeration("family")), 1: Piece(a.socket_type)},
    "socketpair": {0: Piece(a.enumeration("family")), 1: Piece(a.socket_type), 3: Piece(a.descriptor_pair, _late)},
    "bind": {1: Piece(sockets.address(2))},
    "connect": {1: Piece(sockets.address(2))},
    "accept": {1: Piece(sockets.address_out(2), _late), 2: Piece(sockets.length_out, _late, 4)},
    "accept4": {
        1: Piece(sockets.address_out(2), _late), 2: Piece(sockets.length_out, _late, 4), 3: Piece(a.flags("socket_type")),
    },
    "getsockname": {1: Piece(sockets.address_out(2), _late), 2: Piece(sockets.length_out, _late, 4)},
    "getpeername": {1: Piece(sockets.address_out(2), _late), 2: Piece(sockets.length_out, _late, 4)},
    "sendto": {3: Piece(a.flags("msg")), 4: Piece(sockets.address(5))},
    "recvfrom": {3: Piece(a.flags("msg")), 4: Piece(sockets.address_out(5), _late), 5: Piece(sockets.length_out, _late, 4)},
    "sendmsg": {1: Piece(sockets.message(False)), 2: Piece(a.flags("msg"))},
    "recvmsg": {1: Piece(sockets.message(True), _late, 56), 2: Piece(a.flags("msg"))},
    "setsockopt": {1: Piece(a.enumeration("sol")), 2: Piece(sockets.option_name), 3: Piece(sockets.option)},
    "getsockopt": {
        1: Piece(a.enumeration("sol")), 2: Piece(sockets.option_name), 3: Piece(sockets.option_out, _late),
        4: Piece(sockets.length_out, _late, 4),
    },
    "shutdown": {1: Piece(a.enumeration("shutdown"))},
    "getresuid": dict.fromkeys(range(3), Piece(a.structure("uint"), _late)),
    "getresgid": dict.fromkeys(range(3), Piece(a.structure("uint"), _late)),
    "sched_getparam": {1: Piece(a.structure("sched_param"), _late)},
    "getgroups": {1: Piece(_ids(_result), _late)},
    "setgroups": {1: Piece(_ids(lambda d: d.args[0]))},
    "sched_getaffinity": {2: Piece(_cpus(_result), _late)},
    "sched_setaffinity": {2: Piece(_cpus(lambda d: d.args[1]))},
}  # fmt: skip

#: call -> the order in which its arguments are shown, where that is not their own
ORDER: dict[str, tuple[int, ...]] = {"clone": (0, 1, 2, 4, 3)}

#: call -> what follows its result
AFTER: dict[str, Callable[[Decoder], str]] = {
    "poll": _poll_result, "ppoll": _poll_result, "select": _select_result, "pselect6": _select_result,
    "fcntl": _fcntl_result, "ioprio_get": privileges.io_priority_result, "prctl": privileges.prctl_result,
}  # fmt: skip
#: call -> what is shown beside its arguments when it comes in
EXTRA: dict[str, Callable[[Decoder], str]] = {"rt_sigreturn": _sigreturn}
#: call -> which argument, and what it must be, for flags to be the result
HEX_RESULTS: dict[str, tuple[int, tuple[int, ...]]] = {"fcntl": (1, (1, 3)), "prctl": (0, (27,))}
#: calls whose result is not a decimal number
RESULTS: dict[str, str] = {
    "brk": "hex", "mmap": "hex", "mremap": "hex", "shmat": "hex", "umask": "oct", "personality": "hex",
    "rt_sigreturn": "dec", "ioprio_get": "dec",
}  # fmt: skip
