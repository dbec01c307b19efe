"""A hypervisor in Python, in the kernel's place: it lets a hosted hart run a guest in VS- and VU-mode, and handles its exits.

It does what riscv/hypervisor.c does, for the same guest: gives it memory page by page, emulates its serial port and the
instructions that it may not execute, and counts exits by cause. Time passes only as instructions do, and in wfi.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv import trap as t
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.hart import BUDGET, TRAPPED, WAITING, Hart

BASE, SIZE = 0x4000_0000, 4 << 20  #: of the machine's memory
ROOT = BASE  #: of the second stage: four pages
GUEST_START, GUEST_END, UART = 0x8000_0000, 0x8010_0000, 0x1000_0000  #: guest physical
RWXUAD = 0xDF
PUT, STRICT, INJECT, TEXT, END = 1, 2, 3, 4, 8  #: services
TRAPS_OF_STRICT = st.VTVM | st.VTW | st.VTSR
A0, A1, A7 = 10, 11, 17
WFI, SFENCE, SFENCE_MASK = 0x1050_0073, 0x1200_0073, 0xFE00_7FFF
LOAD_WORD, STORE_BYTE, COMPRESSED_LOAD = 0x2003, 0x23, 0x2001  #: transformed


class Hypervisor:
    """One guest. `exits`: by cause. `text`: what the guest printed."""

    def __init__(self, image: bytes, make: Callable[[Ram], Callable[..., Hart]]) -> None:
        self.image = image
        self.exits: Counter[int] = Counter()
        self.text = ""
        self._waited = 0
        ram = Ram(SIZE)
        self.bus = Bus(ram, BASE)
        self.hart = make(ram)(self.bus, Code(self.bus), time=self._now, hosted=True)
        self._free = ROOT + 0x4000
        self._begin()

    def _now(self) -> int:
        return self._waited + self.hart.instret() // 100

    def _begin(self) -> None:
        hart, cpu = self.hart, self.hart.cpu
        hart.reset(GUEST_START)
        cpu[at.PMPCFG], cpu[at.PMPADDR] = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.ADDRESS_MASK
        hart.pmp.update()
        cpu[at.MENVCFG], cpu[at.MCOUNTEREN], cpu[at.MEDELEG] = st.STCE | st.ADUE, 0xFFFF_FFFF, 0xF4_B7FF
        cpu[at.HGATP] = st.SV39_MODE << st.MODE_SHIFT | 1 << st.VMID_SHIFT | ROOT >> 12
        cpu[at.HEDELEG] = sum(1 << cause for cause in (t.BREAKPOINT, t.ECALL_U, t.FETCH_PAGE, t.LOAD_PAGE, t.STORE_PAGE))
        cpu[at.HIDELEG] = st.VS_INTERRUPTS
        hart.enter(st.S)
        hart.cross(1)

    def run(self, budget: int = 10**7) -> None:
        """Until the guest says that it is done. Raises RuntimeError if it does what nobody expects."""
        hart, cpu = self.hart, self.hart.cpu
        while budget > 0:
            before = cpu[at.INSTRET]
            why = hart.run(10000)
            budget -= cpu[at.INSTRET] - before + 1
            if why == WAITING:
                self._wait()
            elif why == TRAPPED:
                self.exits[cpu[at.TRAP_CAUSE]] += 1
                if self._handle(cpu[at.TRAP_CAUSE], cpu[at.TRAP_VALUE]):
                    return
            elif why != BUDGET:
                raise RuntimeError(f"the hart stopped: {why}")
        raise RuntimeError("the guest did not end")

    def close(self) -> None:
        tiers = getattr(self.hart, "tiers", None)
        if tiers is not None:
            tiers.close()

    def _wait(self) -> None:
        """Let time pass until the guest's timer is due."""
        deadline = self.hart.cpu[at.VSTIMECMP]
        if deadline == st.MASK:
            raise RuntimeError("the guest waits for nothing")
        self._waited += max(0, deadline - self._now())
        self.hart.waiting = False

    # ---- exits

    def _handle(self, cause: int, value: int) -> bool:
        """True at the end."""
        if cause == t.ECALL_VS:
            return self._serve(self.hart.xs[A7], self.hart.xs[A0], self.hart.xs[A1])
        if cause == t.VIRTUAL:
            self._emulate(value)
        elif cause == t.ILLEGAL:
            self._reflect(t.ILLEGAL, value)
        elif cause in t.GUEST_CAUSES.values():
            self._fault(cause, value)
        else:
            raise RuntimeError(f"an exit of no known kind: {cause}")
        return False

    def _go_on(self, size: int = 4) -> None:
        self.hart.cpu[at.PC] += size

    def _serve(self, number: int, a0: int, a1: int) -> bool:
        cpu = self.hart.cpu
        self._go_on()
        if number == PUT:
            self.text += chr(a0)
        elif number == STRICT:
            cpu[at.HSTATUS] = cpu[at.HSTATUS] & ~TRAPS_OF_STRICT | (TRAPS_OF_STRICT if a0 else 0)
        elif number == INJECT and not a0:
            cpu[at.MIP] |= st.VSSIP
        elif number == INJECT:  # lend the clock and the timer, or take them back
            cpu[at.VSTIMECMP], cpu[at.HCOUNTEREN] = st.MASK, 2 if a0 == 1 else 0
            cpu[at.HENVCFG] = st.STCE if a0 == 1 else 0
        elif number == TEXT:
            self.text += "".join(chr(self.hart.load(a0 + n, 1)) for n in range(a1))
        elif number != END:
            raise RuntimeError(f"no such service: {number}")
        return number == END

    def _emulate(self, instruction: int) -> None:
        """Of the virtual instructions those that the guest executes as a kernel; the rest is its own fault."""
        cpu = self.hart.cpu
        number, rd = instruction >> 20, instruction >> 7 & 31
        if cpu[at.PRIV] == st.S and instruction == WFI:
            self._go_on()
        elif cpu[at.PRIV] == st.S and instruction & SFENCE_MASK == SFENCE:
            self.hart.shoot_down_guest(None, None)
            self._go_on()
        elif cpu[at.PRIV] == st.S and number == 0xC01:
            self.hart.w(rd, 0)
            self._go_on()
        else:
            self._reflect(t.ILLEGAL, instruction)

    def _reflect(self, cause: int, value: int) -> None:
        """Let the guest take an exception itself. V is 1: its registers are in place."""
        cpu = self.hart.cpu
        status = cpu[at.MSTATUS]
        before = (status & st.SIE) << 4 | cpu[at.PRIV] << 8
        cpu[at.MSTATUS] = status & ~(st.SIE | st.SPIE | st.SPP) | before
        cpu[at.SEPC], cpu[at.SCAUSE], cpu[at.STVAL] = cpu[at.PC], cause, value
        cpu[at.PC] = cpu[at.STVEC]
        self.hart.enter(st.S)

    def _fault(self, cause: int, address: int) -> None:
        """What the guest has no memory for: its serial port, by the transformed instruction; else the guest's own fault."""
        cpu = self.hart.cpu
        gpa, instruction = cpu[at.HTVAL] << 2 | address & 3, cpu[at.HTINST]
        if GUEST_START <= gpa < GUEST_END:
            self._give(gpa & -4096)
            return
        if gpa & -4096 != UART or cause == t.FETCH_GUEST_PAGE:
            own = {t.FETCH_GUEST_PAGE: t.FETCH_ACCESS, t.LOAD_GUEST_PAGE: t.LOAD_ACCESS, t.STORE_GUEST_PAGE: t.STORE_ACCESS}
            self._reflect(own[cause], address)
            return
        kind = instruction & 0x707F
        if kind == STORE_BYTE:
            self.text += chr(self.hart.xs[instruction >> 20 & 31])
        elif kind in (LOAD_WORD, COMPRESSED_LOAD):
            self.hart.w(instruction >> 7 & 31, 0x60)
        else:
            raise RuntimeError(f"an access to the port of no known kind: {instruction:#x}")
        self._go_on(4 if instruction & 2 else 2)

    # ---- memory

    def _page(self) -> int:
        if self._free >= BASE + SIZE:
            raise RuntimeError("out of pages")
        self._free += 0x1000
        return self._free - 0x1000

    def _give(self, gpa: int) -> None:
        table, shift = ROOT, 30
        while shift > 12:
            place = table + 8 * (gpa >> shift & (2047 if shift == 30 else 511))
            pointer = self.bus.read(place, 8)
            if not pointer:
                pointer = self._page() >> 12 << 10 | 1
                self.bus.write(place, 8, pointer)
            table, shift = pointer >> 10 << 12, shift - 9
        page, start = self._page(), gpa - GUEST_START
        data = self.image[start : start + 4096]
        self.bus.ram.mem[page - BASE : page - BASE + len(data)] = data
        self.bus.write(table + 8 * (gpa >> 12 & 511), 8, page >> 12 << 10 | RWXUAD)
        self.hart.shoot_down_stage(1)
