"""Terminals: what every terminal has besides its line: a session, a foreground group, a size, and job control.

The rules are those of termios(3), credentials(7) and ioctl_tty(2). Subclasses say where bytes go: a pseudo-terminal has its own
line discipline; the console lets the host's terminal do that work.

Invariants: `session` is 0 or the session whose controlling terminal this is; `pgrp` is 0 or a process group of it.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EBUSY, EIO, ENXIO, EPERM
from trapline.abi.fcntl import O_NOCTTY
from trapline.abi.signal import SIGCONT, SIGHUP, SIGTTIN, SIGTTOU, SIGWINCH
from trapline.abi.termios import TOSTOP, WINSIZE
from trapline.kernel.drivers.groupsignal import signal_group
from trapline.kernel.drivers.termios import Termios
from trapline.kernel.drivers.tty_ioctl import tty_ioctl
from trapline.kernel.fs.devices import register_chardev
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.sync.park import Interrupted, WaitQueue

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.mount import Path

CAP_SYS_ADMIN = 21
SIG_IGN = 1


class Tty:
    """One terminal: `name` is its device's path, `rdev` its number."""

    def __init__(self, kernel: Any, name: bytes, rdev: int) -> None:
        self.kernel = kernel
        self.name = name
        self.rdev: int = rdev
        self.session = 0
        self.pgrp = 0
        self.winsize = bytes(WINSIZE.size)
        self.modes = Termios()
        self.exclusive: bool = False
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

    def patience_ns(self, count: int) -> int | None:
        """How long a read that got None waits before `read_late` (VTIME); None: for ever."""
        return None

    def read_late(self, count: int) -> bytes:
        return b""

    def file_opened(self) -> None:
        """The device is being opened; may raise."""

    def file_closed(self) -> None:
        """An open file of the device is gone."""

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
        signal_group(self.kernel, pgid, signo)

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

    def give_up(self, group: Any) -> None:
        """`group` loses its controlling terminal; if it leads the session, so does everybody in the session, and the
        foreground group gets SIGHUP and SIGCONT."""
        group.tty = None
        if group.pid != group.sid or self.session != group.sid:
            return
        pgrp = self.pgrp
        self.session = self.pgrp = 0
        for other in self.kernel.each_group(lambda each: each.tty is self):
            other.tty = None
        self.signal(pgrp, SIGHUP)
        self.signal(pgrp, SIGCONT)

    def resize(self, winsize: bytes) -> None:
        """The size changed: the foreground group hears of it."""
        if winsize != self.winsize:
            self.winsize = winsize
            self.signal_foreground(SIGWINCH)

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
        tty.file_opened()
        super().__init__(inode, flags & ~O_NOCTTY, path)
        self.tty = tty
        tty.opened(task, flags, self.readable)

    def release(self) -> None:
        self.tty.file_closed()

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

    def patience_ns(self, count: int, writing: bool) -> int | None:
        return None if writing else self.tty.patience_ns(count)

    def gave_up(self, count: int, writing: bool) -> bytes:
        return self.tty.read_late(count)

    def poll(self) -> int:
        return self.tty.poll()

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.tty.queue,)

    def ioctl(self, task: Any, cmd: int, arg: int) -> int:
        return tty_ioctl(self.tty, task, cmd, arg, self.readable)


def open_current(inode: Inode, path: Path, flags: int, task: Any) -> TtyFile:
    """/dev/tty: the caller's controlling terminal; ENXIO if it has none."""
    tty = task.group.tty if task is not None else None
    if tty is None:
        raise ENXIO
    return TtyFile(tty, inode, flags | O_NOCTTY, path, task)


def disassociate(group: Any) -> None:
    """`group` gives up its controlling terminal, if it has one: a session leader's exit calls this."""
    if group.tty is not None:
        group.tty.give_up(group)


def orphaned(kernel: Any, pgid: int) -> bool:
    """No member of the process group has a parent in another group of its session: nobody could continue it."""
    for group in kernel.each_group(lambda each: each.pgid == pgid):
        parent = group.parent
        if not group.zombie and parent is not None and parent.pgid != pgid and parent.sid == group.sid:
            return False
    return True


register_chardev(5, 0, open_current)
