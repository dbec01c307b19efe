"""A terminal that changes its size tells the guest's console."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios

from riscv_virtio import Driver

from trapline.cli.terminal import Window, window
from trapline.machine.riscv.devices.virtio import transport as at
from trapline.machine.riscv.devices.virtio.console import Console


def test_another_size_reaches_the_console() -> None:
    ours, theirs = pty.openpty()
    console = Console(lambda data: None, 80, 24)
    driver = Driver(console)
    before = signal.getsignal(signal.SIGWINCH)
    watched = Window(console.resize, theirs)
    try:
        generation = driver.get(at.CONFIG_GENERATION)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 33, 101, 0, 0))
        assert not select.select([watched.fileno()], [], [], 0)[0]
        os.kill(os.getpid(), signal.SIGWINCH)
        assert select.select([watched.fileno()], [], [], 5)[0] and not driver.wire
        watched.ready()
        assert (driver.device.read(at.CONFIG, 2), driver.device.read(at.CONFIG + 2, 2)) == (101, 33)
        assert driver.wire and driver.get(at.INTERRUPT_STATUS) == 2 and driver.get(at.CONFIG_GENERATION) != generation
    finally:
        watched.close()
        os.close(ours)
        os.close(theirs)
    assert signal.getsignal(signal.SIGWINCH) == before


def test_no_terminal_has_no_size() -> None:
    with open(os.devnull) as nothing:
        assert window(nothing.fileno()) == (0, 0)
