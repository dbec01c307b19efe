"""All stub processes of a machine: birth, death, and whoever steps out of line.

Invariants: every process started here is killed and reaped here, and no other; `lost` is called once for a process that dies
before its space is closed, when its memory is already gone.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from contextlib import suppress

from trapline.machine.host.contexts import Contexts
from trapline.machine.host.errors import HostRefuses, StubDied
from trapline.machine.host.process import Process
from trapline.machine.host.zygote import Zygote
from trapline.machine.ram import Ram

TIGHT_NS = 10_000_000_000  #: so long after it has refused a process the host is expected to do so again


class Crew:
    """The zygote and its children. Their pidfds are in `epoll`."""

    def __init__(
        self, cpus: int, ram: Ram, doorbell: int, epoll: select.epoll, lost: Callable[[Process], None]
    ) -> None:
        self.contexts = Contexts(cpus)
        self._lost = lost
        self._sweep = ram.frames.sweep
        self._epoll = epoll
        self._of: dict[int, Process] = {}  #: by pidfd
        self.dying: list[Process] = []  #: whose spaces are closed, and whose deaths are still to be noticed
        self._doomed: list[Process] = []  #: retired, and not even killed yet
        self._refused_ns = -TIGHT_NS
        self.chores = False  #: somebody is to be welcomed, killed or buried
        try:
            self.zygote = Zygote(self.contexts, ram.fd, doorbell, self.intruder)
        except BaseException:
            self.contexts.close()
            raise
        self._adopt(self.zygote.process)

    def _adopt(self, process: Process) -> None:
        self._of[process.pidfd] = process
        self._epoll.register(process.pidfd, select.EPOLLIN)

    def prepare(self) -> None:
        """A process will be wanted soon: let the zygote begin."""
        with suppress(StubDied):  # then `new_process` says so
            self.zygote.order()
            self.chores = True

    def welcome(self) -> None:
        """Take in who was born; have one made if the last one is taken."""
        if self.zygote.short:
            self.prepare()
        self.chores = not self.zygote.advance() or bool(self.dying)

    def bury(self) -> bool:
        """Bury the one that was retired first; False if it is still dying."""
        process = self.dying[0]
        if process.gone(False):
            self.died(process.pidfd)
        self.chores = self.zygote.unborn or bool(self.dying)
        return process.reaped

    def new_process(self) -> Process:
        """Raises StubDied."""
        try:
            process = self.zygote.fork()
        except HostRefuses:
            self._refused_ns = time.monotonic_ns()
            if not self._settle_retired():
                raise
            process = self.zygote.fork()
        self._adopt(process)
        self.chores = self.chores or self.zygote.short
        return process

    @property
    def tight(self) -> bool:
        """The host has refused a process lately."""
        return time.monotonic_ns() < self._refused_ns + TIGHT_NS

    def count(self) -> tuple[int, int]:
        """(processes besides the zygote, their threads)"""
        return len(self._of) - 1, sum(len(process.slots) for process in self._of.values())

    def stamp(self, on: bool) -> None:
        """Have all threads, and those to come, say when they leave user code and enter it."""
        self.contexts.stamped = on
        for process in (*self._of.values(), *self.zygote.newborn()):
            for slot in process.slots:
                slot.stamp(on)

    # ---- death

    def destroy(self, process: Process, reason: str) -> None:
        """Kill it and tell. On return its memory is gone."""
        process.kill(reason)
        self.died(process.pidfd)

    def retire(self, process: Process) -> None:
        """Its space is closed: kill it without a word, when the kernel waits next, and without waiting."""
        process.retired = True
        if process.reaped:
            return
        self.dying.append(process)
        self._doomed.append(process)
        self.chores = True

    def end_doomed(self) -> None:
        """Kill those that are retired and still alive."""
        while self._doomed:
            self._doomed.pop().kill("its space is closed", wait=False)

    def settle(self, process: Process) -> None:
        """Wait for a retired process: on return its memory is gone."""
        self.end_doomed()
        process.await_death()
        self.died(process.pidfd)

    def _settle_retired(self) -> bool:
        """Wait for those whose spaces are closed: they still hold processes and descriptors. Whether there were any."""
        retired = tuple(self.dying)
        for each in retired:
            self.settle(each)
        return bool(retired)

    def died(self, pidfd: int) -> bool:
        """If `pidfd` is of a process: bury it, and tell if it was still wanted."""
        process = self._of.get(pidfd)
        if process is None:
            return False
        if process.reap(wait=False):
            del self._of[pidfd]
            if process.retired:
                self.dying.remove(process)
                self._sweep()
            else:
                self._lost(process)
        return True

    def intruder(self, tid: int) -> None:
        """A thread made a held call that nobody ordered: its process attacks the stub. End it."""
        for process in list(self._of.values()):
            if any(slot.tid == tid for slot in process.slots) or tid in process.tids():
                process.kill("it made a system call inside the stub that was not ordered")
                return

    def close(self) -> None:
        with suppress(StubDied):
            while self.zygote.expecting:
                self.new_process()
        for process in self._of.values():
            process.retired = True
            process.kill("the machine is closed", wait=False)
        for process in self._of.values():
            process.reap()
        self._of.clear()
        self.dying.clear()
        self._doomed.clear()
        self.zygote.listener.close()
        self.contexts.close()
