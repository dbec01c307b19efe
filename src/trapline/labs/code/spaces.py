"""Address spaces for the bare board, built in its memory before it starts: frames, page tables, and the smallest kernel.

The kernel (S-mode) has two processes (U-mode) of one program, one after the other. It keeps a log of all traps, skips the
instruction that faulted, and switches the address space when the first process is done. By convention the program leaves t4,
t5 and t6 alone, and has in s9 where to go on when it has jumped to where it may not.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from trapline.typed import NamedTuple

from trapline.labs.code import bare
from trapline.labs.code.text import assemble
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE, SV39, Format
from trapline.machine.riscv.addresses import FINISHER, RAM_BASE
from trapline.machine.riscv.status import LPE, MODE_SHIFT, SSE, SUM, SV39_MODE
from trapline.machine.riscv.trap import (
    ECALL_U,
    FETCH_PAGE,
    ILLEGAL,
    LOAD_PAGE,
    SOFTWARE_CHECK,
    STORE_ACCESS,
    STORE_PAGE,
)

USED = SV39.accessed | SV39.dirty
READ, WRITE, EXECUTE, USER = SV39.read, SV39.write, SV39.execute, SV39.user
LOAD, STORE, FETCH = "load", "store", "fetch"
CODE, MOST = 0x1_0000, 200_000  #: where the program is, and how many instructions it may take
_FIRST = RAM_BASE + (1 << 20)
_LOG_ENTRY = 40
_MAILBOX = RAM_BASE + 0x8000


class Frames:
    """RAM that is handed out page by page, and what has been put there."""

    def __init__(self, first: int = _FIRST) -> None:
        self._next = first
        self._pages: dict[int, bytearray] = {}

    def alloc(self, data: bytes = b"", pages: int = 1) -> int:
        """A power of two of frames, aligned to their number, that begin with `data`; the physical address."""
        size = pages * PAGE_SIZE
        start = self._next + -self._next % size
        self._next = start + size
        padded = data.ljust(pages * PAGE_SIZE, b"\0")
        for n in range(pages):
            self._pages[start + n * PAGE_SIZE] = bytearray(padded[n * PAGE_SIZE : (n + 1) * PAGE_SIZE])
        return start

    def entry(self, table: int, index: int) -> int:
        return int.from_bytes(self._pages[table][8 * index : 8 * index + 8], "little")

    def set_entry(self, table: int, index: int, entry: int) -> None:
        self._pages[table][8 * index : 8 * index + 8] = entry.to_bytes(8, "little")

    def map(self, root: int, va: int, pa: int, rights: int, level: int = 0, fmt: Format = SV39) -> None:
        """A leaf, with the tables above it."""
        table = root
        for above in range(fmt.levels - 1, level, -1):
            index = slot(va, above)
            entry = self.entry(table, index)
            if not entry:
                entry = SV39.table(self.alloc() >> PAGE_SHIFT)
                self.set_entry(table, index, entry)
            table = SV39.pfn(entry) << PAGE_SHIFT
        leaf = pa >> PAGE_SHIFT << SV39.pfn_shift | SV39.present | USED | rights
        self.set_entry(table, slot(va, level), leaf)

    def pieces(self) -> list[tuple[int, bytes]]:
        return [(pa, bytes(page)) for pa, page in self._pages.items()]


def slot(va: int, level: int) -> int:
    """Which entry of a table an address selects."""
    return va >> (PAGE_SHIFT + SV39.index_bits * level) & 511


class Probe(NamedTuple):
    """One access of the program."""

    kind: str
    address: int


class Record(NamedTuple):
    """One trap, as the kernel has logged it; `a0`: what the program reports (of a load: what it read)."""

    satp: int
    cause: int
    value: int
    pc: int
    a0: int


class Ran(NamedTuple):
    log: list[Record]
    counter: int  #: in the kernel's page: traps of both processes
    instructions: int
    firmware: tuple[int, int, int]  #: (cause, pc, value) of a trap that the kernel could not take; (0, 0, 0): none


_FIRMWARE = """
    la t0, trap
    csrw mtvec, t0
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 31
    csrw pmpcfg0, t0
    li t0, DELEGATED
    csrw medeleg, t0
    li t0, TRAP
    csrw stvec, t0
    li t0, LOG
    csrw sscratch, t0
    li t0, FIRST
    csrw satp, t0
    sfence.vma
    li t0, CODE
    csrw mepc, t0
    li t0, SUM                  # the kernel may use pages that are the user's, too; mret goes to U-mode
    csrw mstatus, t0
    mret
.align 4
trap:                           # the kernel could not take its trap
    li t0, MAILBOX
    csrr t1, mcause
    sd t1, 0(t0)
    csrr t1, mepc
    sd t1, 8(t0)
    csrr t1, mtval
    sd t1, 16(t0)
    li t0, FINISHER
    li t1, PASS
    sw t1, 0(t0)
"""
_INTEGRITY = """
    li t0, {}                   # shadow stack, landing pads: for user mode
    csrs menvcfg, t0
    csrs senvcfg, t0
"""
_KERNEL = """
trap:
    csrrw s10, sscratch, s10
    csrr t4, satp
    sd t4, 0(s10)
    csrr t5, stval
    sd t5, 16(s10)
    csrr t5, sepc
    sd t5, 24(s10)
    sd a0, 32(s10)
    csrr t4, scause
    sd t4, 8(s10)
    addi s10, s10, 40
    li t5, COUNTER
    ld t6, 0(t5)
    addi t6, t6, 1
    sd t6, 0(t5)
    csrr t5, sepc
    addi t5, t5, 4
    csrw sepc, t5
    li t5, FETCH_PAGE
    beq t4, t5, jumped
    li t5, CHECK                # control-flow integrity is broken
    beq t4, t5, done
    li t5, ECALL_U
    bne t4, t5, back
    beqz a7, back
