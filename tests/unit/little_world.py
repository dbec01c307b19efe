"""A kernel without machine code for tests of tasks: real dispatch, delivery, timers and waiting; flat user memory; a made-up clock.

`World.call(task, name, *args)` is a system call from user mode: it returns the result that user code would see, or
WAITS. `World.settle()` continues whoever was woken; `World.pass_time(ns)` runs what falls due.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import scripted

from trapline.abi import x86_64 as x
from trapline.abi.errno import EFAULT
from trapline.abi.resource import RLIMIT_CORE
from trapline.abi.syscalls import X86_64 as NUMBERS
from trapline.kernel.core import Kernel
from trapline.kernel.drivers.hostclock import VirtualClock
from trapline.kernel.entry.dispatch import Dispatcher
from trapline.kernel.sched.classes import ClassScheduler
from trapline.kernel.sync import park
from trapline.kernel.task.signals.action import SignalActions
from trapline.kernel.task.signals.deliver import deliver
from trapline.kernel.task.signals.pending import Pending
from trapline.kernel.task.task import STOPPED, WORK_EXIT, Task, ThreadGroup
from trapline.machine import contract
from trapline.machine.ram import Ram

WAITS = "waits"
BASE = 0x10000
SIZE = 0x40000
STACK = BASE + 0x30000
CODE = 0x400000
UNLIMITED = (1 << 64) - 1


class FlatMemory:
    """User memory: SIZE bytes at BASE, nothing else. `shared` addresses have a key of their own."""

    task_size = 0x7FFF_F000_0000

    def __init__(self, data: bytearray | None = None) -> None:
        self.data = data if data is not None else bytearray(SIZE)
        self.loads = 0

    def _at(self, addr: int, n: int) -> int:
        if not BASE <= addr <= BASE + SIZE - n:
            raise EFAULT
        return addr - BASE

    def read(self, addr: int, n: int) -> bytes:
        at = self._at(addr, n)
        self.loads += 1
        return bytes(self.data[at : at + n])

    def write(self, addr: int, data: bytes) -> None:
        at = self._at(addr, len(data))
        self.data[at : at + len(data)] = data

    def read_u32(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 4), "little")

    def read_u64(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 8), "little")

    def write_u32(self, addr: int, value: int) -> None:
        self.write(addr, value.to_bytes(4, "little"))

    def write_u64(self, addr: int, value: int) -> None:
        self.write(addr, value.to_bytes(8, "little"))

    def compare_exchange_u32(self, addr: int, old: int, new: int) -> int:
        found = self.read_u32(addr)
        if found == old:
            self.write_u32(addr, new)
        return found

    def modify_u32(self, addr: int, operation: int, argument: int) -> int:
        found = self.read_u32(addr)
        new = (argument, found + argument, found | argument, found & ~argument, found ^ argument)[operation]
        self.write_u32(addr, new & 0xFFFF_FFFF)
        return found

    def futex_key(self, addr: int, shared: bool) -> Any:
        self._at(addr, 4)
        return (id(self.data), addr) if shared else (self, addr)


class Classes(ClassScheduler):
    """The real classes; who is given to them is noted, and stays where it is."""

    def __init__(self, enqueued: list[Task], now_ns: Callable[[], int]) -> None:
        super().__init__(now_ns)
        self.enqueued = enqueued

    def enqueue(self, task: Task, woken: bool) -> None:
        self.enqueued.append(task)


class World:
    """One kernel and its tasks."""

    def __init__(self) -> None:
        park.READY.clear()
        self.clock = VirtualClock()
        self.machine = scripted.ScriptedMachine(Ram(8 << 20))
        self.kernel = Kernel(self.machine, self.clock, bytes)
        self.enqueued: list[Task] = []
        self.kicked: list[Any] = []
        self.kernel.sched = Classes(self.enqueued, self.clock.monotonic_ns)
        self.machine.kick = lambda ctx: self.kicked.append(ctx.owner)  # type: ignore[method-assign]
        self.dispatcher = Dispatcher(self.kernel)
        self.exits: list[tuple[ThreadGroup, int]] = []
        self.init = ThreadGroup(self.kernel, self.kernel.alloc_tid(), None)
        self.kernel.groups[self.init.pid] = self.init
        self.kernel.init = self.init
        self.results: dict[Task, int] = {}

    def exit_group(self, who: Any, status: int) -> None:
        group = who.group if isinstance(who, Task) else who
        if group.exiting:
            return
        self.exits.append((group, status))
        group.exiting, group.exit_status = True, status
        for task in group.tasks:
            task.work |= WORK_EXIT

    def process(self, parent: ThreadGroup | None = None, uid: int = 1000) -> Task:
        group = ThreadGroup(self.kernel, self.kernel.alloc_tid(), parent or self.init)
        group.parent.children.append(group)  # type: ignore[union-attr]
        group.sid = group.pgid = group.parent.sid if parent else group.pid  # type: ignore[union-attr]
        group.actions = SignalActions()
        group.pending = Pending()
        group.rlimits = [(UNLIMITED, UNLIMITED)] * 16
        group.rlimits[RLIMIT_CORE] = (0, UNLIMITED)
        self.kernel.groups[group.pid] = group
        return self.thread(group, FlatMemory(), uid, group.pid)

    def thread(self, group: ThreadGroup, memory: FlatMemory | None = None, uid: int = 1000, tid: int = 0) -> Task:
        ctx = self.machine.new_context(None)  # type: ignore[arg-type]
        task = Task(self.kernel, tid or self.kernel.alloc_tid(), group, ctx)
        ctx.owner = task
        task.mm = memory or group.tasks[0].mm  # type: ignore[assignment]
        self.kernel.sched.born(task)
        task.pending = Pending()
        task.creds = SimpleNamespace(uid=uid, euid=uid, suid=uid, has_cap=lambda cap: uid == 0)  # type: ignore[assignment]
        ctx.regs[x.RIP], ctx.regs[x.RSP], ctx.regs[x.CSGSFS] = CODE, STACK, x.USER_CS | x.USER_DS << 48
        group.tasks.append(task)
        if len(group.tasks) == 1:
            group.leader = task
        self.kernel.tasks[task.tid] = task
        return task

    # ---- user mode

    def call(self, task: Task, name: str, *args: int) -> Any:
        """A system call; its result as user code sees it, signed, or WAITS."""
        regs = task.ctx.regs
        regs[x.RAX] = NUMBERS[name]
        regs[x.RIP] += 2
        for register, value in zip(scripted.ARCH.args, args, strict=False):
            regs[register] = value & UNLIMITED
        task.ctx.kind, task.ctx.entry = contract.SYSCALL, contract.ENTRY_SYSCALL
        return self.result(task) if self.dispatcher.call(task) and self.leave(task) else WAITS

    def result(self, task: Task) -> int:
        value = task.ctx.regs[x.RAX]
        self.results[task] = value - (1 << 64) if value >> 63 else value
        return self.results[task]

    def leave(self, task: Task) -> bool:
        """The way back to user mode; False when the task stops or dies."""
        for _ in range(1000):
            if not task.work and not task.restart:
                return True
            if task.work & WORK_EXIT:
                return False
            deliver(task)
            if task.state == STOPPED:
                return False
        raise AssertionError(f"delivery does not end: work {task.work}, restart {task.restart}")

    def settle(self) -> None:
        """Continue every task that was woken, until it waits again or is back in user mode."""
        while park.READY:
            task = park.READY.popleft()
            if self.dispatcher.step(task) and self.leave(task):
                self.result(task)
        for task in self.enqueued:
            self.leave(task)
        self.enqueued.clear()

    def again(self, task: Task) -> Any:
        """User code runs on after a restart: the system-call instruction at its program counter is executed."""
        number = task.ctx.regs[x.RAX]
        task.ctx.regs[x.RIP] += 2
        assert number in NUMBERS.values()
        return self.result(task) if self.dispatcher.call(task) and self.leave(task) else WAITS

    def pass_time(self, ns: int) -> None:
        self.clock.advance(ns)
        while (deadline := self.kernel.timers.next_deadline_ns()) is not None and deadline <= self.clock.now_ns:
            self.kernel.timers.run_due(self.clock.now_ns)
        self.settle()


def make_world(monkeypatch: Any) -> World:
    """A world; what ends a process only notes that it should."""
    world = World()
    module = ModuleType("trapline.kernel.task.exit")
    module.exit_group = world.exit_group  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trapline.kernel.task.exit", module)
    return world
