"""One stub process: its pid, its threads and their slots, its death.

Invariants: `dead` is set only when the process is gone: a zombie has no memory, so nothing that it had mapped can be reached
any more; a process is reaped exactly once, and its region is free from then on.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the part of signal that needs no enum
import os
import select
from trapline.typed import TYPE_CHECKING

from trapline.machine.host.contexts import Contexts, Slot, Template
from trapline.machine.host.layout import SLOT_SIZE

if TYPE_CHECKING:
    from trapline.machine.host.space import HostSpace

_DEATH_MS = 10_000


class Process:
    """A stub process. `slots[i]` lives in its region's i-th slot."""

    def __init__(self, pid: int, contexts: Contexts, region: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.region = region
        self.slots: list[Slot] = []
        self.dead = False
        self.reaped = False
        self.fresh = True  #: no user code has run in it, and its first command is yet to come: no operation of that is held
        self.early = 0  #: how many operations were ordered before the first command that enters user code
        self.retired = False  #: its death is nobody's concern
        self.reason = ""
        self.space: HostSpace | None = None  #: whose memory it shows
        self._contexts = contexts
        self._poll = select.poll()
        self._poll.register(self.pidfd, select.POLLIN)

    def obituary(self) -> str:
        """Why it died, for people."""
        return self.reason or "its host process died"

    def add_slot(self, template: Template) -> Slot:
        index = len(self.slots)
        slot = Slot(self._contexts, template, self, self.region + index * SLOT_SIZE, index)
        self.slots.append(slot)
        return slot

    def alive(self) -> bool:
        """Whether it still runs; notices its death."""
        if not self.dead and self._poll.poll(0):
            self.dead = True
        return not self.dead

    def kill(self, reason: str, *, wait: bool = True) -> None:
        """End it. With `wait`, its memory is gone on return."""
        self.reason = self.reason or reason
        if self.dead or self.reaped:
            return
        try:
            _signal.pidfd_send_signal(self.pidfd, _signal.SIGKILL)
        except ProcessLookupError:
            self.dead = True
            return
        if wait:
            self.await_death()

    def gone(self, wait: bool) -> bool:
        """Whether it has died; with `wait`, it is killed."""
        if wait:
            self.kill("its memory is wanted")
        return not self.alive()

    def await_death(self) -> None:
        """It has been killed: wait until its memory is gone."""
        if not self.dead:
            self.dead = bool(self._poll.poll(_DEATH_MS))

    def reap(self, *, wait: bool = True) -> bool:
        """Collect the zombie and give the region back; False if it is not dead yet."""
        if self.reaped:
            return True
        try:
            got = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | (0 if wait else os.WNOHANG))
        except ChildProcessError:  # somebody else's waitpid(-1) had it
            if not self._poll.poll(_DEATH_MS if wait else 0):
                return False
        else:
            if got is None:
                return False
            self.reason = self.reason or _obituary(got)
        self.dead = self.reaped = True
        os.close(self.pidfd)
        if self.region:
            self._contexts.put(self.region)
        return True

    def tids(self) -> set[int]:
        """Its threads, as the host says."""
        try:
            return set(map(int, os.listdir(f"/proc/{self.pid}/task")))
        except OSError:
            return set()


def _obituary(got: os.waitid_result) -> str:
    if got.si_code == os.CLD_EXITED:
        return f"its host process exited with status {got.si_status}"
    import signal

    try:
        name = signal.Signals(got.si_status).name
    except ValueError:
        name = str(got.si_status)
    if name == "SIGSYS":
        return "it made a system call inside the stub that the filter forbids (SIGSYS)"
    return f"its host process was killed by {name}"