done:                           # the process ends
    csrr t4, satp
    li t5, SECOND
    beq t4, t5, end
    csrw satp, t5
    sfence.vma
    li t5, CODE
    csrw sepc, t5
    j back
jumped:
    csrw sepc, s9
back:
    csrrw s10, sscratch, s10
    sret
end:
    li t5, DEVICE
    li t4, PASS
    sw t4, 0(t5)
"""


def program(probes: Sequence[Probe]) -> str:
    """Each access, then a call that reports a0; at the end a call that ends the process."""
    lines = ["li a7, 0"]
    for n, (kind, address) in enumerate(probes):
        lines += [f"li t0, {address}", "li a0, -1"]
        if kind == FETCH:
            lines += [f"la s9, after{n}", "jalr ra, 0(t0)", f"after{n}: ecall"]
        else:
            lines += [{LOAD: "ld a0, 0(t0)", STORE: "sd t0, 0(t0)"}[kind], "ecall"]
    return "\n".join([*lines, "li a7, 1", "ecall"])


class World:
    """Two address spaces: `roots`. The kernel is at `base` in both, in entries of the top level that they share."""

    def __init__(self, base: int, *, share: bool = True, supervisor: bool = True) -> None:
        """share: the second space has the kernel too. supervisor: user mode is kept out of the kernel's data."""
        self._share = share
        self.frames = frames = Frames()
        self.base = base
        self.roots = [frames.alloc(), frames.alloc()]
        self.text = frames.alloc()
        self.data, self.log = base + PAGE_SIZE, base + 0x2_0000
        self._data, self._log = frames.alloc(), frames.alloc(pages=16)
        first = self.roots[0]
        frames.map(first, base, self.text, READ | EXECUTE)
        frames.map(first, self.data, self._data, READ | WRITE | (0 if supervisor else USER))
        for n in range(16):
            frames.map(first, self.log + n * PAGE_SIZE, self._log + n * PAGE_SIZE, READ | WRITE)
        self._device = base + 0x1_0000
        frames.map(first, self._device, FINISHER, READ | WRITE)
        if share:
            index = slot(base, SV39.levels - 1)
            frames.set_entry(self.roots[1], index, frames.entry(first, index))

    def satp(self, n: int) -> int:
        return SV39_MODE << MODE_SHIFT | n + 1 << 44 | self.roots[n] >> PAGE_SHIFT

    def run(self, probes: Sequence[Probe], secret: int = 0) -> Ran:
        """A program of these accesses. `secret`: in the kernel's page."""
        return self.execute(program(probes), {}, secret=secret)

    def execute(
        self, source: str, numbers: Mapping[str, int], *, shadow_stack: int = 0, pads: bool = False, secret: int = 0
    ) -> Ran:
        """The program is mapped into both spaces, and run in one after the other.

        numbers: what it may name. shadow_stack: user mode has one, and this is its pointer. pads: its indirect jumps must
        lead to landing pads.
        """
        frames = self.frames
        text = frames.alloc(assemble(source, CODE, numbers).link())
        for root in self.roots:
            frames.map(root, CODE, text, READ | EXECUTE | USER)
        causes = [ILLEGAL, ECALL_U, STORE_ACCESS, LOAD_PAGE, STORE_PAGE, SOFTWARE_CHECK, *([FETCH_PAGE] if self._share else [])]
        names = {
            **bare.PLACES, "LOG": self.log, "COUNTER": self.data, "DEVICE": self._device, "CODE": CODE, "TRAP": self.base,
            "FIRST": self.satp(0), "SECOND": self.satp(1), "MAILBOX": _MAILBOX, "FETCH_PAGE": FETCH_PAGE, "SUM": SUM,
            "CHECK": SOFTWARE_CHECK, "ECALL_U": ECALL_U, "DELEGATED": sum(1 << each for each in causes),
        }  # fmt: skip
        kernel = assemble(_KERNEL, self.base, names).link()
        data = struct.pack("<QQ", 0, secret)
        content = {self.text: kernel, self._data: data}
        pieces = [(at, content.get(at, page)) for at, page in frames.pieces()]
        on = (SSE if shadow_stack else 0) | (LPE if pads else 0)
        before = _INTEGRITY.format(on) + (f"li t0, {shadow_stack}\ncsrw ssp, t0\n" if shadow_stack else "") if on else ""
        memory, count = bare.run(assemble(before + _FIRMWARE, RAM_BASE, names), most=MOST, pieces=pieces)
        return self._ran(memory, count)

    def _ran(self, memory: bytes, count: int) -> Ran:
        counter, _ = struct.unpack_from("<QQ", memory, self._data - RAM_BASE)
        at = self._log - RAM_BASE
        log = []
        for n in range(min(counter, 16 * PAGE_SIZE // _LOG_ENTRY)):
            satp, cause, value, pc, a0 = struct.unpack_from("<5Q", memory, at + n * _LOG_ENTRY)
            log.append(Record(satp, cause, value, pc, a0))
        cause, pc, value = struct.unpack_from("<3Q", memory, _MAILBOX - RAM_BASE)
        return Ran(log, counter, count, (cause, pc, value))


def results(ran: Ran, satp: int, count: int) -> list[tuple[Record | None, int]]:
    """(the fault, if there was one; what was read) of each probe of the process with `satp`."""
    found: list[tuple[Record | None, int]] = []
    fault: Record | None = None
    for each in ran.log:
        if each.satp != satp:
            continue
        if each.cause != ECALL_U:
            fault = each
            continue
        found.append((fault, each.a0))
        fault = None
    return found[:count]
