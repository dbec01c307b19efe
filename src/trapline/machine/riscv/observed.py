"""User code on a RISC-V machine with somebody who looks at it: breakpoints, watchpoints, single steps, under the kernel.

In a nutshell: an `Observed` replaces a machine's `wait`. Where the code of an observed process is to stop, `halted` is
called, with every context's registers in the context, and nothing runs until it returns. A machine without one pays nothing.

A stop leaves the instruction unexecuted, as `debug.py` says. A step ends behind one instruction, or behind the
system call that it made, before the next one. What was reported once is passed the next time. Contexts that are held execute
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.machine.contract import EXEC, INTERRUPT, SYSCALL
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.arch import PC
from trapline.machine.riscv.debug import Debug, Watch
from trapline.machine.riscv.hart import TRAPPED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trapline.machine.riscv.hart import Hart
    from trapline.machine.riscv.machine import RiscvMachine
    from trapline.machine.riscv.space import RiscvContext

_SHORT = 100_000  #: instructions between two looks at whoever observes


class Spots(NamedTuple):
    """Where the code of one process is to stop."""

    breaks: frozenset[int] = frozenset()
    watches: tuple[Watch, ...] = ()


NOWHERE = Spots()


class _Debug(Debug):
    """Of several processes: `own` is of the one whose code a hart is about to run."""

    def __init__(self, spots: Mapping[Any, Spots]) -> None:
        super().__init__(
            (pc for each in spots.values() for pc in each.breaks), sorted({w for each in spots.values() for w in each.watches})
        )
        self.spots = dict(spots)
        self.own = NOWHERE

    def stops(self, hart: Hart, pc: int) -> bool:
        return super().stops(hart, pc) and pc in self.own.breaks

    def access(self, address: int, size: int, access: int) -> None:
        if not access & EXEC and self.own.watches:
            self.watches = self.own.watches
            super().access(address, size, access)


class Observed:
    """`halted(context)`: a thread is to stop; `look()` is called now and then, may halt by itself, and says whether the kernel
    has to look around. Processes are known by the group of a context's owner."""

    def __init__(self, machine: RiscvMachine, halted: Callable[[RiscvContext], object], look: Callable[[], object]) -> None:
        self.machine = machine
        self._halted, self._look = halted, look
        self.debug: _Debug | None = None
        self.stepping: RiscvContext | None = None
        self.held: set[RiscvContext] = set()
        self.calls: Callable[[RiscvContext, bool], bool] | None = None  #: (context, begins): whether to halt for its call
        self._behind: RiscvContext | None = None  # a step's system call is served: stop before what follows
        self._returning: set[Any] = set()  # owners whose calls have been announced
        self._passing: tuple[RiscvContext, int] | None = None
        machine.wait = self.wait  # type: ignore[method-assign]

    def arm(self, spots: Mapping[Any, Spots]) -> None:
        """Where to stop from now on."""
        spots = {group: each for group, each in spots.items() if each != NOWHERE}
        if spots == (self.debug.spots if self.debug is not None else {}):
            return
        self.debug = _Debug(spots) if spots else None
        for hart in self.machine.harts:
            hart.observe(self.debug)

    def go_on(self, context: RiscvContext | None, *, step: bool) -> None:
        """From where it stands, whatever is there."""
        self.stepping = context if step else None
        self._passing = (context, context.regs[PC]) if context is not None else None
        self._returning = {task for task in self._returning if task.mm is not None}
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
        running, doorbell, kicked = machine._running, machine._doorbell, machine._kicked
        while True:
            if self._look():
                return None
            for hart, ctx in tuple(running.items()):
                if (ctx not in self.held or ctx in kicked) and self._run(hart, ctx):
                    return ctx
            if doorbell.wait(deadline_ns, busy=any(ctx not in self.held for ctx in running.values())):
                return None

    def _run(self, hart: Hart, ctx: RiscvContext) -> bool:
        """One turn of a hart; whether its context is the kernel's again."""
        machine, stops, called = self.machine, False, False
        if ctx in machine._kicked:
            machine._kicked.discard(ctx)
            ctx.kind = INTERRUPT
        elif self._is_behind(ctx):
            stops = True
        else:
            steps = ctx is self.stepping
            self._pass(hart, ctx)
            if hart.run(1 if steps else min(machine.quantum, _SHORT)) == TRAPPED:
                machine._describe_trap(hart, ctx)
                called = ctx.kind == SYSCALL
                if steps and called:
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
        elif called and self.calls is not None:
            self.halt(lambda: self._called(ctx))
        return True

    def _is_behind(self, ctx: RiscvContext) -> bool:
        """Whether a call has been served whose end is to be seen."""
        behind = ctx is self._behind
        if behind:
            self._behind = None
        if ctx.owner in self._returning:
            self._returning.discard(ctx.owner)
            behind |= self.calls is not None and self.calls(ctx, False)
        return behind

    def _called(self, ctx: RiscvContext) -> None:
        if self.calls is not None and self.calls(ctx, True):
            self._returning.add(ctx.owner)
            self._halted(ctx)

    def _pass(self, hart: Hart, ctx: RiscvContext) -> None:
        if self.debug is None:
            return
        self.debug.own = self.debug.spots.get(ctx.owner.group, NOWHERE)
        if self._passing is not None and self._passing[0] is ctx:
            pc, self._passing = self._passing[1], None
            self.debug.passing = (hart.cpu[at.HARTID], pc)
