"""Structures in user memory as strace(1) abbreviates them: name -> function of their bytes.

Layouts are those of x86-64, but for the few of another architecture in OWN; sources:
the manual page of the call that uses each, and the uapi headers.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from struct import Struct
from typing import NamedTuple

from trapline.kernel.task.signals.siginfo import from_user
from trapline.scope.strace import names
from trapline.scope.strace.constants import constant
from trapline.scope.strace.siginfo import render as render_siginfo
from trapline.scope.strace.text import (
    ESCAPED,
    device,
    mode,
    octal,
    pointer,
    quote,
    signed,
    ticks,
    wait_status,
)

Show = Callable[[bytes], str]


class Shape(NamedTuple):
    size: int
    show: Show


_Q2, _I2, _Q4 = Struct("<qq"), Struct("<ii"), Struct("<qqqq")
_STAT = Struct("<QQQIII4xQqqq")
INFINITY = (1 << 64) - 1
EPOCH = datetime(1970, 1, 1)


def timespec(data: bytes) -> str:
    return "{{tv_sec={}, tv_nsec={}}}".format(*_Q2.unpack(data[:16]))


def utime(data: bytes) -> str:
    """One of utimensat(2)'s times."""
    sec, nsec = _Q2.unpack(data[:16])
    special = {(1 << 30) - 1: "UTIME_NOW", (1 << 30) - 2: "UTIME_OMIT"}.get(nsec)
    return special or f"{timespec(data)}{date(sec, nsec, 9)}"


def _utimeval(data: bytes) -> str:
    """One of utimes(2)'s times."""
    sec, usec = _Q2.unpack(data[:16])
    return f"{timeval(data)}{date(sec, usec, 6)}"


def _utimbuf(data: bytes) -> str:
    actime, modtime = _Q2.unpack(data[:16])
    return f"{{actime={actime}{date(actime, 0, 9)}, modtime={modtime}{date(modtime, 0, 9)}}}"


def date(sec: int, fraction: int, digits: int) -> str:
    """A comment with the date that a time of a file stands for."""
    if not (sec or fraction) or not 0 <= fraction < 10**digits:
        return ""
    try:
        when = EPOCH + timedelta(seconds=sec)
    except OverflowError:
        return ""
    rest = f".{fraction:0{digits}}" if fraction else ""
    return f" /* {when:%Y-%m-%dT%H:%M:%S}{rest}+0000 */"


def timeval(data: bytes) -> str:
    return "{{tv_sec={}, tv_usec={}}}".format(*_Q2.unpack(data[:16]))


def _pair(show: Show, first: str, second: str) -> Show:
    return lambda data: f"{{{first}={show(data[:16])}, {second}={show(data[16:])}}}"


def _array(show: Show, size: int) -> Show:
    return lambda data: "[" + ", ".join(show(data[i : i + size]) for i in range(0, len(data), size)) + "]"


def stat(data: bytes) -> str:
    _, _, _, st_mode, _, _, rdev, size, _, _ = _STAT.unpack(data[: _STAT.size])
    return _stat(st_mode, rdev, size)


def _stat_generic(data: bytes) -> str:
    _, _, st_mode, _, _, _, rdev, size = Struct("<QQIIIIQ8xq").unpack(data[:56])
    return _stat(st_mode, rdev, size)


def _stat(st_mode: int, rdev: int, size: int) -> str:
    if st_mode & 0o170000 in (0o020000, 0o060000):
        return f"{{st_mode={mode(st_mode)}, st_rdev={device(rdev)}, ...}}"
    return f"{{st_mode={mode(st_mode)}, st_size={size}, ...}}"


def statx(data: bytes) -> str:
    mask, _, attributes, *_ = Struct("<IIQ").unpack(data[:16])
    st_mode = int.from_bytes(data[28:30], "little")
    size = int.from_bytes(data[40:48], "little")
    return (
        f"{{stx_mask={names.flags('statx_mask', mask)}, stx_attributes={attributes:#x}, stx_mode={mode(st_mode)}, "
        f"stx_size={size}, ...}}"
    ).replace("stx_attributes=0x0", "stx_attributes=0")


