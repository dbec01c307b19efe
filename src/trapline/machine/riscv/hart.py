"""One hardware thread: its registers, and the loop that executes instructions, the reference tier.

The hart *is* the abstract machine `m` of the instruction definitions, on Python ints; its vocabulary comes in parts, each in
a file of its own.

Hot path, measured: about 0.3 µs of loop for each instruction besides its body.

Invariants: - outside `run`, all state is in the CPU struct (`cpu`); inside, the pc is in `at` and `next`, and
instructions not yet counted in `instret` are those taken from `_ticks`; - a `hosted` hart runs user code for a kernel
outside the machine: every trap ends the run, described by trap_cause and trap_value (and htval and htinst), with pc at the
instruction that trapped; only those that a virtual mode's registers delegate to VS-mode stay inside, so a hypervisor can be
outside too. Any other hart takes its traps itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import length_hint

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv import trap
from trapline.machine.riscv.bus import Attention, Bus, Halt, Held
from trapline.machine.riscv.code import Code, Page, Place, decode_at, fetch, step
from trapline.machine.riscv.floats import Floats
from trapline.machine.riscv.pmp import Pmp
from trapline.machine.riscv.tlb import Tlb
from trapline.machine.riscv.trap import Trap
from trapline.machine.riscv.triggers import Triggers
from trapline.machine.riscv.twostage import OWN

# Why a run ended.
BUDGET, TRAPPED, WAITING = 0, 1, 2


class Hart(Triggers, Floats):
    """`hartid`: its number. `time`: what the time CSR reads."""

    __slots__ = (
        "_ticks", "attention", "budget", "bus", "bytes_", "code", "cpu", "fs", "granted", "held", "hosted", "pmp", "stopping",
        "stores", "struct", "time", "tlb", "user", "views",
    )  # fmt: skip

    counts_every_access = False  #: the TLB is asked only for what the innermost arrays do not hold

    def __init__(
        self, bus: Bus, code: Code, *, hartid: int = 0, time: Callable[[], int] | None = None, tlb: Tlb | None = None,
        hosted: bool = False,
    ) -> None:  # fmt: skip
        self.bus = bus
        self.code = code
        self.time = time
        self.hosted = hosted
        self.tlb = tlb if tlb is not None else Tlb()  # an empty one is false
        self.struct = bytearray(at.SIZE)
        self.bytes_ = memoryview(self.struct)
        self.cpu = cpu = self.bytes_.cast("Q")
        self.xs = cpu[at.X : at.X + 32]
        self.fs = cpu[at.F : at.F + 32]
        self.user = cpu[at.X : at.PC + 1]
        self.views, self.stores = _views(bus.ram.mem)
        cpu[at.HARTID], cpu[at.RAM_BASE], cpu[at.RAM_SIZE] = hartid, bus.ram_base, bus.ram.size
        self.watched: frozenset[int] = frozenset()
        self.lent = OWN
        self.kept_out = self.watched
        self.debug = None
        self.held = 0  #: whether a reservation was, when the run ended
        self.stopping = False  #: the debugger has ended the run
        self.pmp = Pmp(cpu)
        cpu[at.HOSTED] = hosted
        self.reset()

    def reset(self, pc: int = 0) -> None:
        """Machine mode, interrupts off, no translation, no protection; the rest is as it was."""
        cpu = self.cpu
        cpu[at.PRIV], cpu[at.PC], cpu[at.SATP] = st.M, pc, 0
        cpu[at.MSTATUS], cpu[at.MCAUSE], cpu[at.MSECCFG], cpu[at.MENVCFG] = st.XLEN_64, 0, 0, 0
        for n in range(at.PMP_ENTRIES):
            cpu[at.PMPCFG + n] = 0
        for n in range(at.TRIGGERS):
            cpu[at.TDATA1 + n] = 0
        cpu[at.RESERVED] = cpu[at.VIRT] = cpu[at.ELP] = cpu[at.SENVCFG] = 0
        cpu[at.MIDELEG] |= st.H_INTERRUPTS  # those of a guest are never M-mode's own
        cpu[at.HSTATUS] = cpu[at.HGATP] = cpu[at.HENVCFG] = cpu[at.VSATP] = 0
        cpu[at.STIMECMP] = cpu[at.VSTIMECMP] = st.MASK
        self.waiting = self.shadow = False
        self.settle()
        self.watched = frozenset()
        self.kept_out = self.debug.pages if self.debug is not None else self.watched
        self.at = self.next = pc
        self.budget = self.granted = 0
        self.attention = False  #: end the run: somebody else must look at what has changed
        self._ticks: Iterator[int] = iter(range(0))
        self.pmp.update()
        self.tlb.flush()
        self.set_up_contexts()

    def enter(self, priv: int) -> None:
        """Go on in another privilege mode (or the same)."""
        self.cpu[at.PRIV] = priv
        self.settle()
        self.select_context()

    def call_attention(self) -> None:
        """End the run: a deadline has moved."""
        self.attention = True

    def now(self) -> int:
        return self.time() if self.time is not None else self.instret()

    # ---- running

    def run(self, budget: int) -> int:
        """Execute at most `budget` instructions: BUDGET, TRAPPED (hosted only) or WAITING (in wfi, nothing pending).

        A store to a device, or to stimecmp, ends it early: `consumed` tells.
        """
        cpu = self.cpu
        self.next = cpu[at.PC]
        self.budget = self.granted = budget
        self.attention = self.stopping = False
        self._ticks = iter(range(budget))
        while self.budget > 0 and not self.attention:
            if (not self.hosted or cpu[at.VIRT]) and self._interrupted():
                continue
            if self.waiting:
                break
            try:
                self._execute()
                self._count(0)
                if self.stopping:
                    break
            except Attention:
                self._count(0)
                self.attention = True
                break
            except Held:
                self._ticks = iter(range(length_hint(self._ticks) + 1))  # it is not executed
                self._count(0)
                self.next, self.stopping = self.at, True
                break
            except Trap as raised:
                self._count(1)
                if self.hosted and not trap.is_the_guests(self, raised.cause):
                    trap.tell(self, raised)
                    return TRAPPED
                trap.take(self, raised.cause, raised.value, self.at, raised.guest)
            except Halt:
                self._count(0)
                cpu[at.PC], cpu[at.RESERVED] = self.next & st.MASK, 0
                raise
        self.held, cpu[at.PC], cpu[at.RESERVED] = cpu[at.RESERVED], self.next & st.MASK, 0
        return WAITING if self.waiting else BUDGET

    def _execute(self) -> None:
        """Instructions until the budget is used up, one of the hart's own business has been executed, or a trap."""
        self._ticks = ticks = iter(range(self.budget))
        debug = self.debug
        if debug is not None:
            if debug.stops(self, self.next & st.MASK):
                self.stopping = True
                return
            if debug.trace is not None:
                debug.trace(self)
        if self.cpu[at.LANDING]:
            self.execute_guarded(ticks)
            return
        if self.watched or debug is not None:
            next(ticks)
            self.execute_watched()
            return
        pc, number, page, places = self.next, -1, None, _NOWHERE
        for _ in ticks:
            if pc >> 12 != number:
                self.at = pc = pc & st.MASK
                page = fetch(self, pc)
                number = pc >> 12
                if number not in self.pages:
                    self.next = pc
                    step(self)
                    return
                places = page.places
            run, i, length = places[pc >> 1 & 2047] or self._decode(pc, page)
            self.at = pc
            self.next = pc + length
            if run(self, i):
                return
            pc = self.next

    def _decode(self, pc: int, page: Page | None) -> Place:
        assert page is not None
        self.at = pc
        return decode_at(self, pc, page)

    def _count(self, lost: int) -> None:
        """Take what was executed off the budget, and count it; `lost` instructions did not retire."""
        left = length_hint(self._ticks)
        self.set_word(at.INSTRET, self.cpu[at.INSTRET] + self.budget - left - lost)
        self.budget = left
        self._ticks = iter(range(left))

    def enter_code(self, n: int, va: int, offset: int, data: bytes) -> None:
        page = self.code.page(self.bus.ram_base + offset)
        self._decoded[n][va >> 12] = page if page.data == data else Page(data, offset)

    def catch_up(self) -> None:
        """Do what has been put off, so that the state is all there."""

    @property
    def traps_taken(self) -> int:
        """Traps and interrupts since the start."""
        return self.cpu[at.TRAPS]

    def tlb_misses(self) -> int:
        """Walks since the start."""
        return self.tlb.misses

    def retired(self) -> int:
        """Instructions retired up to the end of the last run."""
        return self.cpu[at.INSTRET]

    def walk_steps(self) -> int:
        """Page-table entries read by walks since the start."""
        return self.tlb.walk_steps

    def consumed(self) -> int:
        """Instructions taken off the budget since the run began, those that trapped and the present one included."""
        return self.granted - length_hint(self._ticks)

    def instret(self) -> int:
        """Instructions retired before the one being executed."""
        taken = self.budget - length_hint(self._ticks)
        return self.cpu[at.INSTRET] + (taken - 1 if taken else 0) & st.MASK

    def _interrupted(self) -> bool:
        """Take an interrupt that is due."""
        self.next &= st.MASK
        if self.waiting and self.interrupts() & self.cpu[at.MIE]:
            self.waiting = False
        number = trap.pending(self)
        if number < 0 or (self.hosted and not trap.is_the_guests(self, trap.INTERRUPT | number)):
            return False
        trap.take(self, trap.INTERRUPT | number, 0, self.next)
        self.budget -= 1  # so that a handler that traps on entry, for ever, uses up its budget
        self._ticks = iter(range(self.budget))
        return True


_NOWHERE: list[Place | None] = []


def _views(mem: memoryview) -> tuple[tuple[memoryview | None, ...], tuple[memoryview | None, ...]]:
    """RAM by access size: for loads (16 + size: signed) and for stores."""
    loads: list[memoryview | None] = [None] * 32
    loads[1], loads[2], loads[4], loads[8] = mem, mem.cast("H"), mem.cast("I"), mem.cast("Q")
    loads[17], loads[18], loads[20], loads[24] = mem.cast("b"), mem.cast("h"), mem.cast("i"), mem.cast("q")
    return tuple(loads), tuple(loads[:9])
