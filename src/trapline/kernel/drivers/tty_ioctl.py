"""ioctl_tty(2): what a terminal's own device understands.

One function per request, in a table by number. A background process may ask, but not change (`_CHANGES`).

Partial: breaks, drains and line speeds are accepted and have no line to act on.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi import ioctl as c
from trapline.abi.errno import EINVAL, EIO, ENOTTY, EPERM, ESRCH
from trapline.abi.signal import SIGTTOU
from trapline.abi.termios import N_TTY, TERMIO, TERMIOS, TERMIOS2, WINSIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.kernel.drivers.tty import Tty

CAP_SYS_ADMIN = 21
_U32 = 0xFFFFFFFF


def tty_ioctl(tty: Tty, task: Any, cmd: int, arg: int, readable: bool = True) -> int:
    """ioctl_tty(2), for the terminal's own device. ENOTTY for what is unknown."""
    if tty.hung_up:
        raise EIO if cmd not in (c.TIOCSPGRP, c.TIOCGPGRP) else ENOTTY
    handler = _IOCTLS.get(cmd)
    if handler is None:
        raise ENOTTY
    if cmd in _CHANGES:
        tty.check_background(task, SIGTTOU)
    if cmd == c.TIOCSCTTY:
        return set_controlling(tty, task, arg, readable)
    return handler(tty, task, arg)


def set_controlling(tty: Tty, task: Any, force: int, readable: bool) -> int:
    """TIOCSCTTY."""
    group = task.group
    if group.sid == group.pid and tty.session == group.sid and group.tty is tty:
        return 0
    if group.sid != group.pid or group.tty is not None:
        raise EPERM("not a session leader, or it has a terminal")
    if tty.session:
        if force != 1 or not task.creds.has_cap(CAP_SYS_ADMIN):
            raise EPERM("the terminal belongs to another session")
        for other in tty.kernel.each_group(lambda each: each.tty is tty):
            other.tty = None
    if not readable and not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    tty.attach(group)
    return 0


def _not_tty(tty: Tty, task: Any, arg: int) -> int:
    """TIOCNOTTY: the caller's process gives up its controlling terminal; from a session leader, all of them."""
    if task.group.tty is not tty:
        raise ENOTTY
    tty.give_up(task.group)
    return 0


def get_pgrp(tty: Tty, task: Any, arg: int) -> int:
    """TIOCGPGRP: 0 stands for a terminal without a foreground group."""
    if task.group.tty is not tty:
        raise ENOTTY
    task.mm.write_u32(arg, tty.pgrp)
    return 0


def set_pgrp(tty: Tty, task: Any, arg: int) -> int:
    """TIOCSPGRP."""
    group = task.group
    if group.tty is not tty or tty.session != group.sid:
        raise ENOTTY
    pgid = task.mm.read_i32(arg)
    if pgid < 0:
        raise EINVAL
    members = tty.kernel.each_group(lambda each: each.pgid == pgid)
    if not members:
        raise ESRCH
    if all(each.sid != group.sid for each in members):
        raise EPERM
    tty.pgrp = pgid
    return 0


def get_sid(tty: Tty, task: Any, arg: int) -> int:
    """TIOCGSID."""
    if task.group.tty is not tty or not tty.session:
        raise ENOTTY
    task.mm.write_u32(arg, tty.session)
    return 0


def get_winsize(tty: Tty, task: Any, arg: int) -> int:
    task.mm.write(arg, tty.winsize)
    return 0


def set_winsize(tty: Tty, task: Any, arg: int) -> int:
    """TIOCSWINSZ: the foreground group hears of a change."""
    tty.resize(task.mm.read(arg, WINSIZE.size))
    return 0


def get_modes(tty: Tty, task: Any, arg: int) -> int:
    tty.refresh_modes()
    task.mm.write(arg, tty.modes.pack())
    return 0


def get_modes2(tty: Tty, task: Any, arg: int) -> int:
    tty.refresh_modes()
    task.mm.write(arg, tty.modes.pack2())
    return 0


def get_modes_v(tty: Tty, task: Any, arg: int) -> int:
    tty.refresh_modes()
    task.mm.write(arg, tty.modes.pack_v())
    return 0


def _get_locks(tty: Tty, task: Any, arg: int) -> int:
    """TIOCGLCKTRMIOS: which bits and characters of the modes nobody can change."""
    task.mm.write(arg, tty.modes.locked)
    return 0


def _set_locks(tty: Tty, task: Any, arg: int) -> int:
    """TIOCSLCKTRMIOS."""
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    tty.modes.locked = task.mm.read(arg, TERMIOS.size)
    return 0


