"""Pseudo-terminals: pty(7), pts(4). A master and a slave, with a line discipline between them.

What is written to the master is typed at the slave; what the slave's programs write, processed, is read from the master.

Invariants:
- an index is in `Ptys.ttys` while its terminal exists; its slave device exists as long;
- `output` holds at most OUTPUT_SIZE bytes of programs' output; echo may exceed that by ECHO_SLACK.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi import ioctl as c
from trapline.abi import termios as t
from trapline.abi.errno import EINVAL, EIO, ENOENT, ENOTTY, ENXIO
from trapline.abi.fcntl import O_ACCMODE, O_CLOEXEC, O_NOCTTY, O_NONBLOCK
from trapline.abi.poll import POLL_IN, POLL_OUT, POLLHUP, POLLPRI
from trapline.abi.stat import makedev, minor
from trapline.kernel.drivers.pts import SLAVE_MAJOR, Ptys, of_ptmx, of_slave
from trapline.kernel.drivers.tty import Tty, TtyFile
from trapline.kernel.drivers.tty_ioctl import tty_ioctl
from trapline.kernel.drivers.tty_ldisc import LineDiscipline
from trapline.kernel.fs.devices import register_chardev
from trapline.kernel.fs.inode import Inode
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.sync.park import WaitQueue

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Path

OUTPUT_SIZE = 65536
ECHO_SLACK = 4096


class Pty(Tty):
    """The terminal of one pair, as its slave side sees it."""

    def __init__(self, kernel: Any, index: int) -> None:
        super().__init__(kernel, b"/dev/pts/%d" % index, makedev(SLAVE_MAJOR, index))
        self.index = index
        self.locked = True
        self.output = bytearray()
        self.slaves = 0  #: open slave files
        self.slave_closed = False  #: there were some
        self.packet = False
        self.status = 0  #: TIOCPKT_* to be reported in packet mode
        self.master_queue = WaitQueue()
        self.line = LineDiscipline(self.modes, self._emit, self.signal_foreground, self._flow, self._flushed)

    # ---- towards the master

    def _emit(self, text: bytes) -> None:
        if len(self.output) < OUTPUT_SIZE + ECHO_SLACK:
            self.output += text
            self.master_queue.wake_all(POLL_IN)

    def _report(self, status: int) -> None:
        if self.packet:
            self.status |= status
            self.master_queue.wake_all(POLL_IN | POLLPRI)

    def _flow(self, stopped: bool) -> None:
        if stopped:
            self.status &= ~c.TIOCPKT_START
            self._report(c.TIOCPKT_STOP)
        else:
            self.status &= ~c.TIOCPKT_STOP
            self._report(c.TIOCPKT_START)
            self.queue.wake_all(POLL_OUT)

    def _flushed(self) -> None:
        self.output.clear()
        self._report(c.TIOCPKT_FLUSHREAD | c.TIOCPKT_FLUSHWRITE)

    # ---- the slave

    def read(self, count: int) -> bytes | None:
        data = self.line.read(count)
        if data is not None:
            self.master_queue.wake_all(POLL_OUT)
        return data

    def patience_ns(self, count: int) -> int | None:
        return self.line.patience_ns(count)

    def read_late(self, count: int) -> bytes:
        return self.line.read(count, timed_out=True) or b""

    def _can_write(self) -> bool:
        return len(self.output) < OUTPUT_SIZE and not self.line.stopped and not self.line.held

    def write(self, data: bytes | memoryview) -> int | None:
        if not self._can_write():
            return None
        part = data[: OUTPUT_SIZE - len(self.output)]
        self.line.screen.output(part)
        return len(part)

    def poll(self) -> int:
        if self.hung_up:
            return POLL_IN | POLL_OUT | POLLHUP
        events = POLL_IN if self.line.readable() else 0
        return events | POLL_OUT if self._can_write() else events

    def apply_modes(self, flush_input: bool) -> None:
        if flush_input:
            self.line.flush_input()
        self.line.modes_changed()
        modes = self.modes
        usual = modes.iflag & t.IXON and modes.cc[t.VSTART] == 17 and modes.cc[t.VSTOP] == 19
        self.status &= ~(c.TIOCPKT_DOSTOP | c.TIOCPKT_NOSTOP)
        self._report((c.TIOCPKT_DOSTOP if usual else c.TIOCPKT_NOSTOP) if self.packet else 0)
        self.queue.wake_all()

    def pending_input(self) -> int:
        return self.line.available()

    def pending_output(self) -> int:
        return len(self.output)

    def flush(self, which: int) -> None:
        if which != t.TCOFLUSH:
            self.line.flush_input()
            self._report(c.TIOCPKT_FLUSHREAD)
            self.master_queue.wake_all(POLL_OUT)
        if which != t.TCIFLUSH:
            self.output.clear()
            self._report(c.TIOCPKT_FLUSHWRITE)
            self.queue.wake_all(POLL_OUT)

    def flow(self, action: int) -> None:
        if action in (t.TCOOFF, t.TCOON):
            self.line.hold(action == t.TCOOFF)
        else:
            byte = self.modes.cc[t.VSTOP if action == t.TCIOFF else t.VSTART]
            if byte != t.DISABLED_CHAR:
                self._emit(bytes((byte,)))

    def push_input(self, byte: int) -> None:
        self.type(bytes((byte,)))

    def type(self, data: bytes | memoryview) -> int:
        """Characters from the master; how many were taken."""
        taken = self.line.receive(data)
        if self.line.readable():
            self.queue.wake_all(POLL_IN)
        elif self.line.raw:
            self.queue.wake_all()  # a read under VMIN and VTIME counts characters
        return taken

    def file_opened(self) -> None:
        if self.locked:
            raise EIO("the slave is locked")
        self.slaves += 1
        self.slave_closed = False

    def file_closed(self) -> None:
        self.slaves -= 1
        if not self.slaves:
            self.slave_closed = True
            self.master_queue.wake_all(POLLHUP)


class MasterFile(SpecialFile):
    """The open master: what a terminal emulator holds."""

    __slots__ = ("ptys", "top", "tty")

    nowait = False

    def __init__(self, ptys: Ptys, tty: Pty, inode: Inode, flags: int, path: Path | None) -> None:
        super().__init__(inode, flags, path)
        self.ptys = ptys
        self.top: Path | None = None  #: of the instance, where the slave's name is
        self.tty = tty

    def try_read(self, count: int) -> bytes | None:
        tty = self.tty
        if not count:
            return b""
        if tty.packet:
            if tty.status:
                status, tty.status = tty.status, 0
                return bytes((status,))
            if tty.output:
                return b"\0" + self._take(count - 1)
        elif tty.output:
            return self._take(count)
        if tty.slave_closed:
            raise EIO("every slave is closed")
        return None

    def _take(self, count: int) -> bytes:
        tty = self.tty
        data = bytes(tty.output[:count])
        del tty.output[:count]
        tty.queue.wake_all(POLL_OUT)
        return data

    def try_write(self, data: bytes | memoryview) -> int | None:
        if not data:
            return 0
        return self.tty.type(data) or None

    def poll(self) -> int:
        tty = self.tty
        events = POLL_OUT if tty.line.room() else 0
        if tty.output:
            events |= POLL_IN
        if tty.packet and tty.status:
            events |= POLL_IN | POLLPRI
        return events | POLLHUP if tty.slave_closed else events

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.tty.master_queue,)

    def release(self) -> None:
        self.tty.hang_up()
        self.ptys.remove(self.tty)

    def ioctl(self, task: Any, cmd: int, arg: int) -> int:
        tty = self.tty
        mm = task.mm
        if cmd == c.TIOCGPTN:
            mm.write_u32(arg, tty.index)
        elif cmd == c.TIOCSPTLCK:
            tty.locked = bool(mm.read_u32(arg))
        elif cmd == c.TIOCGPTLCK:
            mm.write_u32(arg, tty.locked)
        elif cmd == c.TIOCPKT:
            tty.packet = bool(mm.read_u32(arg))
            tty.status = 0
        elif cmd == c.TIOCGPKT:
            mm.write_u32(arg, tty.packet)
        elif cmd == c.TIOCGPTPEER:
            return self._peer(task, arg)
        elif cmd == c.TIOCSIG:
            if not 1 <= arg <= 64:
                raise EINVAL
            tty.signal_foreground(arg)
        elif cmd == c.FIONREAD:
            mm.write_u32(arg, len(tty.output))
        elif cmd == c.TIOCOUTQ:
            mm.write_u32(arg, 0)
        elif cmd == c.TIOCGPGRP:  # a master may ask for its slave's
            mm.write_u32(arg, tty.pgrp)
        elif cmd == c.TIOCGSID:
            if not tty.session:
                raise ENOTTY
            mm.write_u32(arg, tty.session)
        elif cmd in (c.TIOCSCTTY, c.TIOCNOTTY, c.TIOCGDEV):
            raise ENOTTY
        else:
            return tty_ioctl(tty, task, cmd, arg)
        return 0

    def _peer(self, task: Any, flags: int) -> int:
        """TIOCGPTPEER: a descriptor of the slave, whatever became of its name."""
        tty = self.tty
        if flags & ~(O_ACCMODE | O_NOCTTY | O_NONBLOCK | O_CLOEXEC):
            raise EINVAL
        inode = self.ptys.inode(tty.index)
        try:
            path = task.kernel.vfs.resolve(self.top, self.top, b"%d" % tty.index) if self.top is not None else None
        except ENOENT:
            path = None
        slave = TtyFile(tty, inode, flags & ~O_CLOEXEC, path, task)
        try:
            fd: int = task.files.install(slave, bool(flags & O_CLOEXEC))
        except BaseException:
            slave.put()
            raise
        return fd


def open_ptmx(inode: Inode, path: Path, flags: int, task: Any) -> MasterFile:
    """/dev/ptmx: every open makes a new pair."""
    if task is None:
        raise ENXIO
    ptys, top = of_ptmx(task.kernel, inode, path)
    master = MasterFile(ptys, ptys.allocate(task.kernel, task.creds), inode, flags, path)
    master.top = top
    return master


def open_slave(inode: Inode, path: Path, flags: int, task: Any) -> TtyFile:
    """/dev/pts/N."""
    tty = of_slave(task.kernel, inode).ttys.get(minor(inode.rdev)) if task is not None else None
    if tty is None:
        raise ENXIO
    return TtyFile(tty, inode, flags, path, task)


register_chardev(5, 2, open_ptmx)
register_chardev(SLAVE_MAJOR, -1, open_slave)
