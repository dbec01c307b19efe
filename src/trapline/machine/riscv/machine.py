"""RiscvMachine: the kernel's contract on emulated harts, which run user mode only; the kernel stands where firmware and
S-mode would.

`resume` gives a context a hart; `wait` runs the harts that have one, round-robin, a quantum of instructions each, until
one traps. So user code runs inside `wait`, on the kernel's own thread: nothing here is concurrent.

Invariants: - a hart runs a context exactly while `_running[hart] is context`; its integer registers are in the hart then,
in the context else; - the FP registers of a stopped context stay in its hart until another context needs that hart
(`RiscvContext.hart`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trapline.machine.contract import ENTRY_ECALL, EXCEPTION, FAULT, INTERRUPT, SYSCALL, Context, Space, Stay
from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv.arch import PC, RISCV64
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.doorbell import Doorbell, monotonic_ns
from trapline.machine.riscv.hart import TRAPPED, Hart
from trapline.machine.riscv.space import RiscvContext, RiscvSpace
from trapline.machine.riscv.trap import ACCESS_OF, ECALL_U

TIME_SHIFT_NS = 100  #: nanoseconds per tick of the time CSR: 10 MHz
PATIENCE = 64  #: short turns between two looks at the host
MAX_CPUS = 64
SHARED_ASID, _ASIDS = 0, 1 << 16  #: spaces that found no ASID of their own share one, and never find it warm


def host_ticks() -> int:
    return monotonic_ns() // TIME_SHIFT_NS


class RiscvMachine:
    """The machine: `cpus` harts on `ram`, physical address 0 being the first byte of it."""

    arch = RISCV64
    prefers_runs = False
    quantum = 20_000  #: instructions between two looks at everything else

    def __init__(self, ram: Ram, cpus: int = 1) -> None:
        self.ram = ram
        self.cpus = self.roomy = max(1, min(cpus, MAX_CPUS))
        self.ready: list[tuple[int, int]] = []
        self.on_lost: Callable[[Space, str], None] | None = None  # no space is ever lost here
        self.bus = Bus(ram)
        self.code = Code(self.bus)
        self.harts = [self._new_hart(n) for n in range(self.cpus)]
        self._idle = self.harts[::-1]
        self._running: dict[Hart, RiscvContext] = {}
        self._last: dict[Hart, RiscvContext | None] = dict.fromkeys(self.harts)  # whose FP state a hart holds
        self._kicked: set[RiscvContext] = set()
        self._turn: list[Hart] = []  # harts still to run in this round
        self._asids: list[int] = []  # used before, and free
        self._next_asid = SHARED_ASID + 1
        self._patience = PATIENCE
        self._closed = False
        self._doorbell = Doorbell(self.ready)

    def _new_hart(self, hartid: int) -> Hart:
        """A hart as firmware and a kernel would set it up for user code."""
        hart = self.make_hart(hartid)
        cpu = hart.cpu
        cpu[at.PMPCFG], cpu[at.PMPADDR] = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.ADDRESS_MASK
        cpu[at.MENVCFG] = cpu[at.SENVCFG] = st.CBCFE | st.CBZE
        cpu[at.MENVCFG] |= st.ADUE
        cpu[at.MCOUNTEREN] = cpu[at.SCOUNTEREN] = 0b111
        cpu[at.MSTATUS] |= st.FS
        hart.pmp.update()
        hart.enter(st.U)
        return hart

    def make_hart(self, hartid: int) -> Hart:
        """The tier that runs user code: here the reference."""
        return Hart(self.bus, self.code, hartid=hartid, time=host_ticks, hosted=True)

    # ---- the contract

    def new_space(self, root: int) -> RiscvSpace:
        return RiscvSpace(self, root, self._new_asid())

    def new_context(self, space: Space) -> RiscvContext:
        assert isinstance(space, RiscvSpace)
        return RiscvContext(space)

    def resume(self, context: Context) -> None:
        ctx: RiscvContext = context  # type: ignore[assignment]  # one check less on the hot path
        hart = ctx.hart
        if hart is not None and hart is self._idle[-1]:
            self._idle.pop()
        else:
            hart = self._seat(ctx)
        cpu, view, space = hart.cpu, ctx.view, ctx._space
        hart.user[:] = view
        cpu[at.X], cpu[at.PC] = 0, view[PC] & ~1
        if cpu[at.SATP] != space.satp:
            if space.asid == SHARED_ASID:
                hart.tlb.flush(asid=SHARED_ASID)
                hart.forget_space(SHARED_ASID)
            hart.change_space(space.satp)
        if ctx.hart is not hart:
            self._change_fp(ctx, hart)
        self._running[hart] = ctx

    def wait(self, deadline_ns: int | None) -> RiscvContext | None:
        turn, running, doorbell = self._turn, self._running, self._doorbell
        while True:
            while turn:
                hart = turn.pop()
                ctx = running.get(hart)
                if ctx is None:
                    continue
                if self._kicked and ctx in self._kicked:
                    self._kicked.discard(ctx)
                    ctx.kind = INTERRUPT
                elif hart.run(self.quantum) == TRAPPED:
                    self._describe_trap(hart, ctx)
                else:
                    self._patience = 0
                    continue
                ctx.view[:] = hart.user
                del running[hart]
                self._idle.append(hart)
                return ctx
            turn += running
            self._patience -= 1
            if self._patience < 0 or doorbell.rung or not turn:
                self._patience = PATIENCE
                if doorbell.wait(deadline_ns, busy=bool(turn)):
                    return None

    def kick(self, context: Context) -> None:
        assert isinstance(context, RiscvContext)
        if context in self._running.values():
            self._kicked.add(context)

    def watch(self, fd: int, mask: int) -> None:
        self._doorbell.watch(fd, mask)

    def ring(self) -> None:
        self._doorbell.ring()

    def measure(self, on: bool) -> None:
        from trapline.machine.riscv.meter import switch

        for hart in self.harts:
            switch(hart, on)

    def stay(self, context: Context) -> Stay | None:
        from trapline.machine.riscv.meter import stay

        assert isinstance(context, RiscvContext)
        return stay(context.hart) if context.hart is not None else None

    def describe(self) -> Sequence[tuple[str, str]]:
        hits = sum(hart.tlb.hits for hart in self.harts)
        misses = sum(hart.tlb_misses() for hart in self.harts)
        steps = sum(hart.walk_steps() for hart in self.harts)
        retired = sum(hart.cpu[at.INSTRET] for hart in self.harts)
        return (
            ("machine", "riscv: an emulated RISC-V 64 computer (RV64GC with Zba, Zbb, Zbs, Zicond, Zfa, Zicbom, Zicboz)"),
            ("user mode", f"Sv39, user addresses up to {self.arch.task_size:#x}; {retired} instructions retired"),
            ("CPUs", f"{self.cpus} harts, {self.tier()}"),
            ("TLB", f"{hits} hits, {misses} misses, {steps} walk steps"),
        )

    def tier(self) -> str:
        """How instructions are executed, for people."""
        return "reference tier: each instruction's definition, in Python"

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._doorbell.close()

    # ---- harts

    def _seat(self, ctx: RiscvContext) -> Hart:
        """An idle hart, the one that has the context's FP state if it can be had."""
        hart = ctx.hart
        if hart is None or hart not in self._idle:
            return self._idle.pop()
        self._idle.remove(hart)
        return hart

    def _change_fp(self, ctx: RiscvContext, hart: Hart) -> None:
        last = self._last[hart]
        if last is not None and last.hart is hart:
            last.save_fp()
        if ctx.hart is not None:
            ctx.save_fp()
        ctx.load_fp(hart)
        self._last[hart] = ctx

    @staticmethod
    def _describe_trap(hart: Hart, ctx: RiscvContext) -> None:
        cpu = hart.cpu
        cause = cpu[at.TRAP_CAUSE]
        if cause == ECALL_U:
            cpu[at.PC] = cpu[at.PC] + 4 & st.MASK
            ctx.kind, ctx.entry = SYSCALL, ENTRY_ECALL
            return
        ctx.addr = cpu[at.TRAP_VALUE]
        access = ACCESS_OF.get(cause)
        if access is not None:
            ctx.kind, ctx.access, ctx.code = FAULT, access, cause
            hart.tlb.flush(ctx.addr, ctx._space.asid)  # so a repair that only permits more needs no flush
        else:
            ctx.kind, ctx.vector, ctx.code = EXCEPTION, cause, 0

    # ---- address-space identifiers

    def _new_asid(self) -> int:
        if self._asids:
            return self._asids.pop()
        if self._next_asid == _ASIDS:
            return SHARED_ASID
        self._next_asid += 1
        return self._next_asid - 1

    def free_asid(self, asid: int) -> None:
        for hart in self.harts:
            hart.shoot_down(None, asid)
        if asid != SHARED_ASID:
            self._asids.append(asid)