def statfs(data: bytes) -> str:
    kind, bsize, blocks, bfree, bavail, files, ffree, id0, id1, namelen, frsize, flags = Struct("<7qII3q").unpack(data[:88])
    return (
        f"{{f_type={names.known('magic', kind)}, f_bsize={bsize}, f_blocks={blocks}, f_bfree={bfree}, "
        f"f_bavail={bavail}, f_files={files}, f_ffree={ffree}, f_fsid={{val=[{_hex(id0)}, {_hex(id1)}]}}, f_namelen={namelen}, "
        f"f_frsize={frsize}, f_flags={names.flags('statfs', flags)}}}"
    )


def _hex(value: int) -> str:
    return f"{value:#x}" if value else "0"


def _limit(value: int) -> str:
    if value == INFINITY:
        return constant(str(value), lambda: "RLIM64_INFINITY")
    return constant(str(value), lambda: f"{value >> 10}*1024" if value > 1024 and not value & 1023 else str(value))


def rlimit(data: bytes) -> str:
    cur, high = Struct("<QQ").unpack(data[:16])
    return f"{{rlim_cur={_limit(cur)}, rlim_max={_limit(high)}}}"


def rusage(data: bytes) -> str:
    return f"{{ru_utime={timeval(data)}, ru_stime={timeval(data[16:])}, ...}}"


def sigaction(data: bytes) -> str:
    return _sigaction(*Struct("<QQQQ").unpack(data[:32]))


def _sigaction_generic(data: bytes) -> str:
    handler, flags, mask = Struct("<QQQ").unpack(data[:24])
    return _sigaction(handler, flags, 0, mask)


def _sigaction(handler: int, flags: int, restorer: int, mask: int) -> str:
    name = constant(_hex(handler), lambda: {0: "SIG_DFL", 1: "SIG_IGN"}.get(handler) or hex(handler))
    tail = f", sa_restorer={pointer(restorer)}" if flags & 0x04000000 else ""
    return f"{{sa_handler={name}, sa_mask={names.signal_set(mask)}, sa_flags={names.flags('sigaction', flags)}{tail}}}"


def sigset(data: bytes) -> str:
    return names.signal_set(int.from_bytes(data, "little"))


def stack(data: bytes) -> str:
    sp, flags, size = Struct("<Qi4xQ").unpack(data[:24])
    return f"{{ss_sp={pointer(sp)}, ss_flags={names.flags('sigaltstack', flags & 0xFFFFFFFF)}, ss_size={size}}}"


def utsname(data: bytes) -> str:
    sysname, node = (data[i : i + 65].split(b"\0")[0] for i in (0, 65))
    return f"{{sysname={quote(sysname, 65)}, nodename={quote(node, 65)}, ...}}"


_SYSINFO = "totalram freeram sharedram bufferram totalswap freeswap".split()


def sysinfo(data: bytes) -> str:
    fields = Struct("<q3Q6QHxxxxxxQQI").unpack(data[:108])
    sizes = ", ".join(f"{name}={value}" for name, value in zip(_SYSINFO, fields[4:10], strict=True))
    loads = ", ".join(str(each) for each in fields[1:4])
    return (
        f"{{uptime={fields[0]}, loads=[{loads}], {sizes}, procs={fields[10]}, totalhigh={fields[11]}, "
        f"freehigh={fields[12]}, mem_unit={fields[13]}}}"
    )


def tms(data: bytes) -> str:
    return "{{tms_utime={}, tms_stime={}, tms_cutime={}, tms_cstime={}}}".format(*map(ticks, _Q4.unpack(data[:32])))


def flock(data: bytes, tail: str = "") -> str:
    kind, whence, start, length = Struct("<hh4xqq").unpack(data[:24])
    type_, origin = (
        names.known(table, value) if value in names.ENUMS[table] else str(value)
        for table, value in (("flock_type", kind), ("whence", whence))
    )
    return f"{{l_type={type_}, l_whence={origin}, l_start={start}, l_len={length}{tail}}}"


def flock_got(data: bytes) -> str:
    """What F_GETLK wrote: also whose lock it is."""
    return flock(data, f", l_pid={int.from_bytes(data[24:28], 'little', signed=True)}")


