"""Host descriptors behind guest files: reads and writes that never block the kernel, and never change what others share.

O_NONBLOCK belongs to the open file description, which the host's shell and other programs share. So a pipe or terminal is
opened again through /proc/self/fd, with O_NONBLOCK for us alone; where that is not possible, each transfer is preceded by
poll(2) and is small enough not to block after it.

Invariants:
- a host descriptor is watched (edge-triggered) from the first time it was not ready, in the directions that were asked for;
- nothing but 0, 1, 2 and what this module opened is ever read or written.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import struct
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EIO, EPIPE, ESPIPE, Errno, of_number
from trapline.abi.ioctl import FIONREAD
from trapline.abi.poll import EPOLLET, POLL_ALWAYS, POLL_IN, POLL_OUT, POLLERR, POLLHUP, POLLIN, POLLOUT
from trapline.abi.stat import makedev
from trapline.kernel.drivers.stdio import Stream
from trapline.kernel.fs.devfs import NODES

if TYPE_CHECKING:
    from trapline.machine.contract import Machine

MOST = 65536  #: bytes of one transfer
CAREFUL = 4096  #: bytes that a writable pipe or socket takes without blocking (PIPE_BUF)
CAREFUL_TTY = 256  #: the same for a terminal
_DEVICES = {makedev(major, minor): b"/dev/" + name for name, _, major, minor in NODES}  #: those that mean the same here


def errno_of(error: OSError) -> Errno:
    """The guest's errno for a failed host call."""
    return (of_number(error.errno or 0) or EIO)(f"host: {error.strerror}")


class HostIo:
    """The host descriptors of one kernel, by number; the trap loop reports readiness here."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._streams: dict[int, HostStream] = {}

    def ready(self, fd: int, mask: int) -> None:
        """`machine.wait` found a watched descriptor ready."""
        stream = self._streams.get(fd)
        if stream is not None:
            stream.queue.wake_all()

    def watch(self, fd: int, mask: int, stream: HostStream) -> None:
        self._streams[fd] = stream
        self._machine.watch(fd, mask | EPOLLET)

    def unwatch(self, fd: int) -> None:
        if self._streams.pop(fd, None) is not None:
            self._machine.watch(fd, 0)


class HostStream(Stream):
    """One host descriptor."""

    def __init__(self, io: HostIo, fd: int) -> None:
        super().__init__()
        self.fd = fd
        self._io = io
        self._watched = 0
        status = os.fstat(fd)
        kind = stat.S_IFMT(status.st_mode)
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        self.readable = access != os.O_WRONLY
        self.writable = access != os.O_RDONLY
        self.is_tty = kind == stat.S_IFCHR and os.isatty(fd)
        self._waits = self.is_tty or kind in (stat.S_IFIFO, stat.S_IFSOCK)
        self.is_file = kind == stat.S_IFREG
        self.mode = (stat.S_IFIFO if kind == stat.S_IFSOCK else kind) | stat.S_IMODE(status.st_mode)
        self.rdev = status.st_rdev
        if not self._waits:
            device = _DEVICES.get(self.rdev) if kind == stat.S_IFCHR else None
            self.name = device if device is not None else b"host:[%d]" % fd
        self._own = self._reopen(fd, access) if self.is_tty or kind == stat.S_IFIFO else -1
        self._io_fd = self._own if self._own >= 0 else fd
        self._poller = select.poll()
        self._poller.register(self._io_fd, select.POLLIN | select.POLLOUT)
        self._careful = CAREFUL_TTY if self.is_tty else CAREFUL

    @staticmethod
    def _reopen(fd: int, access: int) -> int:
        """The same pipe or terminal, not blocking, for us alone; -1 if the host does not permit it."""
        try:
            return os.open(f"/proc/self/fd/{fd}", access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return -1

    def _host_poll(self) -> int:
        found = self._poller.poll(0)
        return found[0][1] if found else 0

    def _need(self, events: int) -> None:
        """Somebody is going to wait for `events`."""
        if events & ~self._watched:
            self._watched |= events
            self._io.watch(self._io_fd, self._watched, self)

    # ---- transfers

    def read(self, count: int) -> bytes | None:
        count = min(count, MOST)
        if self._waits and self._own < 0 and not self._host_poll() & (POLLIN | POLLHUP | POLLERR):
            self._need(POLLIN)
            return None
        try:
            return os.read(self._io_fd, count)
        except BlockingIOError:
            self._need(POLLIN)
            return None
        except OSError as error:
            raise errno_of(error) from None

    def write(self, data: bytes | memoryview) -> int | None:
        whole = len(data)
        if self._waits and self._own < 0:
            if not self._host_poll() & (POLLOUT | POLLHUP | POLLERR):
                self._need(POLLOUT)
                return None
            data = data[: self._careful]
        try:
            done = os.write(self._io_fd, data)
        except BlockingIOError:
            self._need(POLLOUT)
            return None
        except BrokenPipeError:
            raise EPIPE from None
        except OSError as error:
            raise errno_of(error) from None
        if self._waits and done < whole:  # whoever waits for the rest hears of it, even if there is room now
            self._watched |= POLLOUT
            self._io.watch(self._io_fd, self._watched, self)
        return done

    def pread(self, count: int, offset: int) -> bytes:
        if self._waits:
            raise ESPIPE
        try:
            return os.pread(self.fd, count, offset)
        except OSError as error:
            raise errno_of(error) from None

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        if self._waits:
            raise ESPIPE
        try:
            return os.pwrite(self.fd, data, offset)
        except OSError as error:
            raise errno_of(error) from None

    def seek(self, offset: int, whence: int) -> int:
        if self._waits:
            raise ESPIPE
        try:
            return os.lseek(self.fd, offset, whence)
        except OSError as error:
            raise errno_of(error) from None

    # ---- state

    def poll(self) -> int:
        if not self._waits:
            return POLL_ALWAYS
        found = self._host_poll()
        wanted = (POLLIN if self.readable else 0) | (POLLOUT if self.writable else 0)
        if wanted & ~found:
            self._need(wanted & ~found)
        events = found & (POLLERR | POLLHUP)
        if found & POLLIN:
            events |= POLL_IN
        if found & POLLOUT and self.writable:
            events |= POLL_OUT
        return events

    def available(self) -> int:
        try:
            raw = fcntl.ioctl(self.fd, FIONREAD, bytes(4))
        except OSError:
            return 0
        return int(struct.unpack("<i", raw)[0])

    def attributes(self) -> tuple[int, int] | None:
        if not self.is_file:
            return None
        status = os.fstat(self.fd)
        return status.st_size, status.st_mtime_ns

    def truncate(self, size: int) -> None:
        if not self.is_file:
            return
        try:
            os.ftruncate(self.fd, size)
        except OSError as error:
            raise errno_of(error) from None

    def sync(self) -> None:
        try:
            os.fsync(self.fd)
        except OSError as error:
            raise errno_of(error) from None

    def close(self) -> None:
        self._io.unwatch(self._io_fd)
        if self._own >= 0:
            os.close(self._own)
            self._own = -1
            self._io_fd = self.fd
