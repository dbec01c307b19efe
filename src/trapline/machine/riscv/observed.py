"""User code on a RISC-V machine with somebody who looks at it: breakpoints, watchpoints, single steps, under the kernel.

In a nutshell: an `Observed` replaces a machine's `wait`. Where the code of the observed address space is to stop, `halted` is
called, with every context's registers in the context, and nothing runs until it returns. A machine without one pays nothing.

A stop leaves the instruction unexecuted, as `debug.py` says. A step ends behind one instruction, or behind the
system call that it made, before the next one. What was reported once is passed the next time.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import INTERRUPT, SYSCALL
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.arch import PC
from trapline.machine.riscv.debug import Debug, Watch
from trapline.machine.riscv.hart import TRAPPED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trapline.machine.riscv.hart import Hart
    from trapline.machine.riscv.machine import RiscvMachine
    from trapline.machine.riscv.space import RiscvContext

_SHORT = 100_000  #: instructions between two looks at whoever observes


class _Debug(Debug):
    """Of one address space: `satp()` says which."""

    def __init__(self, breaks: Iterable[int], watches: Iterable[Watch], satp: Callable[[], int]) -> None:
        super().__init__(breaks, watches)
        self._satp = satp
        self._foreign = False

    def stops(self, hart: Hart, pc: int) -> bool:
        self._foreign = hart.cpu[at.SATP] != self._satp()
        return super().stops(hart, pc) and not self._foreign

    def access(self, address: int, size: int, access: int) -> None:
        if not self._foreign:
            super().access(address, size, access)


class Observed:
    """`satp()`: of the address space that is observed; `halted(context)`: a thread of it is to stop; `look()` is called now
    and then, may halt by itself, and says whether the kernel has to look around."""

    def __init__(
        self, machine: RiscvMachine, satp: Callable[[], int], halted: Callable[[RiscvContext], object],
        look: Callable[[], object],
    ) -> None:  # fmt: skip
        self.machine = machine
        self._satp, self._halted, self._look = satp, halted, look
        self.debug: _Debug | None = None
        self.stepping: RiscvContext | None = None
        self._behind: RiscvContext | None = None  # a step's system call is served: stop before what follows
        self._passing: tuple[RiscvContext, int] | None = None
        machine.wait = self.wait  # type: ignore[method-assign]

    def arm(self, breaks: Iterable[int], watches: Iterable[Watch]) -> None:
        """Where to stop from now on."""
        breaks, watches = frozenset(breaks), sorted(watches)
        if self.debug is not None and breaks == self.debug.known and tuple(watches) == self.debug.watches:
            return
        self.debug = _Debug(breaks, watches, self._satp) if breaks or watches else None
        for hart in self.machine.harts:
            hart.observe(self.debug)

    def go_on(self, context: RiscvContext | None, *, step: bool) -> None:
        """From where it stands, whatever is there."""
        self.stepping = context if step else None
        self._passing = (context, context.regs[PC]) if context is not None else None
        if self.debug is not None:
            self.debug.hit = None

    def halt(self, act: Callable[[], object]) -> None:
        """Do something while every context that has a hart can be looked at and changed."""
        running = self.machine._running
        for hart, ctx in running.items():
            ctx.view[:] = hart.user
        act()
        for hart, ctx in running.items():
            hart.user[:] = ctx.view
            hart.cpu[at.X] = 0
            hart.cpu[at.PC] &= ~1

    # ---- in the machine's place

    def wait(self, deadline_ns: int | None) -> RiscvContext | None:
        machine = self.machine
        running, doorbell = machine._running, machine._doorbell
        while True:
            if self._look():
                return None
            for hart, ctx in tuple(running.items()):
                if self._run(hart, ctx):
                    return ctx
            if doorbell.wait(deadline_ns, busy=bool(running)):
                return None

    def _run(self, hart: Hart, ctx: RiscvContext) -> bool:
        """One turn of a hart; whether its context is the kernel's again."""
        machine, stops = self.machine, False
        if ctx in machine._kicked:
            machine._kicked.discard(ctx)
            ctx.kind = INTERRUPT
        elif ctx is self._behind:
            self._behind, stops = None, True
        else:
            steps = ctx is self.stepping
            self._pass(hart, ctx)
            if hart.run(1 if steps else min(machine.quantum, _SHORT)) == TRAPPED:
                machine._describe_trap(hart, ctx)
                if steps and ctx.kind == SYSCALL:
                    self.stepping, self._behind = None, ctx
            elif hart.stopping or steps:
                stops = True
            else:
                return False
        ctx.view[:] = hart.user
        del machine._running[hart]
        machine._idle.append(hart)
        if stops:
            ctx.kind = INTERRUPT
            self.stepping = None
            self.halt(lambda: self._halted(ctx))
        return True

    def _pass(self, hart: Hart, ctx: RiscvContext) -> None:
        if self.debug is None or self._passing is None or self._passing[0] is not ctx:
            return
        pc, self._passing = self._passing[1], None
        self.debug.passing = (hart.cpu[at.HARTID], pc)
