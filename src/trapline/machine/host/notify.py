"""The listener: the held system calls of all stub processes, and the decision to let one go on.

Sources: seccomp_unotify(2), linux/seccomp.h. A held call's arguments are in registers that its thread cannot change while it is
held, so comparing them and then answering CONTINUE is sound here, unlike with arguments in memory. Synchronous wake-up
(SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6) was measured and is worse: an answer took 100 µs instead of 5.

Invariant: a call goes on only if it is, word by word, the operation the kernel waits for, by the thread it waits for.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time
from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

from trapline.machine.host.errors import StubDied
from trapline.machine.host.layout import Op

if TYPE_CHECKING:
    from trapline.machine.host.contexts import Slot
    from trapline.machine.host.suspicion import Suspicion

_RECV, _SEND = 0xC050_2100, 0xC018_2101
_CONTINUE = 1
_LOOKS = 16
PATIENCE_NS = 1_000_000_000  #: how long a stub may take over one operation, if the host lets it


class Held:
    """A held system call: what `Listener.receive` returns."""

    __slots__ = ("id", "op", "tid")

    def __init__(self, id_: int, tid: int, op: Op) -> None:
        self.id, self.tid, self.op = id_, tid, op


class Listener:
    """The seccomp listener's descriptor. `intruder(tid)` deals with a thread that made a call nobody waits for."""

    def __init__(self, fd: int, intruder: Callable[[int], None]) -> None:
        self.fd = fd
        self._intruder = intruder
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._in = bytearray(80)
        self._words = memoryview(self._in).cast("Q")
        self._zero = bytes(80)
        self._out = bytearray(24)
        self._answer = memoryview(self._out).cast("Q")
        self._answer[2] = _CONTINUE << 32

    def receive(self, timeout_ms: float) -> Held | None:
        """The next held call, or None after `timeout_ms`."""
        poll = self._poll.poll
        for _ in range(_LOOKS if timeout_ms else 0):  # cheaper than to sleep and be woken
            if poll(0):
                break
        else:
            if not poll(timeout_ms):
                return None
        self._in[:] = self._zero
        try:
            fcntl.ioctl(self.fd, _RECV, self._in)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # its thread died meanwhile
                return None
            raise
        id_, tid, nr, _ip, *args = self._words
        a, b, c, d, e, f = args
        return Held(id_, tid & 0xFFFF_FFFF, (nr & 0xFFFF_FFFF, a, b, c, d, e, f))

    def proceed(self, held: Held) -> bool:
        """Let it go on; False if its thread is no longer there."""
        self._answer[0] = held.id
        try:
            fcntl.ioctl(self.fd, _SEND, self._out)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def expect(self, slot: Slot, op: Op) -> None:
        """Wait for `op` by the thread of `slot` and let it go on. Raises StubDied."""
        deadline_ns, process = 0, slot.process
        suspicion: Suspicion | None = None
        while True:
            held = self.receive(20)
            if held is not None:
                if held.tid == slot.tid and held.op == op:
                    if self.proceed(held):
                        return
                else:
                    self._intruder(held.tid)
            if not process.alive():
                raise StubDied("it died in an operation")
            if suspicion is None:
                from trapline.machine.host.suspicion import Suspicion

                suspicion = Suspicion(process.pid, slot.tid)
            elif held is None and (why := suspicion.why()):
                raise StubDied(why)
            now_ns = time.monotonic_ns()
            deadline_ns = deadline_ns or now_ns + PATIENCE_NS
            if now_ns > deadline_ns and not suspicion.starved(PATIENCE_NS):
                raise StubDied(f"it did not perform operation {op[0]} in time")

    def drain(self) -> None:
        """Take in the calls that are held now, of whom nobody was asked for anything."""
        while (held := self.receive(0)) is not None:
            self._intruder(held.tid)

    def close(self) -> None:
        os.close(self.fd)
