"""Terminals: what every terminal has besides its line: a session, a foreground group, a size, and job control.

The rules are those of termios(3), credentials(7) and ioctl_tty(2). Subclasses say where bytes go: a pseudo-terminal has its own
line discipline; the console lets the host's terminal do that work.

Invariants: `session` is 0 or the session whose controlling terminal this is; `pgrp` is 0 or a process group of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from trapline.abi import ioctl as c
from trapline.abi.errno import EBUSY, EINVAL, EIO, ENOTTY, ENXIO, EPERM, ESRCH
from trapline.abi.fcntl import O_NOCTTY
from trapline.abi.signal import SIGCONT, SIGHUP, SIGTTIN, SIGTTOU, SIGWINCH
from trapline.abi.termios import N_TTY, TERMIO, TERMIOS, TERMIOS2, TOSTOP, WINSIZE
from trapline.kernel.drivers.termios import Termios
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.sync.park import Interrupted, WaitQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.mount import Path

CAP_SYS_ADMIN = 21
CAP_SYS_TTY_CONFIG = 26
SIG_IGN = 1
_U32 = 0xFFFFFFFF


class SignalGroup(Protocol):
    def __call__(self, kernel: Any, pgid: int, signo: int) -> None: ...


_signal_group: list[SignalGroup] = []


def use_signals(send: SignalGroup) -> None:
    """Whoever implements signals says how a process group gets one."""
    _signal_group[:] = [send]


class Tty:
    """One terminal: `name` is its device's path, `rdev` its number."""

    def __init__(self, kernel: Any, name: bytes, rdev: int) -> None:
        self.kernel = kernel
        self.name = name
        self.rdev = rdev
        self.session = 0
        self.pgrp = 0
        self.winsize = bytes(WINSIZE.size)
        self.modes = Termios()
        self.exclusive = False
        self.hung_up = False
        self.queue = WaitQueue()  #: whoever uses the terminal's device waits here

    # ---- what subclasses do

    def read(self, count: int) -> bytes | None:
        """Input for the program; None: nothing yet."""
        raise NotImplementedError

    def write(self, data: bytes | memoryview) -> int | None:
        """Output of the program; how much was taken, None: nothing now."""
        raise NotImplementedError

    def poll(self) -> int:
        raise NotImplementedError

    def apply_modes(self, flush_input: bool) -> None:
        """`modes` were set."""

    def refresh_modes(self) -> None:
        """`modes` are about to be read."""

    def pending_input(self) -> int:
        """Bytes that can be read now."""
        return 0

    def pending_output(self) -> int:
        """Bytes written and not yet delivered."""
        return 0

    def flush(self, which: int) -> None:
        """tcflush(3)."""

    def flow(self, action: int) -> None:
        """tcflow(3)."""

    def push_input(self, byte: int) -> None:
        """TIOCSTI: as if typed."""
        raise EPERM

    # ---- signals and job control

    def signal(self, pgid: int, signo: int) -> None:
        """Send `signo` to a process group."""
        if pgid and _signal_group:
            _signal_group[0](self.kernel, pgid, signo)

    def signal_foreground(self, signo: int) -> None:
        self.signal(self.pgrp, signo)

    def check_background(self, task: Any, signo: int) -> None:
        """A background process uses its controlling terminal: SIGTTIN or SIGTTOU to its group and a restart, or EIO."""
        group = task.group
        if group.tty is not self or not self.pgrp or group.pgid == self.pgrp:
            return
        if task.blocked >> (signo - 1) & 1 or group.actions.table[signo].handler == SIG_IGN:
            if signo == SIGTTIN:
                raise EIO("a background read with SIGTTIN ignored")
            return
        if orphaned(self.kernel, group.pgid):
            raise EIO("a background process of an orphaned group")
        self.signal(group.pgid, signo)
        raise Interrupted

    def check_write(self, task: Any) -> None:
        if self.modes.lflag & TOSTOP:
            self.check_background(task, SIGTTOU)

    # ---- sessions

    def opened(self, task: Any, flags: int, readable: bool) -> None:
        """open(2) of the terminal: a session leader without one gets it as its controlling terminal."""
        group = task.group if task is not None else None
        if group is None or flags & O_NOCTTY or group.sid != group.pid or group.tty is not None:
            return
        if not self.session and readable:
            self.attach(group)

    def attach(self, group: Any) -> None:
        """Become the controlling terminal of the session that `group` leads."""
        self.session = group.sid
        self.pgrp = group.pgid
        group.tty = self

    def hang_up(self) -> None:
        """The other side is gone: the session loses its terminal and its leader hears of it."""
        if self.hung_up:
            return
        self.hung_up = True
        session, pgrp = self.session, self.pgrp
        self.session = self.pgrp = 0
        for group in self.kernel.each_group(lambda each: each.tty is self):
            group.tty = None
            if group.pid == session:
                self.signal(group.pgid, SIGHUP)
                self.signal(group.pgid, SIGCONT)
                if pgrp == group.pgid:
                    pgrp = 0
        self.signal(pgrp, SIGHUP)
        self.signal(pgrp, SIGCONT)
        self.queue.wake_all()

    # ---- ioctl

    def ioctl(self, task: Any, cmd: int, arg: int, readable: bool = True) -> int:
        """ioctl_tty(2), for the terminal's own device. ENOTTY for what is unknown."""
        if self.hung_up:
            raise EIO if cmd not in (c.TIOCSPGRP, c.TIOCGPGRP) else ENOTTY
        handler = _IOCTLS.get(cmd)
        if handler is None:
            raise ENOTTY
        if cmd in _CHANGES:
            self.check_background(task, SIGTTOU)
        if cmd == c.TIOCSCTTY:
            return self.set_controlling(task, arg, readable)
        return handler(self, task, arg)

    def set_controlling(self, task: Any, force: int, readable: bool) -> int:
        """TIOCSCTTY."""
        group = task.group
        if group.sid == group.pid and self.session == group.sid and group.tty is self:
            return 0
        if group.sid != group.pid or group.tty is not None:
            raise EPERM("not a session leader, or it has a terminal")
        if self.session:
            if force != 1 or not task.creds.has_cap(CAP_SYS_ADMIN):
                raise EPERM("the terminal belongs to another session")
            for other in self.kernel.each_group(lambda each: each.tty is self):
                other.tty = None
        if not readable and not task.creds.has_cap(CAP_SYS_ADMIN):
            raise EPERM
        self.attach(group)
        return 0

    def give_up(self, task: Any, arg: int) -> int:
        """TIOCNOTTY: the caller's process gives up its controlling terminal; from a session leader, all of them."""
        if task.group.tty is not self:
            raise ENOTTY
        disassociate(task.group)
        return 0

    def get_pgrp(self, task: Any, arg: int) -> int:
        """TIOCGPGRP: 0 stands for a terminal without a foreground group."""
        if task.group.tty is not self:
            raise ENOTTY
        task.mm.write_u32(arg, self.pgrp)
        return 0

    def set_pgrp(self, task: Any, arg: int) -> int:
        """TIOCSPGRP."""
        group = task.group
        if group.tty is not self or self.session != group.sid:
            raise ENOTTY
        pgid = task.mm.read_i32(arg)
        if pgid < 0:
            raise EINVAL
        members = self.kernel.each_group(lambda each: each.pgid == pgid)
        if not members:
            raise ESRCH
        if all(each.sid != group.sid for each in members):
            raise EPERM
        self.pgrp = pgid
        return 0

    def get_sid(self, task: Any, arg: int) -> int:
        """TIOCGSID."""
        if task.group.tty is not self or not self.session:
            raise ENOTTY
        task.mm.write_u32(arg, self.session)
        return 0

    def get_winsize(self, task: Any, arg: int) -> int:
        task.mm.write(arg, self.winsize)
        return 0

    def set_winsize(self, task: Any, arg: int) -> int:
        """TIOCSWINSZ: the foreground group hears of a change."""
        self.resize(task.mm.read(arg, WINSIZE.size))
        return 0

    def resize(self, winsize: bytes) -> None:
        if winsize != self.winsize:
            self.winsize = winsize
            self.signal_foreground(SIGWINCH)

    def get_modes(self, task: Any, arg: int) -> int:
        self.refresh_modes()
        task.mm.write(arg, self.modes.pack())
        return 0

    def get_modes2(self, task: Any, arg: int) -> int:
        self.refresh_modes()
        task.mm.write(arg, self.modes.pack2())
        return 0

    def get_modes_v(self, task: Any, arg: int) -> int:
        self.refresh_modes()
        task.mm.write(arg, self.modes.pack_v())
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
    c.TCGETS: Tty.get_modes, c.TCGETS2: Tty.get_modes2, c.TCGETA: Tty.get_modes_v,
    c.TCSETS: _setter(TERMIOS, False), c.TCSETSW: _setter(TERMIOS, False), c.TCSETSF: _setter(TERMIOS, True),
    c.TCSETS2: _setter(TERMIOS2, False), c.TCSETSW2: _setter(TERMIOS2, False), c.TCSETSF2: _setter(TERMIOS2, True),
    c.TCSETA: _setter(TERMIO, False), c.TCSETAW: _setter(TERMIO, False), c.TCSETAF: _setter(TERMIO, True),
    c.TCFLSH: _flush, c.TCXONC: _flow, c.TCSBRK: _nothing, c.TCSBRKP: _nothing, c.TIOCSBRK: _nothing,
    c.TIOCCBRK: _nothing, c.TIOCEXCL: _exclusive(True), c.TIOCNXCL: _exclusive(False),
    c.TIOCGEXCL: _number(lambda tty: tty.exclusive), c.TIOCSCTTY: _nothing, c.TIOCNOTTY: Tty.give_up,
    c.TIOCGPGRP: Tty.get_pgrp, c.TIOCSPGRP: Tty.set_pgrp, c.TIOCGSID: Tty.get_sid, c.TIOCSTI: _push,
    c.TIOCGWINSZ: Tty.get_winsize, c.TIOCSWINSZ: Tty.set_winsize, c.TIOCVHANGUP: _vhangup,
    c.FIONREAD: _number(lambda tty: tty.pending_input()), c.TIOCOUTQ: _number(lambda tty: tty.pending_output()),
    c.TIOCGETD: _number(lambda tty: N_TTY), c.TIOCSETD: _set_discipline, c.TIOCGDEV: _number(lambda tty: tty.rdev),
}  # fmt: skip
#: what a background process may not do to its terminal
_CHANGES = frozenset((
    c.TCSETS, c.TCSETSW, c.TCSETSF, c.TCSETS2, c.TCSETSW2, c.TCSETSF2, c.TCSETA, c.TCSETAW, c.TCSETAF, c.TCFLSH,
    c.TCXONC, c.TCSBRK, c.TCSBRKP, c.TIOCSBRK, c.TIOCCBRK, c.TIOCSPGRP, c.TIOCSETD,
))  # fmt: skip


