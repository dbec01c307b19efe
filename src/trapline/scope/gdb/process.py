"""GDB's remote protocol for one process of the kernel's on the RISC-V machine: threads are tasks, memory is its own.

The first program is debugged, from its first instruction to its end, through execve(2); what it forks runs on by itself.
Everything of the kernel's stands still while it is halted. Signals that its own instructions raise (faults, illegal
instructions, breakpoints of its own) halt it before they are delivered; `continue` without a signal executes the instruction
again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EFAULT
from trapline.kernel.mm.errors import OutOfMemory
from trapline.machine.contract import EXCEPTION
from trapline.machine.riscv.observed import Observed
from trapline.machine.riscv.trap import BREAKPOINT, ILLEGAL
from trapline.scope.gdb import registers
from trapline.scope.gdb.packets import MOST
from trapline.scope.gdb.target import BAD, WATCH_NAMES, Target

if TYPE_CHECKING:
    from trapline.kernel.boot import System
    from trapline.kernel.task.task import Task, ThreadGroup
    from trapline.machine.riscv.machine import RiscvMachine
    from trapline.machine.riscv.space import RiscvContext

_SIGNALS = {BREAKPOINT: 5, ILLEGAL: 4}
_SIGBUS, _SIGTRAP, _SIGINT = 7, 5, 2
_SIGUSR1, _SIGUSR2 = 10, 12
#: The signals whose numbers GDB has otherwise (include/gdb/signals.def): Linux's -> GDB's.
_TO_GDB = {_SIGBUS: 10, _SIGUSR1: 30, _SIGUSR2: 31}
_FCSR = struct.Struct("<32QII")


class ProcessServer(Target):
    """Of `system`'s first program. `serve()` talks to GDB until the process is to go on, `look()` sees whether GDB wants to."""

    def __init__(self, system: System, serve: Callable[[], object], look: Callable[[], object]) -> None:
        super().__init__()
        self._system = system
        self._serve = serve
        machine: RiscvMachine = system.machine  # type: ignore[assignment]  # the caller has seen to it
        self.observed = Observed(machine, self._satp, self._halts, look)
        self._task: Task | None = None
        self._signal = 0  # that has halted it, and is to be delivered: Linux's number
        self._delivers = False
        self._table |= {
            b"c": lambda _: self._go(step=False, signal=False), b"s": lambda _: self._go(step=True, signal=False),
            b"C": lambda rest: self._go(step=False, signal=bool(int(rest[:2], 16))),
            b"S": lambda rest: self._go(step=True, signal=bool(int(rest[:2], 16))),
        }  # fmt: skip
        hooks = system.hooks
        self._exception, self._fault = hooks.exception, hooks.fault
        hooks.exception = self._on_exception  # type: ignore[method-assign]
        hooks.fault = self._on_fault  # type: ignore[method-assign]

    # ---- whom

    @property
    def group(self) -> ThreadGroup:
        assert self._system.first is not None
        return self._system.first

    def _tasks(self) -> list[Task]:
        return sorted((task for task in self.group.tasks if task.mm is not None), key=lambda task: task.tid)

    def task(self) -> Task:
        """Whom GDB has chosen, or somebody. Raises ValueError if nobody is left."""
        tasks = self._tasks()
        if self._task not in tasks:
            if not tasks:
                raise ValueError("nobody is left")
            self._task = tasks[0]
        assert self._task is not None
        return self._task

    def _context(self) -> RiscvContext:
        context: Any = self.task().ctx
        return context  # type: ignore[no-any-return]

    def _satp(self) -> int:
        tasks = self._tasks()
        space: Any = tasks[0].mm.space if tasks else None
        return -1 if space is None else int(space.satp)

    # ---- halting

    def _halts(self, context: RiscvContext) -> None:
        """A breakpoint, a watchpoint, or the end of a step."""
        if context.owner.group is self.group:
            self._task, self._signal = context.owner, 0
            self._serve()

    def stop(self, talk: Callable[[], object]) -> None:
        """Because GDB has come, or wants it."""
        if self._tasks():
            self.observed.halt(talk)

    def _on_exception(self, task: Task) -> None:
        signo = _SIGNALS.get(task.ctx.vector, _SIGBUS) if task.ctx.kind == EXCEPTION else _SIGTRAP
        if self._delivered(task, signo):
            self._exception(task)

    def _on_fault(self, task: Task, bad: tuple[int, int, int] | None) -> None:
        if bad is None or self._delivered(task, bad[0]):
            self._fault(task, bad)

    def _delivered(self, task: Task, signo: int) -> bool:
        """Halt for a signal; whether the process is to get it."""
        if task.group is not self.group or self.detached:
            return True
        self._task, self._signal, self._delivers = task, signo, True
        self.observed.halt(self._serve)
        self._signal = 0
        return self._delivers

    def halted(self, *, interrupted: bool = False) -> bytes:
        signo = _SIGINT if interrupted else self._signal or _SIGTRAP
        self._last = b"T%02xthread:%x;%b" % (_TO_GDB.get(signo, signo), self.task().tid, self._why())
        return self._last

    def _why(self) -> bytes:
        debug = self.observed.debug
        if debug is None or self._signal:
            return b""
        if debug.hit is not None:
            return b"%b:%x;" % (WATCH_NAMES[debug.hit.watch.access].encode(), debug.hit.address)
        return b"hwbreak:;" if self._context().regs[registers.PC] in debug.breaks else b""

    def _go(self, *, step: bool, signal: bool) -> None:
        self._delivers = signal
        self.observed.arm(self._breaks, self._watches)
        self.observed.go_on(self._context() if self._tasks() else None, step=step)

    def release(self) -> None:
        self._breaks.clear()
        self._watches.clear()
        self._go(step=False, signal=bool(self._signal))

    # ---- what is looked at

    def register(self, n: int) -> int | None:
        context = self._context()
        if 0 <= n <= registers.PC:
            return context.regs[n] if n else 0
        values = _FCSR.unpack(context.get_fp())
        if registers.F <= n < registers.CSR:
            return int(values[n - registers.F])
        fcsr = {1: values[32] & 31, 2: values[32] >> 5, 3: values[32]}
        return fcsr.get(n - registers.CSR)

    def set_register(self, n: int, value: int) -> bool:
        context = self._context()
        if 0 <= n <= registers.PC:
            context.regs[n] = value & ~1 if n == registers.PC else value if n else 0
            return True
        if not registers.F <= n < registers.CSR:
            return False
        values = list(_FCSR.unpack(context.get_fp()))
        values[n - registers.F] = value
        return context.set_fp(_FCSR.pack(*values))

    def look(self, address: int, length: int) -> bytes:
        try:
            return self.task().mm.read_partial(address, length)
        except (EFAULT, OutOfMemory):
            return b""

    def put(self, address: int, data: bytes) -> bool:
        """What the process itself could not write, GDB cannot."""
        mm = self.task().mm
        try:
            if mm.write_partial(address, data) != len(data):
                return False
        except (EFAULT, OutOfMemory):
            return False
        mm.space.flush(address & -4096, address + len(data))  # it may be code
        return True

    # ---- threads, queries

    def _find(self, text: bytes) -> Task | None:
        number = int(text, 16)
        return next((task for task in self._tasks() if task.tid == number), None)

    def _choose(self, rest: bytes) -> bytes:
        if rest[1:] in (b"0", b"-1"):
            return b"OK"
        task = self._find(rest[1:])
        if task is None:
            return BAD
        self._task = task
        return b"OK"

    def _alive(self, rest: bytes) -> bytes:
        return b"OK" if self._find(rest) is not None else BAD

    def _verbose(self, rest: bytes) -> bytes | None:
        if rest == b"Cont?":
            return b"vCont;c;C;s;S"
        if rest.startswith(b"Kill"):
            return self._kill(rest)
        if not rest.startswith(b"Cont;"):
            return b""
        signal = step = False
        for action in rest[5:].split(b";"):
            what, _, thread = action.partition(b":")
            if what[:1] not in (b"c", b"C", b"s", b"S"):
                return BAD
            if what[:1] in (b"s", b"S"):
                step = True
                self._task = self._find(thread) or self.task() if thread and not thread.startswith(b"-") else self.task()
            signal |= what[:1] in (b"C", b"S") and bool(int(what[1:3], 16))
        self._go(step=step, signal=signal)
        return None

    def _query(self, rest: bytes) -> bytes:
        name, _, more = rest.partition(b":")
        if name == b"Supported":
            return b"PacketSize=%x;qXfer:features:read+;swbreak+;hwbreak+;vContSupported+;QStartNoAckMode+" % MOST
        if name == b"Xfer":
            return self._transfer(more)
        if name == b"fThreadInfo":
            return b"m" + b",".join(b"%x" % task.tid for task in self._tasks())
        if name.startswith(b"ThreadExtraInfo,"):
            task = self._find(name[16:])
            return BAD if task is None else task.comm.hex().encode()
        fixed = {b"C": b"QC%x" % self.task().tid, b"sThreadInfo": b"l", b"Attached": b"0", b"Symbol": b"OK"}
        return fixed.get(name, b"")

    def document(self, kind: bytes, name: bytes) -> bytes | None:
        if (kind, name) == (b"features", b"target.xml"):
            return registers.description(user=True).encode()
        return None
