"""The guest's side of a host terminal: /dev/pts/0, also /dev/console. Imported if one of our descriptors is a terminal.

Partial: a read with VMIN above 1 may return fewer characters.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi import termios as t
from trapline.abi.poll import POLL_IN, POLL_OUT, POLLHUP
from trapline.abi.stat import makedev
from trapline.kernel.drivers.pts import SLAVE_MAJOR
from trapline.kernel.drivers.tty import Tty

if TYPE_CHECKING:
    from trapline.kernel.drivers.hosttty import HostTerminal


class ConsoleTty(Tty):
    """The guest's side of a host terminal."""

    def __init__(self, kernel: Any, host: HostTerminal) -> None:
        super().__init__(kernel, b"/dev/pts/0", makedev(SLAVE_MAJOR, 0))
        self.host = host
        self.output = host  #: where output goes, if another descriptor is the writable one
        self.queue = host.queue
        self.winsize = host.winsize()
        self.refresh_modes()

    def read(self, count: int) -> bytes | None:
        data = self.host.read(count)
        cc = self.modes.cc
        if data is None and not self.modes.lflag & t.ICANON and not cc[t.VMIN] and not cc[t.VTIME]:
            return b""
        return data

    def patience_ns(self, count: int) -> int | None:
        cc = self.modes.cc
        if self.modes.lflag & t.ICANON or cc[t.VMIN] or not cc[t.VTIME]:
            return None
        return cc[t.VTIME] * 100_000_000

    def write(self, data: bytes | memoryview) -> int | None:
        return self.output.write(data)

    def poll(self) -> int:
        if self.hung_up:
            return POLL_IN | POLL_OUT | POLLHUP
        return self.host.poll() | (self.output.poll() if self.output is not self.host else 0)

    def apply_modes(self, flush_input: bool) -> None:
        modes = self.modes
        if flush_input:
            self.host.flush(t.TCIFLUSH)
        self.host.set_modes(modes.iflag, modes.oflag, modes.lflag, modes.cc)

    def refresh_modes(self) -> None:
        modes = self.modes
        modes.iflag, modes.oflag, modes.cflag, modes.lflag, modes.cc = self.host.modes()

    def pending_input(self) -> int:
        return self.host.available()

    def pending_output(self) -> int:
        return self.host.pending_output()

    def flush(self, which: int) -> None:
        self.host.flush(which)

    def flow(self, action: int) -> None:
        self.host.flow(action)
