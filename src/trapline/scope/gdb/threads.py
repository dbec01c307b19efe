"""Threads of processes as GDB knows them: names (GDB manual, "Packets": thread-id syntax), registers, memory.

A GDB that tells processes apart calls them pPID.TID, else TID alone.
"""

from __future__ import annotations

import struct
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.abi.errno import EFAULT
from trapline.kernel.mm.errors import OutOfMemory
from trapline.scope.gdb import registers
from trapline.scope.gdb.target import BAD, OK, Target

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task
    from trapline.machine.riscv.debug import Watch
    from trapline.machine.riscv.space import RiscvContext
    from trapline.scope.gdb.family import Family

_FCSR = struct.Struct("<32QII")


class Action(NamedTuple):
    """What GDB wants of threads: `c`, `C`, `s` or `S`; of `pid` and `tid`, or any (not positive)."""

    kind: bytes
    signal: int
    pid: int
    tid: int

    def means(self, task: Task) -> bool:
        return (self.pid <= 0 or task.group.pid == self.pid) and (self.tid <= 0 or task.tid == self.tid)


class Threads(Target):
    """Of the processes of `family`."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family = family
        self._task: Task | None = None
        self._many = False  #: GDB tells processes apart

    # ---- names

    def task(self) -> Task:
        """Whom GDB has chosen, or somebody. Raises ValueError if nobody is left."""
        tasks = self.family.tasks()
        if self._task not in tasks:
            if not tasks:
                raise ValueError("nobody is left")
            self._task = tasks[0]
        assert self._task is not None
        return self._task

    def _context(self) -> RiscvContext:
        context: Any = self.task().ctx
        return context  # type: ignore[no-any-return]

    def _name(self, task: Task) -> bytes:
        return b"p%x.%x" % (task.group.pid, task.tid) if self._many else b"%x" % task.tid

    def places(self) -> tuple[set[int], set[Watch]]:
        debuggee = self.family.each[self.task().group]
        return debuggee.breaks, debuggee.watches

    @staticmethod
    def _which(text: bytes) -> tuple[int, int]:
        """(process, thread) of pPID.TID, pPID or TID; 0 and -1: any. Raises ValueError."""
        if not text.startswith(b"p"):
            return -1, int(text, 16)
        pid, _, tid = text[1:].partition(b".")
        return int(pid, 16), int(tid, 16) if tid else -1

    def _find(self, text: bytes) -> Task | None:
        wanted = Action(b"", 0, *self._which(text))
        return next((task for task in self.family.tasks() if wanted.means(task)), None)

    def _choose(self, rest: bytes) -> bytes:
        if self._which(rest[1:]) in ((-1, 0), (-1, -1), (0, 0)):
            return OK
        task = self._find(rest[1:])
        if task is None:
            return BAD
        if self._task is None or not Action(b"", 0, *self._which(rest[1:])).means(self._task) or self._task.mm is None:
            self._task = task
        return OK

    def _alive(self, rest: bytes) -> bytes:
        return OK if self._find(rest) is not None else BAD

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
