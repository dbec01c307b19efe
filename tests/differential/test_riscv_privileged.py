"""Privileged work on the native tiers: the reference tier's state to the bit, and by native code.

Random programs wander between the modes (calls, returns, faults, interrupts, registers, address spaces, fences) on tables of
random permissions; directed ones assert besides that the reference tier executed nothing of them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.csr import NUMBERS, TABLE
from trapline.machine.riscv.hart import Hart
from trapline.machine.riscv.harts import Harts
from trapline.machine.riscv.isa.decode import encode

pytest.importorskip("llvmlite")

from trapline.machine.riscv.jit import system
from trapline.machine.riscv.jit.native import NativeHart
from trapline.machine.riscv.jit.state import REASONS
from trapline.machine.riscv.jit.tiers import Tiers

BASE, MEMORY = 0x8000_0000, 2 << 20
CODE, M_HANDLER, S_HANDLER, DATA, TABLES = BASE, BASE + 0x8000, BASE + 0x9000, BASE + 0x10_0000, BASE + 0x18_0000
ALIAS = 0x4000_0000  #: where the tables show code and data to user mode
DATA_PAGES, CODE_PAGES = 64, 4
V, R, W, X, U, G, A, D = (1 << n for n in range(8))
#: Registers that programs do not write: addresses of data, and what satp may become.
POINTERS, SPACES = (8, 9, 18, 19), (20, 21, 22)
SCRATCH = (5, 6, 7, 10, 11, 12)
#: Not architectural, or not the same thing in the two.
OWN = {"ram_host", "sink", "budget", "granted", "hpmcounter", "trap_cause", "trap_value", "time_origin"}
COMPARED = [each for each in at.FIELDS[: [name for name, _ in at.FIELDS].index("tlb")] if each[0] not in OWN]


@dataclass
class World:
    """A machine of one hart, with tables."""

    harts: Harts
    hart: Any
    ram: Ram

    def put(self, address: int, *words: int) -> int:
        for word in words:
            self.hart.bus.write(address, 4, word)
            address += 4
        return address

    def state(self) -> dict[str, Any]:
        cpu = self.hart.cpu
        found: dict[str, Any] = {name: cpu[at.OFFSETS[name] : at.OFFSETS[name] + words].tolist() for name, words in COMPARED}
        found["waiting"], found["elapsed"] = self.hart.waiting, self.harts.elapsed
        found["memory"] = hashlib.sha256(self.ram.mem).hexdigest()
        return found


def world(make: Callable[..., Hart] | None = None) -> World:
    ram = Ram(MEMORY)
    bus = Bus(ram, BASE)
    if make is None:
        make = partial(NativeHart, tiers=Tiers(ram, background=False, hot=8, warm=3))
    harts = Harts(bus, 1, make=make, quantum=5000)
    hart = harts.each[0]
    hart.reset(BASE)
    return World(harts, hart, ram)


def both() -> tuple[World, World]:
    return world(Hart), world()


def leaf(pa: int, bits: int) -> int:
    return pa >> 12 << 10 | bits | V


class Tables:
    """Two address spaces with the same shape: code and data at ALIAS, page by page, and RAM where it is, as one large page."""

    def __init__(self, mode: int, permissions: list[int], ram_bits: int) -> None:
        self.words: dict[int, int] = {}
        self._free = TABLES
        self.satp = []
        for asid in (1, 2):
            root = self._table()
            self.satp.append(mode << st.MODE_SHIFT | asid << st.ASID_SHIFT | root >> 12)
            low = self._chain(root, mode - st.SV39_MODE)
            self.words[low + 8 * (BASE >> 30)] = leaf(BASE, ram_bits)
            middle, last = self._table(), self._table()
            self.words[low + 8 * (ALIAS >> 30)] = leaf(middle, 0)
            self.words[middle] = leaf(last, 0)
            for n, bits in enumerate(permissions):
                pa = CODE + n * 4096 if n < CODE_PAGES else DATA + (n - CODE_PAGES) * 4096
                self.words[last + 8 * n] = leaf(pa, bits) if bits else 0

    def _table(self) -> int:
        self._free += 4096
        return self._free - 4096

    def _chain(self, table: int, levels: int) -> int:
        """The table of gigabytes below a root that is so many levels above it."""
        for _ in range(levels):
            below = self._table()
            self.words[table] = leaf(below, 0)
            table = below
        return table


def protect(hart: Hart, *first: tuple[int, int]) -> None:
    """All of memory for everybody, but for what the entries `first` (pmpcfg, pmpaddr) say."""
    everything = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.ADDRESS_MASK
    for n, (config, address) in enumerate((*first, everything)):
        hart.cpu[at.PMPCFG + n], hart.cpu[at.PMPADDR + n] = config, address
    hart.pmp.update()


def random_protection(rng: random.Random) -> tuple[int, int]:
    """A range somewhere in RAM, of 8 bytes to 1 MB, with some of the rights."""
    size = 1 << rng.randrange(3, 21)
    start = BASE + rng.randrange(MEMORY) & -size
    rights = rng.choice((0, pmp.R, pmp.R | pmp.X, pmp.R | pmp.W))
    return pmp.NAPOT | rights | rng.choice((0, 0, pmp.LOCK)), start >> 2 | size // 8 - 1


def csr(name: str, how: str = "csrrw", rd: int = 0, operand: int = 0) -> int:
    field = "imm" if how.endswith("i") else "rs1"
    return encode(how, rd=rd, csr=NUMBERS[name], **{field: operand})


# ---- random programs

WANTED = (
    "sstatus", "mstatus", "sscratch", "sepc", "scause", "stval", "sie", "sip", "mie", "mip", "mscratch", "mepc", "mcause", "mtval",
    "cycle", "time", "instret", "stimecmp", "satp", "medeleg", "mideleg", "mcounteren", "scounteren", "fflags", "senvcfg", "mhartid",
)  # fmt: skip
LOADS, STORES = ("lb", "lhu", "lw", "ld"), ("sb", "sh", "sw", "sd")


def random_word(rng: random.Random) -> int:
    kind = rng.random()
    rd, rs = rng.choice(SCRATCH), rng.choice(SCRATCH)
    if kind < 0.30:
        name = rng.choice(WANTED)
        how = rng.choice(("csrrw", "csrrs", "csrrc", "csrrs", "csrrsi", "csrrci"))
        if name == "satp":
            return csr(name, rng.choice(("csrrw", "csrrs")), rd, rng.choice(SPACES) if rng.random() < 0.7 else 0)
        if name in ("mstatus", "mepc", "sepc", "medeleg") and how == "csrrw":
            how = "csrrs"
        if name in ("mepc", "sepc"):
            return csr(name, "csrrs", rd, 0)
        return csr(name, how, rng.choice((0, rd)), rng.choice((0, rs, 31)))
    if kind < 0.45:
        return encode(rng.choice(("ecall", "ecall", "ebreak", "sret", "mret", "fence.i", "wfi")))
    if kind < 0.50:
        return encode("sfence.vma", rs1=rng.choice((0, *POINTERS)), rs2=rng.choice((0, 24)))
    if kind < 0.85:
        offset, pointer = rng.randrange(-64, 64) * 8 + rng.choice((0, 0, 0, 0, 1, 4)), rng.choice(POINTERS)
        if rng.random() < 0.5:
            return encode(rng.choice(LOADS), rd=rd, rs1=pointer, imm=offset)
        return encode(rng.choice(STORES), rs2=rs, rs1=pointer, imm=offset)
    if kind < 0.90:
        return encode(rng.choice(("amoadd.d", "lr.d", "sc.d")), rd=rd, rs1=rng.choice(POINTERS))
    return encode("addi", rd=rd, rs1=rs, imm=rng.randrange(-2048, 2048))


def handler(mode: str) -> list[int]:
    """Go on behind what trapped, in the program as the mode returned to sees it. Writes x30 and x31."""
    epc = f"{mode}epc"
    before = (encode("slli", rd=30, rs1=30, imm=51), encode("srli", rd=30, rs1=30, imm=62))  # MPP
    if mode == "s":
        before = (encode("slli", rd=30, rs1=30, imm=55), encode("srli", rd=30, rs1=30, imm=63))  # SPP
    return [
        csr(epc, "csrrs", 31), encode("addi", rd=31, rs1=31, imm=4),
        encode("slli", rd=31, rs1=31, imm=50), encode("srli", rd=31, rs1=31, imm=50),  # within the program
        csr(f"{mode}status", "csrrs", 30), *before,
        encode("bne", rs1=30, rs2=0, imm=12), encode("add", rd=31, rs1=31, rs2=26), encode("jal", rd=0, imm=8),
        encode("add", rd=31, rs1=31, rs2=27), csr(epc, "csrrw", 0, 31),
        csr(f"{mode}ie", "csrrci", 0, 2), encode(f"{mode}ret"),
    ]  # fmt: skip


def random_pages(rng: random.Random) -> list[int]:
    code = [rng.choice((R | X | U | A, R | X | U | A | D, R | X | U | A | G, X | U | A, X | U)) for _ in range(CODE_PAGES)]
    data = [
        rng.choice((0, R | U, R | W | U, R | W | U | A, R | W | U | A | D, R | W | A | D, R | A, X | A | U, W | A, R | W | U | A | D))
        for _ in range(DATA_PAGES)
    ]
    return code + data


def scatter(rng: random.Random, worlds: tuple[World, World]) -> None:
    """The same random program and state for both."""
    tables = Tables(
        rng.choice((st.SV39_MODE, st.SV48_MODE, st.SV57_MODE)), random_pages(rng), rng.choice((R | W | X | A | D, R | W | X | A | D | G))
    )
    words = [random_word(rng) for _ in range(CODE_PAGES * 1024 - 1)]
    words.append(encode("jal", rd=0, imm=4 - CODE_PAGES * 4096))
    values = [rng.getrandbits(64) & rng.choice((st.MASK, 0xFFF, 0xA0_00AA)) for _ in range(32)]
    pointers = [ALIAS + (CODE_PAGES + rng.randrange(DATA_PAGES)) * 4096 + rng.randrange(512) * 8 for _ in POINTERS]
    satps = [*tables.satp, 0]
    enabled, delegated = rng.choice((0, 0xAAA)), rng.choice((0xB3FF, 0xB100, 0))
    adue, lines, pc = rng.choice((0, st.ADUE)), rng.choice((0, 0, 0x222, 0xAAA)), CODE + 4 * rng.randrange(2000)
    protection = [random_protection(rng) for _ in range(rng.choice((0, 0, 1, 2)))]
    priv, status = rng.choice((st.U, st.S, st.M)), st.XLEN_64 | rng.getrandbits(20) & (st.SIE | st.MIE | st.SUM | st.FS)
    for each in worlds:
        hart = each.hart
        hart.reset(CODE)
        protect(hart, *protection)
        each.put(CODE, *words)
        each.put(M_HANDLER, *handler("m"))
        each.put(S_HANDLER, *handler("s"))
        for address, word in tables.words.items():
            hart.bus.write(address, 8, word)
        cpu = hart.cpu
        for n in range(1, 32):
            hart.xs[n] = values[n]
        for n, value in zip((*POINTERS, *SPACES, 24, 26, 27), (*pointers, *satps, 1, ALIAS, CODE), strict=True):
            hart.xs[n] = value
        cpu[at.MTVEC], cpu[at.STVEC], cpu[at.MEDELEG], cpu[at.MIDELEG] = M_HANDLER, S_HANDLER, delegated, delegated & 0x222
        cpu[at.MIE], cpu[at.LINES], cpu[at.MENVCFG] = enabled, lines, adue | st.STCE
        cpu[at.MCOUNTEREN] = cpu[at.SCOUNTEREN] = 7
        cpu[at.MSTATUS] = status
        cpu[at.SEPC] = cpu[at.MEPC] = pc
        cpu[at.FFLAGS] = cpu[at.FRM] = 0
        hart.change_space(tables.satp[0])
        hart.enter(priv)
        cpu[at.PC] = pc - CODE + ALIAS if priv == st.U else pc


@pytest.mark.parametrize("seed", range(16))
def test_random_privileged_programs(seed: int) -> None:
    rng = random.Random(seed)
    worlds = both()
    for _ in range(6):
        scatter(rng, worlds)
        for _ in range(6):
            budget = rng.choice((1, 2, 7, 30, 100, 400))
            ended = [each.harts.run(budget) for each in worlds]
            assert ended[0] == ended[1]
            expected, found = (each.state() for each in worlds)
            assert found == expected
    native = worlds[1].hart
    assert sum(native.steps.values()) < native.cpu[at.INSTRET] // 2


# ---- directed programs, of which the reference tier executes nothing


def start(each: World, priv: int, permissions: list[int], words: list[int], *, mode: int = st.SV39_MODE, adue: int = 0) -> None:
    """One program for S- or U-mode (at ALIAS) or M-mode, in the first space, all traps of lower modes delegated."""
    tables = Tables(mode, permissions, R | W | X | A | D)
    hart = each.hart
    protect(hart)
    each.put(CODE, *words)
    each.put(M_HANDLER, *handler("m"))
    each.put(S_HANDLER, *handler("s"))
    for address, word in tables.words.items():
        hart.bus.write(address, 8, word)
    cpu = hart.cpu
    cpu[at.MTVEC], cpu[at.STVEC], cpu[at.MEDELEG], cpu[at.MENVCFG] = M_HANDLER, S_HANDLER, 0xB3FF, adue | st.STCE
    cpu[at.MCOUNTEREN] = cpu[at.SCOUNTEREN] = 7
    for n, value in zip((8, *SPACES, 24, 26, 27), (ALIAS + CODE_PAGES * 4096, *tables.satp, 0, 1, ALIAS, CODE), strict=True):
        hart.xs[n] = value
    hart.change_space(tables.satp[0])
    hart.enter(priv)
    cpu[at.PC] = ALIAS if priv == st.U else CODE


def same(priv: int, permissions: list[int], words: list[int], count: int, **how: Any) -> Any:
    """Run both; the native hart, which did all by itself once it had the pages of code."""
    worlds = both()
    for each in worlds:
        start(each, priv, permissions, words, **how)
        each.harts.run(count)
    expected, found = (each.state() for each in worlds)
    assert found == expected
    native: NativeHart = worlds[1].hart
    assert native.steps == {}, native.steps
    return native


_CODE_BITS = [R | X | U | A | D] * CODE_PAGES
_DATA_BITS = [R | W | U | A | D] * DATA_PAGES


def test_calls_and_returns() -> None:
    loop = [encode("ecall"), encode("addi", rd=5, rs1=5, imm=1), encode("jal", rd=0, imm=-8)]
    hart = same(st.U, _CODE_BITS + _DATA_BITS, loop, 1000)
    assert hart.traps_taken > 50 and hart.cpu[at.SCAUSE] == 8
    hart = same(st.M, _CODE_BITS + _DATA_BITS, loop, 1000)
    assert hart.traps_taken > 50 and hart.cpu[at.MCAUSE] == 11
    hart = same(st.S, _CODE_BITS + _DATA_BITS, [encode("ebreak"), *loop], 1000)
    assert hart.traps_taken > 50 and hart.cpu[at.SCAUSE] == 9


@pytest.mark.parametrize("mode", [st.SV39_MODE, st.SV48_MODE, st.SV57_MODE])
@pytest.mark.parametrize(("bits", "word", "cause"), [
    (0, encode("ld", rd=5, rs1=8, imm=0), 13),
    (R | U | A, encode("sd", rs2=5, rs1=8, imm=0), 15),
    (R | W | A | D, encode("ld", rd=5, rs1=8, imm=0), 13),
    (R | W | U, encode("ld", rd=5, rs1=8, imm=0), 13),
    (R | W | U | A, encode("sd", rs2=5, rs1=8, imm=0), 15),
    (W | U | A, encode("ld", rd=5, rs1=8, imm=0), 13),
    (R | U | A, encode("jalr", rd=0, rs1=8, imm=0), 12),
])  # fmt: skip
def test_page_faults(mode: int, bits: int, word: int, cause: int) -> None:
    again = [word, encode("jal", rd=0, imm=-4)]
    hart = same(st.U, _CODE_BITS + [bits] * DATA_PAGES, again, 300, mode=mode)
    assert hart.traps_taken > 10 and hart.cpu[at.SCAUSE] == cause and hart.cpu[at.STVAL] == ALIAS + CODE_PAGES * 4096


@pytest.mark.parametrize("mode", [st.SV39_MODE, st.SV48_MODE, st.SV57_MODE])
def test_accessed_and_dirty_bits_are_set(mode: int) -> None:
    words = [
        encode("ld", rd=5, rs1=8, imm=0), encode("sd", rs2=5, rs1=8, imm=8), encode("lui", rd=6, imm=1 << 12),
        encode("add", rd=8, rs1=8, rs2=6), encode("jal", rd=0, imm=-16),
    ]  # fmt: skip
    hart = same(st.U, [R | X | U] * CODE_PAGES + [R | W | U] * DATA_PAGES, words, 200, mode=mode, adue=st.ADUE)
    assert hart.traps_taken == 0 and hart.cpu[at.INSTRET] == 200


def test_user_memory_as_the_supervisor_sees_it() -> None:
    """sstatus.SUM, set and cleared around each access; without it, a fault."""
    pages = _CODE_BITS + _DATA_BITS
    words = [
        csr("sstatus", "csrrs", 0, 6), encode("ld", rd=5, rs1=8, imm=0), csr("sstatus", "csrrc", 0, 6),
        encode("ld", rd=5, rs1=8, imm=0), encode("jal", rd=0, imm=-16),
    ]  # fmt: skip
    worlds = both()
    for each in worlds:
        start(each, st.S, pages, words)
        each.hart.xs[6] = st.SUM
        each.harts.run(500)
    assert worlds[0].state() == worlds[1].state()
    assert worlds[1].hart.steps == {} and worlds[1].hart.cpu[at.SCAUSE] == 13
    assert worlds[1].hart.traps_taken > 20  # one fault a turn


def test_address_spaces_and_fences() -> None:
    words = [
        csr("satp", "csrrw", 5, 20), encode("ld", rd=6, rs1=27, imm=0), csr("satp", "csrrw", 5, 21),
        encode("sfence.vma", rs1=8, rs2=24), encode("sfence.vma", rs1=8, rs2=0), encode("sfence.vma", rs1=0, rs2=24),
        encode("sfence.vma", rs1=0, rs2=0), encode("sinval.vma", rs1=8, rs2=0), encode("sfence.w.inval"), encode("fence.i"),
        csr("satp", "csrrw", 5, 22), encode("jal", rd=0, imm=-44),
    ]  # fmt: skip
    hart = same(st.S, _CODE_BITS + _DATA_BITS, words, 1000)
    assert hart.traps_taken == 0
    assert hart.exits[REASONS.index("fetch")] <= 2  # a page of code is mapped again natively


@pytest.mark.parametrize("how", ["csrrw", "csrrs", "csrrc", "csrrwi", "csrrsi", "csrrci"])
def test_every_register_that_is_declared_native(how: str) -> None:
    """Read all, then change all but those that would end the test (the program's own vector and tables)."""
    numbers = {each.name: number for number, each in TABLE.items() if each.native}
    assert {"sstatus", "mstatus", "satp", "sie", "sip", "time", "cycle", "instret", "stimecmp", "mepc"} <= set(numbers)
    words = [encode("csrrs", rd=5, rs1=0, csr=number) for number in numbers.values()]
    kept = {"satp", "mtvec", "stvec", "mstatus", "sstatus", "stimecmp"}
    for name, number in numbers.items():
        if name not in kept and number >> 10 != 3:
            words.append(csr(name, how, 6, 7))
            words.append(encode("csrrs", rd=5, rs1=0, csr=number))
    words.append(encode("jal", rd=0, imm=-4 * len(words)))
    worlds = both()
    for each in worlds:
        start(each, st.M, _CODE_BITS + _DATA_BITS, words)
        each.hart.xs[7] = 0x5A5_A5A5
        each.hart.cpu[at.MSTATUS] |= st.FS
        each.harts.run(len(words) * 3 + 5)
    expected, found = (each.state() for each in worlds)
    assert found == expected
    assert worlds[1].hart.steps == {}, worlds[1].hart.steps


def test_waiting_for_what_is_there_is_no_wait() -> None:
    words = [encode("wfi"), encode("addi", rd=5, rs1=5, imm=1), encode("jal", rd=0, imm=-8)]
    worlds = both()
    for each in worlds:
        start(each, st.M, _CODE_BITS + _DATA_BITS, words)
        each.hart.cpu[at.LINES] = each.hart.cpu[at.MIE] = 1 << 3
        each.harts.run(300)
    assert worlds[0].state() == worlds[1].state()
    assert worlds[1].hart.steps == {} and worlds[1].hart.xs[5] == 100 and not worlds[1].hart.waiting
    for each in worlds:
        each.hart.cpu[at.LINES] = 0
        each.harts.run(300)
    assert worlds[0].state() == worlds[1].state()
    assert worlds[1].hart.waiting and worlds[1].hart.steps == {"wfi": 1}


def test_floating_point_is_turned_on_and_its_state_changed_natively() -> None:
    """As a kernel does between two programs: FS, fcsr and the registers; flags gather and are read."""
    words = [
        csr("sstatus", "csrrc", 0, 6), csr("sstatus", "csrrs", 0, 6), csr("fcsr", "csrrw", 0, 0),
        encode("fdiv.d", rd=1, rs1=2, rs2=3, rm=7), csr("fflags", "csrrs", 10, 0), csr("frm", "csrrwi", 11, 2),
        encode("fdiv.d", rd=4, rs1=2, rs2=3, rm=7), csr("fcsr", "csrrw", 12, 7), encode("fadd.d", rd=5, rs1=4, rs2=2, rm=7),
        csr("fflags", "csrrci", 13, 1), csr("fcsr", "csrrs", 14, 0), encode("jal", rd=0, imm=-44),
    ]  # fmt: skip
    worlds = both()
    for each in worlds:
        start(each, st.S, _CODE_BITS + _DATA_BITS, words)
        hart = each.hart
        hart.xs[6], hart.xs[7] = st.FS, 0x70
        hart.fs[2], hart.fs[3] = 0x3FF0 << 48, 0x4008 << 48  # 1.0, 3.0
        each.harts.run(500)
    assert worlds[0].state() == worlds[1].state()
    native = worlds[1].hart
    assert native.xs[10] == 1 and native.xs[12] == 0x41 and native.steps == {}


def test_fence_of_one_page_forgets_the_large_page_that_it_is_a_part_of() -> None:
    """sfence.vma names an address: the leaf that maps it goes, also for the other addresses that it maps."""
    worlds = both()
    changed = leaf(BASE, R | X | A | D)  # no longer writable
    words = [
        encode("sd", rs2=5, rs1=27, imm=2040), encode("sd", rs2=6, rs1=9, imm=0),
        encode("sfence.vma", rs1=18, rs2=0), encode("sd", rs2=5, rs1=27, imm=2040), encode("jal", rd=0, imm=0),
    ]  # fmt: skip
    for each in worlds:
        start(each, st.S, _CODE_BITS + _DATA_BITS, words)
        root = (each.hart.cpu[at.SATP] & st.PPN_MASK) << 12
        each.hart.xs[9], each.hart.xs[6], each.hart.xs[18] = root + 8 * (BASE >> 30), changed, BASE + 0x10_0000
        each.harts.run(100)
    assert worlds[0].state() == worlds[1].state()
    cpu = worlds[1].hart.cpu
    assert (cpu[at.SCAUSE], cpu[at.STVAL], worlds[1].hart.traps_taken) == (15, CODE + 2040, 1)


def test_native_walks_are_counted() -> None:
    """By the hart, and by the counters of events that a guest sets up."""
    words = [
        csr("mhpmevent3", "csrrwi", 0, 1), csr("mhpmevent4", "csrrwi", 0, 3), csr("mepc", "csrrw", 0, 26), encode("mret"),
    ]  # fmt: skip
    each = world()
    start(each, st.M, _CODE_BITS + _DATA_BITS, words)
    each.put(CODE + 0x40, encode("ld", rd=5, rs1=8, imm=0), encode("sfence.vma"), encode("jal", rd=0, imm=-8))
    hart = each.hart
    hart.xs[26], hart.cpu[at.MSTATUS] = CODE + 0x40, hart.cpu[at.MSTATUS] | 1 << st.MPP_SHIFT | st.SUM
    before = hart.walk_steps()
    each.harts.run(300)
    read = {name: TABLE[NUMBERS[name]].read(hart) for name in ("mhpmcounter3", "mhpmcounter4")}
    assert 90 <= read["mhpmcounter3"] <= hart.tlb_misses()
    assert 3 * 90 <= read["mhpmcounter4"] <= hart.walk_steps() - before


def test_more_spaces_than_are_kept() -> None:
    """Each turn writes satp with the next of eight ASIDs, then changes what the space before maps, fenced."""
    words = [
        encode("add", rd=20, rs1=20, rs2=25), encode("and", rd=20, rs1=20, rs2=23), csr("satp", "csrrw", 0, 20),
        encode("ld", rd=5, rs1=8, imm=0), encode("add", rd=6, rs1=6, rs2=5), encode("sd", rs2=6, rs1=8, imm=8),
        encode("ld", rd=7, rs1=9, imm=0), encode("xori", rd=7, rs1=7, imm=1024), encode("sd", rs2=7, rs1=9, imm=0),
        encode("sfence.vma", rs1=8, rs2=0), encode("jal", rd=0, imm=-40),
    ]  # fmt: skip
    worlds = both()
    for each in worlds:
        start(each, st.S, _CODE_BITS + [R | W | A | D] * DATA_PAGES, words)
        hart, last = each.hart, (each.hart.xs[20] & st.PPN_MASK) << 12
        for level in (30, 21):
            last = (hart.bus.read(last + 8 * (ALIAS >> level & 511), 8) >> 10) << 12
        hart.xs[9], hart.xs[25] = last + 8 * CODE_PAGES, 1 << st.ASID_SHIFT
        hart.xs[23] = st.MASK & ~(0xFFF8 << st.ASID_SHIFT)  # ASIDs 0 to 7
        for n in (0, 1):
            hart.bus.write(DATA + n * 4096, 8, 5 + n)
        each.harts.run(1000)
    assert worlds[0].state() == worlds[1].state()
    native = worlds[1].hart
    assert native.steps == {} and native.traps_taken == 0 and native.xs[6] > 90 * 5


def test_what_follows_a_write_of_satp_is_fetched_from_the_new_space() -> None:
    worlds = both()
    for each in worlds:
        start(each, st.S, [R | X | A | D] * CODE_PAGES + _DATA_BITS, [csr("satp", "csrrw", 0, 21), encode("addi", rd=5, rs1=5, imm=1)])
        each.put(CODE + 4096, encode("addi", rd=0, rs1=0, imm=0), encode("addi", rd=5, rs1=5, imm=100), encode("jal", rd=0, imm=0))
        second = (each.hart.xs[21] & st.PPN_MASK) << 12
        for level in (30, 21):
            second = (each.hart.bus.read(second + 8 * (ALIAS >> level & 511), 8) >> 10) << 12
        each.hart.bus.write(second, 8, leaf(CODE + 4096, R | X | A | D))
        each.hart.cpu[at.PC] = ALIAS
        each.harts.run(20)
    assert worlds[0].state() == worlds[1].state()
    assert worlds[1].hart.xs[5] == 100 and worlds[1].hart.steps == {}


def test_code_that_changed_under_another_mapping_is_seen_after_its_fence() -> None:
    words = [
        encode("addi", rd=5, rs1=5, imm=1), encode("sw", rs2=6, rs1=27, imm=0), encode("fence.i"),
        encode("jal", rd=0, imm=-12),
    ]  # fmt: skip
    worlds = both()
    for each in worlds:
        start(each, st.S, _CODE_BITS + _DATA_BITS, words)
        each.hart.xs[6] = encode("addi", rd=5, rs1=5, imm=100)
        each.harts.run(40)
    assert worlds[0].state() == worlds[1].state()
    assert worlds[1].hart.xs[5] == 1 + 9 * 100 and worlds[1].hart.steps == {}


def test_instruction_in_two_pages_is_the_one_that_both_halves_make_now() -> None:
    """Its second half is another one in each space; between them, the page of the first half stays."""
    add = encode("addi", rd=5, rs1=5, imm=1)
    other = encode("addi", rd=5, rs1=5, imm=256 + 1)  # differs in its upper half
    assert add & 0xFFFF == other & 0xFFFF
    worlds = both()
    for each in worlds:
        start(each, st.S, [R | X | A | D] * CODE_PAGES + _DATA_BITS, [])
        bus, hart = each.hart.bus, each.hart
        second = (hart.xs[21] & st.PPN_MASK) << 12
        for level in (30, 21):
            second = (bus.read(second + 8 * (ALIAS >> level & 511), 8) >> 10) << 12
        bus.write(second + 8, 8, leaf(CODE + 0x2000, R | X | A | D))
        for page, word in ((0x1000, add), (0x2000, other)):
            bus.write(CODE + page, 2, word >> 16)
            bus.write(CODE + page + 2, 4, encode("jalr", rd=0, rs1=7, imm=0))
        hart.xs[7], hart.xs[23] = ALIAS + 4094 - 10, hart.xs[20] ^ hart.xs[21]
        for offset, word in ((-10, encode("xor", rd=20, rs1=20, rs2=23)), (-6, csr("satp", "csrrw", 0, 20))):
            bus.write(CODE + 4094 + offset, 4, word)
        bus.write(CODE + 4094 - 2, 2, 1)  # c.nop
        bus.write(CODE + 4094, 2, add & 0xFFFF)
        hart.cpu[at.PC] = ALIAS + 4094 - 10
        each.harts.run(500)
    assert worlds[0].state() == worlds[1].state()
    hart = worlds[1].hart
    assert hart.xs[5] == 50 * (1 + 257) and hart.steps.get("in two pages", 0) <= 4


def test_register_that_branches_on_a_value_cannot_be_native() -> None:
    """Else native code would have one of the two meanings for ever."""
    each = TABLE[NUMBERS["sscratch"]]._replace(read=lambda m: 1 if m.word(at.MIE) else 0)
    with pytest.raises(TypeError, match="cannot depend on a value"):
        system._Read().lower(each)
