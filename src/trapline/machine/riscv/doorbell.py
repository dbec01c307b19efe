"""How the machine waits on the host: a doorbell that other threads may ring, watched descriptors, and the host's clock.

All host access of the RISC-V machine is here.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress

from trapline.machine.watch import watch

monotonic_ns = time.monotonic_ns


class Doorbell:
    """`ready`: (fd, epoll mask) of watched descriptors, added as they become ready."""

    def __init__(self, ready: list[tuple[int, int]]) -> None:
        self._ready = ready
        self.rung = False  #: since the last look
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._epoll.register(self._fd, select.EPOLLIN)

    def ring(self) -> None:
        """Safe from signal handlers and threads."""
        self.rung = True
        with suppress(OSError):  # full: then it rings already
            os.eventfd_write(self._fd, 1)

    def watch(self, fd: int, mask: int) -> None:
        watch(self._epoll, fd, mask)

    def wait(self, deadline_ns: int | None, *, busy: bool) -> bool:
        """Look at everything; unless there is other work (busy), sleep until something happens. Whether something has."""
        timeout_s: float | None = 0
        if not busy and not self.rung:
            timeout_s = None if deadline_ns is None else max(0, deadline_ns - monotonic_ns()) / 1e9
        for fd, mask in self._epoll.poll(timeout_s):
            if fd == self._fd:
                with suppress(BlockingIOError):
                    os.eventfd_read(fd)
            else:
                self._ready.append((fd, mask))
        rung, self.rung = self.rung, False
        return bool(rung or self._ready or (deadline_ns is not None and monotonic_ns() >= deadline_ns))

    def close(self) -> None:
        self._epoll.close()
        os.close(self._fd)
