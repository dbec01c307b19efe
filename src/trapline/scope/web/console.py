"""The program's terminal or pipes, from the server's side: what it writes goes to the page and to our own streams.

A thread for each stream reads, tells the page, and writes: a reader of ours that is slow slows the program, as it would without
a page; a slow page never does.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import threading
from collections.abc import Callable
from typing import NamedTuple

CHUNK = 32 << 10
SIGINT, SIGQUIT, SIGTSTP, SIGWINCH = 2, 3, 20, 28
_LFLAG, _CC = 3, 6  #: in what tcgetattr(3) returns
_KEYS = ((termios.VINTR, SIGINT), (termios.VQUIT, SIGQUIT), (termios.VSUSP, SIGTSTP))


class Stream(NamedTuple):
    """Where to read what the program writes, and our own descriptor for it."""

    source: int
    target: int


class Console:
    """`terminal`: the master side of the program's terminal, -1 if it has pipes. `put(data)` is called from threads."""

    def __init__(self, streams: list[Stream], put: Callable[[bytes], None], terminal: int = -1) -> None:
        self._put = put
        self._terminal = terminal
        if terminal >= 0:
            os.set_blocking(terminal, False)
        self._threads = [threading.Thread(target=self._pump, args=(each,)) for each in streams]
        for each in self._threads:
            each.start()

    @property
    def takes_input(self) -> bool:
        return self._terminal >= 0

    def join(self) -> None:
        """Until everything was read and written."""
        for each in self._threads:
            each.join()

    def _pump(self, stream: Stream) -> None:
        target = stream.target
        while data := self._read(stream.source):
            self._put(data)
            if target >= 0 and not _write(target, data):
                target = -1
                if stream.source != self._terminal:
                    break  # as natively: the program writes to a pipe that nobody reads
        if stream.source != self._terminal:
            os.close(stream.source)

    @staticmethod
    def _read(source: int) -> bytes:
        while True:
            select.select([source], [], [])
            try:
                return os.read(source, CHUNK)
            except BlockingIOError:
                continue
            except OSError:  # EIO: nobody has the other side of the terminal open
                return b""

    def type(self, text: str) -> tuple[bool, list[int]]:
        """Send keys; (whether all were taken, signals that keys stand for: the kernel must send them itself)."""
        modes = termios.tcgetattr(self._terminal)
        keys = {modes[_CC][index]: signo for index, signo in _KEYS} if modes[_LFLAG] & termios.ISIG else {}
        signals: list[int] = []
        data = bytearray()
        for byte in text.encode():
            signo = keys.get(bytes((byte,)))
            if signo is None:
                data.append(byte)
            else:
                signals.append(signo)
                data.clear()
        try:
            return os.write(self._terminal, data) == len(data) if data else True, signals
        except BlockingIOError:
            return False, signals

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _write(target: int, data: bytes) -> bool:
    """All of it; False if nobody takes it."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:
            select.select([], [target], [])
        except OSError:
            return False
    return True
