"""A kernel with one process in hand: its task never runs, system calls are made in its name, as the trap loop would.

Invariants: every call goes through the dispatcher and, when there is work (signals, exits), through the trap loop's way back to
user mode; a task that has died is replaced; a call that waits is given up, as a checkpoint would.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from trapline import Kernel
from trapline.abi.errno import Errno
from trapline.abi.syscalls import X86_64
from trapline.kernel.config import Identity
from trapline.kernel.mm.reclaim import reclaimer
from trapline.kernel.sync.park import READY
from trapline.kernel.task.exit import exit_task
from trapline.kernel.task.task import DEAD, STOPPED, WORK_RESCHED
from trapline.machine.contract import ENTRY_SYSCALL, SYSCALL

AREA = 0x2000_0000  #: sixteen pages of the task's that targets may fill
PAGE = 4096
AREA_PAGES = 16
_MAX_CALLS = 20_000  #: by one kernel, then it is replaced: what inputs leave behind must not pile up


class World:
    """The kernel and its task; made again when it has served for long."""

    def __init__(self) -> None:
        self._calls = 0
        self._names = 0
        self._boot()

    def _boot(self) -> None:
        self.kernel = Kernel(
            memory=256 << 20, cpus=1, stdio=(-1, -1, -1), identity=Identity(1000, 1000), seed=1, aslr=False
        )
        try:
            self.task: Any = self.kernel.spawn(["/bin/true"]).leader
        except BaseException:
            self.kernel.close()
            raise

    def close(self) -> None:
        self.kernel.close()

    def fresh(self) -> None:
        """Before an input: a live task without descriptors of its own, an empty area, an empty current directory. Not traced."""
        with _untraced():
            self._fresh()

    def _fresh(self) -> None:
        if self._calls > _MAX_CALLS:
            self._calls = 0
            self.close()
            self._boot()
        self._catch_up()
        if self.task.state == DEAD:
            self.task = self.kernel.spawn(["/bin/true"]).leader
        self.call("close_range", 3, 0xFFFF_FFFF, 0)
        self.call("munmap", AREA, AREA_PAGES * PAGE)
        if self.call("mmap", AREA, AREA_PAGES * PAGE, 3, 0x32, 0xFFFF_FFFF, 0) != AREA:
            self.respawn()
        self._names += 1
        name = b"/tmp/%d" % self._names
        self.kernel.system.vfs.makedirs(name)
        self.put(AREA, name + b"\0")
        self.call("chdir", AREA)
        self.put(AREA, bytes(len(name)))

    def respawn(self) -> None:
        """The task became useless (its memory, its limits): another one. Not traced."""
        with _untraced():
            if self.task.state != DEAD:
                exit_task(self.task, 0)  # what it runs is not busy any more
            self._catch_up()
            self.task = self.kernel.spawn(["/bin/true"]).leader
            self.call("mmap", AREA, AREA_PAGES * PAGE, 3, 0x32, 0xFFFF_FFFF, 0)

    def _catch_up(self) -> None:
        """Do what the trap loop, which does not run here, does while programs run."""
        afterwards = self.kernel.system.afterwards
        ends = reclaimer(self.kernel.system.ram).ends
        while afterwards or ends:
            (afterwards or ends).popleft()()

    def put(self, address: int, data: bytes) -> None:
        """Store what fits; where the area, or the task, is gone: nothing."""
        if self.task.state == DEAD:
            return
        try:
            self.task.mm.write(address, data[: AREA + AREA_PAGES * PAGE - address])
        except Errno:
            return

    def call(self, name: str | int, *args: int) -> int | None:
        """The result of a system call by the task, negative for an errno; None if it waits for ever, or ended the task."""
        task = self.task
        if task.state == DEAD:
            return None
        self._calls += 1
        system, ctx = self.kernel.system, task.ctx
        arch = system.machine.arch
        for register, value in zip(arch.args, (*args, 0, 0, 0, 0, 0, 0), strict=False):
            ctx.regs[register] = value & (1 << 64) - 1
        ctx.regs[arch.nr] = X86_64[name] if isinstance(name, str) else name
        ctx.kind, ctx.entry = SYSCALL, ENTRY_SYSCALL
        system.current = task
        done = system.loop.dispatcher.call(task)
        if not done:
            task.coro.close()
            task.coro = task.waiter = None
        result = ctx.regs[arch.ret]
        self._settle(task)
        return (result ^ 1 << 63) - (1 << 63) if done else None

    def _settle(self, task: Any) -> None:
        """What is due before user mode; others whom the call woke, or made, end."""
        loop = self.kernel.system.loop
        task.work &= ~WORK_RESCHED
        if (task.work or task.restart) and task.state != DEAD:
            loop._work(task)
        READY.clear()
        if task.state == STOPPED:
            self.kernel.kill_all()
            loop._work(task)
        for other in tuple(self.kernel.system.tasks.values()):
            if other is not task:
                self._end(other)
        self.kernel.system.sched.dequeue(task)
        self._catch_up()

    def _end(self, other: Any) -> None:
        from trapline.kernel.task import exit as exits

        if other.coro is not None:
            other.coro.close()
            other.coro = other.waiter = None
        exits.exit_group(other, 9)
        READY.clear()
        self.kernel.system.loop._work(other)


@contextmanager
def _untraced() -> Iterator[None]:
    """What happens inside is no coverage of the input's."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


def cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """`data` in pieces of these sizes, zero-padded, and the rest."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size].ljust(size, b"\0"))
        at += size
    return [*pieces, data[at:]]