class TtyFile(SpecialFile):
    """An open terminal."""

    __slots__ = ("tty",)

    by_task = True
    nowait = False

    def __init__(self, tty: Tty, inode: Inode, flags: int, path: Path | None, task: Any = None) -> None:
        if tty.hung_up:
            raise EIO
        if tty.exclusive and task is not None and not task.creds.has_cap(CAP_SYS_ADMIN):
            raise EBUSY
        super().__init__(inode, flags, path)
        self.tty = tty
        tty.opened(task, flags, self.readable)

    def try_read(self, count: int) -> bytes | None:
        return None

    def try_write(self, data: bytes | memoryview) -> int | None:
        return None

    def read_as(self, task: Any, count: int) -> bytes | None:
        tty = self.tty
        if tty.hung_up or not count:
            return b""
        tty.check_background(task, SIGTTIN)
        return tty.read(count)

    def write_as(self, task: Any, data: bytes | memoryview) -> int | None:
        tty = self.tty
        if tty.hung_up:
            raise EIO
        tty.check_write(task)
        return tty.write(data) if data else 0

    def poll(self) -> int:
        return self.tty.poll()

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.tty.queue,)

    def ioctl(self, task: Any, cmd: int, arg: int) -> int:
        return self.tty.ioctl(task, cmd, arg, self.readable)