def _setter(layout: Any, flush_input: bool) -> Callable[[Tty, Any, int], int]:
    """TCSETS and its kin: what was written has left already, so waiting for output (the W and F forms) takes no time."""

    def set_modes(tty: Tty, task: Any, arg: int) -> int:
        raw = task.mm.read(arg, layout.size)
        tty.refresh_modes()
        tty.modes.load(layout.unpack(raw))
        tty.apply_modes(flush_input)
        return 0

    return set_modes


def _number(get: Callable[[Tty], int]) -> Callable[[Tty, Any, int], int]:
    """An ioctl that stores one int."""

    def handler(tty: Tty, task: Any, arg: int) -> int:
        task.mm.write_u32(arg, get(tty) & _U32)
        return 0

    return handler


def _exclusive(on: bool) -> Callable[[Tty, Any, int], int]:
    def handler(tty: Tty, task: Any, arg: int) -> int:
        tty.exclusive = on
        return 0

    return handler


def _flush(tty: Tty, task: Any, arg: int) -> int:
    if arg not in (0, 1, 2):
        raise EINVAL
    tty.flush(arg)
    return 0


def _flow(tty: Tty, task: Any, arg: int) -> int:
    if arg not in (0, 1, 2, 3):
        raise EINVAL
    tty.flow(arg)
    return 0


def _nothing(tty: Tty, task: Any, arg: int) -> int:
    """Breaks and drains: there is no line to break, and output does not linger."""
    return 0


def _set_discipline(tty: Tty, task: Any, arg: int) -> int:
    if task.mm.read_u32(arg) != N_TTY:
        raise EINVAL
    return 0


def _push(tty: Tty, task: Any, arg: int) -> int:
    if task.group.tty is not tty and not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    tty.push_input(task.mm.read(arg, 1)[0])
    return 0


def _vhangup(tty: Tty, task: Any, arg: int) -> int:
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    tty.hang_up()
    return 0


_IOCTLS: dict[int, Callable[[Tty, Any, int], int]] = {
    c.TCGETS: get_modes, c.TCGETS2: get_modes2, c.TCGETA: get_modes_v,
    c.TCSETS: _setter(TERMIOS, False), c.TCSETSW: _setter(TERMIOS, False), c.TCSETSF: _setter(TERMIOS, True),
    c.TCSETS2: _setter(TERMIOS2, False), c.TCSETSW2: _setter(TERMIOS2, False), c.TCSETSF2: _setter(TERMIOS2, True),
    c.TIOCGLCKTRMIOS: _get_locks, c.TIOCSLCKTRMIOS: _set_locks,
    c.TCSETA: _setter(TERMIO, False), c.TCSETAW: _setter(TERMIO, False), c.TCSETAF: _setter(TERMIO, True),
    c.TCFLSH: _flush, c.TCXONC: _flow, c.TCSBRK: _nothing, c.TCSBRKP: _nothing, c.TIOCSBRK: _nothing,
    c.TIOCCBRK: _nothing, c.TIOCEXCL: _exclusive(True), c.TIOCNXCL: _exclusive(False),
    c.TIOCGEXCL: _number(lambda tty: tty.exclusive), c.TIOCSCTTY: _nothing, c.TIOCNOTTY: _not_tty,
    c.TIOCGPGRP: get_pgrp, c.TIOCSPGRP: set_pgrp, c.TIOCGSID: get_sid, c.TIOCSTI: _push,
    c.TIOCGWINSZ: get_winsize, c.TIOCSWINSZ: set_winsize, c.TIOCVHANGUP: _vhangup,
    c.FIONREAD: _number(lambda tty: tty.pending_input()), c.TIOCOUTQ: _number(lambda tty: tty.pending_output()),
    c.TIOCGETD: _number(lambda tty: N_TTY), c.TIOCSETD: _set_discipline, c.TIOCGDEV: _number(lambda tty: tty.rdev),
}  # fmt: skip
#: what a background process may not do to its terminal
_CHANGES = frozenset((
    c.TCSETS, c.TCSETSW, c.TCSETSF, c.TCSETS2, c.TCSETSW2, c.TCSETSF2, c.TCSETA, c.TCSETAW, c.TCSETAF, c.TCFLSH,
    c.TCXONC, c.TCSBRK, c.TCSBRKP, c.TIOCSBRK, c.TIOCCBRK, c.TIOCSPGRP, c.TIOCSETD,
))  # fmt: skip