def winsize(data: bytes) -> str:
    return "{{ws_row={}, ws_col={}, ws_xpixel={}, ws_ypixel={}}}".format(*Struct("<HHHH").unpack(data[:8]))


def int32(data: bytes) -> str:
    return f"[{int.from_bytes(data[:4], 'little', signed=True)}]"


def uint32(data: bytes) -> str:
    return f"[{int.from_bytes(data[:4], 'little')}]"


def int64(data: bytes) -> str:
    return f"[{int.from_bytes(data[:8], 'little', signed=True)}]"


def address(data: bytes) -> str:
    return f"[{pointer(int.from_bytes(data[:8], 'little'))}]"


def fd_pair(data: bytes) -> str:
    return "[{}, {}]".format(*_I2.unpack(data[:8]))


def status(data: bytes) -> str:
    return f"[{wait_status(int.from_bytes(data[:4], 'little'))}]"


def epoll_event(data: bytes) -> str:
    events, value = Struct("<IQ").unpack(data[:12])
    shown = names.flags("epoll_events", events)
    return f"{{events={shown}, data={{u32={value & 0xFFFFFFFF}, u64={value}}}}}"


def _epoll_event_aligned(data: bytes) -> str:
    return epoll_event(data[:4] + data[8:])


def sockaddr(data: bytes, escape: int = ESCAPED) -> str:
    """Whole addresses only; `data` has the length the caller gave."""
    if len(data) < 2:
        return quote(data, escape=escape)
    family = int.from_bytes(data[:2], "little")
    name = names.known("family", family)
    rest = data[2:]
    if family == 1 and rest:
        path = rest[1:] if rest[0] == 0 else rest.split(b"\0")[0]
        return f"{{sa_family={name}, sun_path={'' if rest[0] else '@'}{quote(path, 108, escape=escape)}}}"
    if family == 2 and len(rest) >= 6:
        port = int.from_bytes(rest[:2], "big")
        return f'{{sa_family={name}, sin_port=htons({port}), sin_addr=inet_addr("{".".join(str(b) for b in rest[2:6])}")}}'
    if family == 16 and len(rest) >= 10:
        return f"{{sa_family={name}, nl_pid={int.from_bytes(rest[2:6], 'little')}, nl_groups={rest[9::-1][:4].hex()}}}"
    tail = f", sa_data={quote(rest, escape=escape)}" if rest else ""
    return f"{{sa_family={name}{tail}}}"


def clone_args(data: bytes) -> str:
    fields = [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data) & ~7, 8)]
    fields += [0] * (11 - len(fields))
    flags, pidfd, child_tid, parent_tid, exit_signal, stack_, size, tls = fields[:8]
    parts = [f"flags={names.flags('clone', flags)}"]
    parts += [f"pidfd={pointer(pidfd)}"] if flags & 0x1000 else []
    parts += [f"child_tid={pointer(child_tid)}"] if flags & 0x1200000 else []
    parts += [f"parent_tid={pointer(parent_tid)}"] if flags & 0x100000 else []
    parts += [f"exit_signal={names.signal(exit_signal) if exit_signal else 0}", f"stack={pointer(stack_)}"]
    parts += [f"stack_size={size:#x}" if size else "stack_size=0"]
    parts += [f"tls={pointer(tls)}"] if flags & 0x80000 else []
    return "{" + ", ".join(parts) + "}"


def open_how(data: bytes) -> str:
    flags, how_mode, resolve = Struct("<QQQ").unpack(data[:24])
    made = f", mode={octal(how_mode)}" if flags & 0o20000100 else ""
    return f"{{flags={open_flags(flags)}{made}, resolve={names.flags('resolve', resolve)}}}"


def open_flags(value: int) -> str:
    """O_RDONLY|O_CLOEXEC: the access mode is always there."""
    return constant(_hex(value), lambda: _open_flags(value))


def _open_flags(value: int) -> str:
    access = names.ENUMS["accmode"][value & 3]
    return f"{access}|{names.flags('open', value & ~3)}" if value & ~3 else access


