"""What a core dump is called: /proc/sys/kernel/core_pattern, core(5), "Naming of core dump files".

Patterns that begin with a pipe are never set (fs/proc/sysctl.py).
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.resource import RLIMIT_CORE

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


def file_name(task: Task, signo: int) -> bytes:
    """The name for a dump of the process of `task`, which takes `signo`; b"": there is none."""
    kernel, pieces = task.kernel, []
    pattern = kernel.core_pattern
    at, names_pid = 0, False
    while at < len(pattern):
        letter = pattern[at : at + 1]
        at += 1
        if letter == b"%":
            letter = pattern[at : at + 1]
            at += 1
            names_pid = names_pid or letter == b"p"
            letter = _expand(task, signo, letter)
        pieces.append(letter)
    if kernel.core_uses_pid and not names_pid:
        pieces.append(b".%d" % task.group.pid)
    return b"".join(pieces)


def _expand(task: Task, signo: int, letter: bytes) -> bytes:
    """What `%letter` stands for; an unknown one for nothing."""
    group, creds = task.group, task.creds
    if letter in (b"p", b"P"):
        return b"%d" % group.pid
    if letter in (b"i", b"I"):
        return b"%d" % task.tid
    if letter == b"u":
        return b"%d" % creds.uid
    if letter == b"g":
        return b"%d" % creds.gid
    if letter == b"d":
        return b"%d" % task.dumpable
    if letter == b"s":
        return b"%d" % signo
    if letter == b"t":
        return b"%d" % (task.kernel.clock.realtime_ns() // 10**9)
    if letter == b"h":
        return _escaped(task.kernel.hostname)
    if letter == b"e":
        return _escaped(task.comm)
    if letter == b"f":
        return _escaped(_program(task).rpartition(b"/")[2])
    if letter == b"E":
        return _program(task).replace(b"/", b"!")
    if letter == b"c":
        limit = group.rlimits[RLIMIT_CORE][0]
        return b"%d" % (limit - (1 << 64) if limit >> 63 else limit)
    return b"%" if letter == b"%" else b""


def _program(task: Task) -> bytes:
    file = task.mm.exe_file
    return file.display_path() if file is not None else task.comm + b" (path unknown)"


def _escaped(name: bytes) -> bytes:
    """A name as one component of a path: no slashes, and not a dot or two."""
    if name in (b".", b".."):
        name = b"!" + name[1:]
    return name.replace(b"/", b"!") or b"!"
