"""A machine without hardware: its user code are Python generators. It drives the kernel through the contract alone.

A *program* is a generator that yields what it does and receives what comes of it:

    result = yield Call("getpid")              # a system call: its result, signed
    byte = yield Load(address)                 # one byte; faults like hardware, through the real page tables
    yield Store(address, b"...")               # bytes within one page
    yield Raise(vector)                        # an exception
    yield Spin()                               # compute until kicked

Its TLB is a plain dict from (space, page) to what the walk found, so a kernel that forgets to flush is caught.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from trapline.abi import x86_64 as x
from trapline.abi.syscalls import X86_64 as NUMBERS
from trapline.machine import contract as c
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT, X86_64
from trapline.machine.paging.walk import walk
from trapline.machine.ram import Ram

ARCH = c.Arch(
    name="x86_64", paging=X86_64, nregs=x.NREGS, nr=x.RAX, args=(x.RDI, x.RSI, x.RDX, x.R10, x.R8, x.R9),
    ret=x.RAX, pc=x.RIP, sp=x.RSP, tls=x.FS_BASE, syscall_len=2, task_size=0x7FFF_F000_0000, fp_size=512,
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    name: str
    args: tuple[int, ...] = ()
    child: Callable[[], Program] | None = None  #: for fork and clone: what the child runs

    def __init__(self, name: str, *args: int, child: Callable[[], Program] | None = None) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "args", args)
        object.__setattr__(self, "child", child)


@dataclass(frozen=True)
class Load:
    address: int


@dataclass(frozen=True)
class Store:
    address: int
    data: bytes


@dataclass(frozen=True)
class Raise:
    vector: int


@dataclass(frozen=True)
class Spin:
    pass


Program = Generator[Any, Any, None]


class ScriptedSpace:
    def __init__(self, machine: ScriptedMachine, root: int) -> None:
        self.machine = machine
        self.root = root
        self.tlb: dict[int, tuple[int, int]] = {}
        self.flushes = 0

    def flush(self, start: int, end: int, *, downgrade: bool = False) -> None:
        self.flushes += 1
        for page in [each for each in self.tlb if start >> PAGE_SHIFT <= each <= (end - 1) >> PAGE_SHIFT]:
            del self.tlb[page]

    def reload(self, start: int, end: int) -> None:
        self.flush(start, end)

    def hint(self, start: int, end: int, leaf: int = 0) -> None:
        pass

    def hint_like(self, other: object, again: bool) -> None:
        pass

    def secure(self) -> None:
        pass

    def close(self) -> None:
        self.tlb.clear()

    def settle(self) -> None:
        pass

    def translate(self, address: int, access: int) -> int | None:
        """The physical address, or None after a miss that the tables do not permit."""
        page = address >> PAGE_SHIFT
        pa, entry = self.tlb.get(page, (0, 0))
        if not self._permits(entry, access):
            step = walk(self.machine.ram.words, self.root, address, X86_64)
            if step is None or not self._permits(step.entry, access):
                return None
            size = 1 << (PAGE_SHIFT + 9 * step.level)
            entry = step.entry | X86_64.accessed | (X86_64.dirty if access & c.WRITE else 0)
            self.machine.ram.words[step.word] = entry
            pa = (X86_64.pfn(entry) << PAGE_SHIFT & -size) + (address & (size - 1) & ~PAGE_MASK)
            self.tlb[page] = (pa, entry)
        return pa + (address & PAGE_MASK)

    @staticmethod
    def _permits(entry: int, access: int) -> bool:
        if not entry & X86_64.present or not entry & X86_64.user:
            return False
        if access & c.WRITE and not entry & X86_64.write:
            return False
        return not (access & c.EXEC and entry & X86_64.no_execute)


class ScriptedContext(c.Context):
    __slots__ = ("again", "child", "fp", "program", "send")

    def __init__(self, space: ScriptedSpace) -> None:
        super().__init__(space, x.NREGS)
        self.program: Program | None = None
        self.send: Any = None  #: what the program receives next
        self.again: Any = None  #: the access that faulted, to be tried again
        self.child: Callable[[], Program] | None = None
        self.fp = bytes(512)

    def get_fp(self) -> bytes:
        return self.fp

    def set_fp(self, image: bytes) -> bool:
        if len(image) != 512:
            return False
        self.fp = image
        return True

    def reset_fp(self) -> None:
        self.fp = bytes(512)

    def copy_from(self, other: c.Context) -> None:
        assert isinstance(other, ScriptedContext)
        self.regs[:] = other.regs
        self.fp = other.fp
        if other.child is not None:
            self.program = other.child()

    def close(self) -> None:
        if self.program is not None:
            self.program.close()


class ScriptedMachine:
    """Two CPUs; user code advances one step of its program per turn."""

    arch = ARCH
    cpus = roomy = 2
    prefers_runs = False

    def __init__(self, ram: Ram) -> None:
        self.ram = ram
        self.ready: list[tuple[int, int]] = []
        self.on_lost: Any = None
        self.running: deque[ScriptedContext] = deque()
        self.kicked: set[ScriptedContext] = set()
        self.most_running = 0

    def new_space(self, root: int) -> ScriptedSpace:
        return ScriptedSpace(self, root)

    def new_context(self, space: Any) -> ScriptedContext:
        return ScriptedContext(space)

    def resume(self, context: c.Context) -> None:
        assert isinstance(context, ScriptedContext)
        assert context not in self.running, "resumed twice"
        self.running.append(context)
        self.most_running = max(self.most_running, len(self.running))
        assert len(self.running) <= self.cpus

    def wait(self, deadline_ns: int | None) -> c.Context | None:
        while True:
            for _ in range(len(self.running)):
                ctx = self.running.popleft()
                if self._advance(ctx):
                    return ctx
                self.running.append(ctx)
            if deadline_ns is not None and time.monotonic_ns() >= deadline_ns:
                return None
            if not self.running and deadline_ns is None:
                raise AssertionError("everybody sleeps and nothing can wake them")

    def _advance(self, ctx: ScriptedContext) -> bool:
        if ctx in self.kicked:
            self.kicked.discard(ctx)
            ctx.kind = c.INTERRUPT
            return True
        action = ctx.again
        if action is None:
            assert ctx.program is not None
            if ctx.kind == c.SYSCALL:
                value = ctx.regs[x.RAX]
                ctx.send = value - (1 << 64) if value >> 63 else value
            ctx.kind = c.NONE
            action = ctx.program.send(ctx.send)
            ctx.send = None
        return self._act(ctx, action)

    def _act(self, ctx: ScriptedContext, action: Any) -> bool:
        if isinstance(action, Call):
            ctx.regs[x.RAX] = NUMBERS[action.name]
            for register, value in zip(ARCH.args, action.args, strict=False):
                ctx.regs[register] = value & (1 << 64) - 1
            ctx.child = action.child
            ctx.again = None
            ctx.kind, ctx.entry = c.SYSCALL, c.ENTRY_SYSCALL
            return True
        if isinstance(action, Raise):
            ctx.kind, ctx.vector, ctx.code, ctx.again = c.EXCEPTION, action.vector, 0, None
            return True
        if isinstance(action, Spin):
            ctx.again = action
            return False
        return self._access(ctx, action)

    def _access(self, ctx: ScriptedContext, action: Load | Store) -> bool:
        access = c.WRITE if isinstance(action, Store) else c.READ
        space = ctx.space
        assert isinstance(space, ScriptedSpace)
        pa = space.translate(action.address, access)
        if pa is None:
            ctx.again = action
            ctx.kind, ctx.addr, ctx.access, ctx.code = c.FAULT, action.address, access, x.PF_USER
            return True
        ctx.again = None
        if isinstance(action, Store):
            self.ram.mem[pa : pa + len(action.data)] = action.data
        else:
            ctx.send = self.ram.mem[pa]
        return False

    def kick(self, context: c.Context) -> None:
        assert isinstance(context, ScriptedContext)
        if isinstance(context.again, Spin):
            context.again = None
        self.kicked.add(context)

    def watch(self, fd: int, mask: int) -> None:
        pass

    def measure(self, on: bool) -> None:
        """It has no clock of its own."""

    def stay(self, context: c.Context) -> c.Stay | None:
        return None

    def ring(self) -> None:
        pass

    def describe(self) -> list[tuple[str, str]]:
        return [("machine", "scripted")]

    def close(self) -> None:
        pass