def sched_param(data: bytes) -> str:
    return f"[{int.from_bytes(data[:4], 'little', signed=True)}]"


def cpu_set(data: bytes) -> str:
    mask = int.from_bytes(data, "little")
    return "[" + " ".join(str(cpu) for cpu in range(8 * len(data)) if mask >> cpu & 1) + "]"


def siginfo(data: bytes) -> str:
    signo = int.from_bytes(data[:4], "little")
    return render_siginfo(from_user(data, signo)) if signo else "{}"


def futex_waitv(data: bytes) -> str:
    value, address_, flags = Struct("<QQI").unpack(data[:20])
    return f"{{val={value:#x}, uaddr={pointer(address_)}, flags={flags:#x}}}"


def sigevent(data: bytes) -> str:
    value, signo, notify = Struct("<Qii").unpack(data[:16])
    kind = names.known("sigev", notify, str(notify) if notify not in names.ENUMS["sigev"] else "")
    shown = f"sigev_value={{sival_int={signed(value, 32)}, sival_ptr={pointer(value)}}}, " if value else ""
    return f"{{{shown}sigev_signo={names.signal(signo)}, sigev_notify={kind}}}"


SHAPES: dict[str, Shape] = {
    "timespec": Shape(16, timespec),
    "timespecs": Shape(32, _array(utime, 16)),
    "timeval": Shape(16, timeval),
    "timevals": Shape(32, _array(_utimeval, 16)),
    "timezone": Shape(8, lambda data: "{{tz_minuteswest={}, tz_dsttime={}}}".format(*_I2.unpack(data[:8]))),
    "utimbuf": Shape(16, _utimbuf),
    "itimerval": Shape(32, _pair(timeval, "it_interval", "it_value")),
    "itimerspec": Shape(32, _pair(timespec, "it_interval", "it_value")),
    "stat": Shape(144, stat),
    "statx": Shape(256, statx),
    "statfs": Shape(120, statfs),
    "rlimit": Shape(16, rlimit),
    "rusage": Shape(144, rusage),
    "sigaction": Shape(32, sigaction),
    "sigset": Shape(8, sigset),
    "stack": Shape(24, stack),
    "utsname": Shape(390, utsname),
    "sysinfo": Shape(112, sysinfo),
    "tms": Shape(32, tms),
    "flock": Shape(32, flock),
    "flock_got": Shape(32, flock_got),
    "winsize": Shape(8, winsize),
    "int": Shape(4, int32),
    "uint": Shape(4, uint32),
    "long": Shape(8, int64),
    "pointer": Shape(8, address),
    "fd_pair": Shape(8, fd_pair),
    "wait_status": Shape(4, status),
    "epoll_event": Shape(12, epoll_event),
    "clone_args": Shape(88, clone_args),
    "open_how": Shape(24, open_how),
    "sched_param": Shape(4, sched_param),
    "sigevent": Shape(64, sigevent),
    "siginfo": Shape(128, siginfo),
    "futex_waitv": Shape(24, futex_waitv),
}
#: Other words for the same structures.
for _alias, _name in {
    "rlimit64": "rlimit", "sigset_t": "sigset", "stack_t": "stack", "sigaltstack": "stack", "pipe": "fd_pair", "fds": "fd_pair",
    "int2": "fd_pair", "ulong": "long", "uid": "uint", "gid": "uint", "status": "wait_status", "u32": "uint", "u64": "long",
    "timespec2": "timespecs", "timespec[2]": "timespecs", "timeval2": "timevals", "timeval[2]": "timevals",
    "off": "long", "loff": "long", "loff_t": "long", "uid_t": "uint", "gid_t": "uint", "pid": "int",
    "int[2]": "fd_pair", "utimes": "timevals",
}.items():  # fmt: skip
    SHAPES[_alias] = SHAPES[_name]

#: architecture -> the structures that it lays out in its own way
OWN: dict[str, dict[str, Shape]] = {
    "riscv64": {
        "stat": Shape(128, _stat_generic),
        "sigaction": Shape(24, _sigaction_generic),
        "epoll_event": Shape(16, _epoll_event_aligned),
    },
}
