"""The host's terminal: its modes, its size, its queues. The guest's console is a mirror of it (`console`).

The guest may change how the terminal treats characters, never its line: speed, character size and line discipline stay
the host's. `restore` brings back everything as it was found.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
from trapline.typed import TYPE_CHECKING

from trapline.abi import ioctl as c
from trapline.abi.termios import EXTPROC, TCOON, TERMIOS, WINSIZE
from trapline.kernel.drivers.hostio import HostStream

if TYPE_CHECKING:
    from trapline.kernel.drivers.hostio import HostIo



class HostTerminal(HostStream):
    """One host terminal, by one of its descriptors."""

    def __init__(self, io: HostIo, fd: int) -> None:
        super().__init__(io, fd)
        self._found = self._get()
        self._changed = False

    def _get(self) -> bytes:
        return fcntl.ioctl(self.fd, c.TCGETS, bytes(TERMIOS.size))

    def _ioctl(self, cmd: int, arg: int | bytes) -> None:
        """An ioctl that may fail if the terminal is gone, and must not stop us if we are in the background."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            fcntl.ioctl(self.fd, cmd, arg)
        except OSError:
            pass
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def modes(self) -> tuple[int, int, int, int, bytes]:
        """iflag, oflag, cflag, lflag, cc as they are now."""
        try:
            iflag, oflag, cflag, lflag, _, cc = TERMIOS.unpack(self._get())
        except OSError:
            iflag, oflag, cflag, lflag, _, cc = TERMIOS.unpack(self._found)
        return iflag, oflag, cflag, lflag, cc

    def set_modes(self, iflag: int, oflag: int, lflag: int, cc: bytes) -> None:
        """How the terminal treats characters from now on. Output that is on its way keeps the old modes only by luck."""
        _, _, cflag, _, line, _ = TERMIOS.unpack(self._found)
        self._changed = True
        self._ioctl(c.TCSETS, TERMIOS.pack(iflag, oflag, cflag, lflag & ~EXTPROC, line, cc))

    def winsize(self) -> bytes:
        try:
            return fcntl.ioctl(self.fd, c.TIOCGWINSZ, bytes(WINSIZE.size))
        except OSError:
            return bytes(WINSIZE.size)

    def flush(self, which: int) -> None:
        self._ioctl(c.TCFLSH, which)

    def flow(self, action: int) -> None:
        self._changed = True
        self._ioctl(c.TCXONC, action)

    def pending_output(self) -> int:
        try:
            return int(struct.unpack("<i", fcntl.ioctl(self.fd, c.TIOCOUTQ, bytes(4)))[0])
        except OSError:
            return 0

    def in_foreground(self) -> bool:
        """Our process group is the one that may use the terminal now."""
        try:
            return os.tcgetpgrp(self.fd) == os.getpgrp()
        except OSError:
            return False

    def restore(self) -> None:
        """The modes as they were found."""
        if self._changed:
            self._changed = False
            self._ioctl(c.TCXONC, TCOON)
            self._ioctl(c.TCSETS, self._found)

    def close(self) -> None:
        self.restore()
        super().close()