def open_current(inode: Inode, path: Path, flags: int, task: Any) -> TtyFile:
    """/dev/tty: the caller's controlling terminal; ENXIO if it has none."""
    tty = task.group.tty if task is not None else None
    if tty is None:
        raise ENXIO
    return TtyFile(tty, inode, flags | O_NOCTTY, path, task)


def disassociate(group: Any) -> None:
    """`group` gives up its controlling terminal (TIOCNOTTY, or a session leader's exit): if it leads the session, the
    foreground group gets SIGHUP and SIGCONT and nobody of the session keeps the terminal."""
    tty: Tty | None = group.tty
    if tty is None:
        return
    group.tty = None
    if group.pid != group.sid or tty.session != group.sid:
        return
    pgrp = tty.pgrp
    tty.session = tty.pgrp = 0
    for other in tty.kernel.each_group(lambda each: each.tty is tty):
        other.tty = None
    tty.signal(pgrp, SIGHUP)
    tty.signal(pgrp, SIGCONT)


def orphaned(kernel: Any, pgid: int) -> bool:
    """No member of the process group has a parent in another group of its session: nobody could continue it."""
    for group in kernel.each_group(lambda each: each.pgid == pgid):
        parent = group.parent
        if not group.zombie and parent is not None and parent.pgid != pgid and parent.sid == group.sid:
            return False
    return True
