"""Loads and stores through random tables of both stages, on a hart of ours and on qemu-system-riscv64: values, causes, trap values,
guest physical addresses, and the accessed and dirty bits of both stages.

A program in M-mode accesses a guest's memory (hlv, hsv); its handler notes what it is told and goes on behind the access. The first
stage's tables are those of test_riscv_qemu_system. QEMU 7.2 takes satp's mode for vsatp's when it names a fault, so they are alike here;
for hlv and hsv it takes vsstatus.SUM to be set and MXR clear, so they are (tests/unit/test_riscv_hypervisor.py has the rest).
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
import test_riscv_qemu_system as one

from trapline.machine.riscv import status as st
from trapline.machine.riscv.csr import NUMBERS
from trapline.machine.riscv.isa.decode import encode
from trapline.machine.riscv.trap import LOAD_GUEST_PAGE, READ_PSEUDO, WRITE_PSEUDO

pytestmark = pytest.mark.skipif(not one.QEMU, reason="no qemu-system-riscv64")

BASE, TABLES, CASES, HANDLER = one.BASE, one.TABLES, one.CASES, one.HANDLER
SECOND = BASE + 0x11_4000  #: tables of the second stage: four pages of root, one for each level below, two of leaves
LOG = SECOND + 0x8000
COUNT, WORDS = 400, 5  #: accesses; words logged for each
V, R, W, X, U, A, D = (1 << n for n in (0, 1, 2, 3, 4, 6, 7))
ALL = V | R | W | X | U | A | D


def _flags(rng: random.Random, gpa: int) -> int:
    """What the second stage allows with a page: mostly everything, little where the program is and its log."""
    if TABLES <= gpa < SECOND:
        return rng.choice((*[ALL] * 20, 0))  # QEMU does not ask whether an entry may be written
    if gpa < BASE + 0x20_0000:
        return rng.choice((ALL & ~W, V | R | U | A | D, 0))
    sound = V | R | W | X | U | rng.getrandbits(2) << 6
    return rng.choice((*[sound] * 8, 0, sound & ~U, sound & ~W, V | X | U | A | D, sound & ~R, V | R | U))


def _second(rng: random.Random, levels: int) -> bytes:
    """The tables: 4 MiB from BASE on, one to one or to another page of the data."""
    words = [0] * (512 * (4 + levels - 2 + 2))
    table = 0
    for level in range(levels - 1, 0, -1):
        index = BASE >> 12 + 9 * level & (2047 if level == levels - 1 else 511)
        below = 4 + (levels - 1 - level)
        for n in range(2 if level == 1 else 1):
            words[512 * table + index + n] = SECOND + 4096 * (below + n) >> 12 << 10 | V
        table = below
    for page in range(1024):
        gpa = pa = BASE + 4096 * page
        if gpa >= BASE + 0x22_0000:
            pa = rng.choice((gpa, BASE + 0x22_0000 + 4096 * rng.randrange(16)))
        words[512 * table + page] = pa >> 12 << 10 | _flags(rng, gpa)
    return struct.pack(f"<{len(words)}Q", *words)


def _cases(rng: random.Random, levels: int) -> list[tuple[int, int, int, bool]]:
    """(mstatus and hstatus, vsstatus, address, is a store)."""
    found = []
    for _ in range(COUNT):
        address = sum(rng.randrange(8) << (12 + 9 * level) for level in range(levels)) | rng.randrange(512) << 3
        if BASE <= address < BASE + 0x1_0000:
            address += 1 << 16
        if rng.random() < 0.05:
            address |= 1 << rng.randrange(11 + 9 * levels, 64)
        status = rng.choice((0, st.SPVP)) | rng.choice((0, 0, st.MXR))
        found.append((status, st.SUM, address, rng.random() < 0.4))
    return found


def _constant(rd: int, value: int) -> list[int]:
    """Any 64 bits, eight at a time."""
    words = [encode("addi", rd=rd)]
    for shift in range(56, -1, -8):
        words += [encode("slli", rd=rd, rs1=rd, imm=8), encode("ori", rd=rd, rs1=rd, imm=value >> shift & 255)]
    return words


def _set(name: str, value: int) -> list[int]:
    return [*_constant(5, value), one._write(name, 5)]


def _program(first: int, second: int, cases: list[tuple[int, int, int, bool]], end: int) -> list[int]:
    config = st.PBMTE | st.ADUE
    words = [*_set("mtvec", HANDLER), *_set("pmpaddr0", (1 << 54) - 1), *_set("pmpcfg0", 31), *_set("menvcfg", config), *_set("henvcfg", config)]
    words += [*_set("satp", first << 60), *_set("vsatp", first << 60 | TABLES >> 12), *_set("hgatp", second << 60 | SECOND >> 12)]
    words += [*_constant(6, CASES), *_constant(8, LOG)]
    for *_, store in cases:
        words += [encode("ld", rd=rd, rs1=6, imm=8 * n) for n, rd in enumerate((5, 7, 10))]
        words += [encode("addi", rd=6, rs1=6, imm=24), *[encode("addi", rd=n, imm=-1) for n in range(11, 16)]]
        words += [encode("hfence.vvma"), encode("hfence.gvma"), one._write("vsstatus", 7), one._write("mstatus", 5), one._write("hstatus", 5)]
        words += [encode("hsv.d", rs1=10, rs2=6) if store else encode("hlv.d", rd=11, rs1=10), one._write("mstatus", 0)]
        words += [encode("sd", rs1=8, rs2=11 + n, imm=8 * n) for n in range(WORDS)] + [encode("addi", rd=8, rs1=8, imm=8 * WORDS)]
    words += [*_constant(6, TABLES), *_constant(8, one.UART), *_constant(7, end), encode("lbu", rd=5, rs1=6), encode("sb", rs1=8, rs2=5)]
    words += [encode("addi", rd=6, rs1=6, imm=1), encode("bltu", rs1=6, rs2=7, imm=-12)]
    return [*words, *_constant(8, one.FINISHER), *_constant(5, one.PASS), encode("sw", rs1=8, rs2=5), encode("jal")]


def _handler() -> list[int]:
    """x12 to x15: cause, trap value, guest physical address, and instruction."""
    names = ("mcause", "mtval", "mtval2", "mtinst", "mepc")
    words = [encode("csrrs", rd=rd, csr=NUMBERS[name]) for rd, name in enumerate(names, 12)]
    return [*words, encode("addi", rd=16, rs1=16, imm=4), one._write("mepc", 16), encode("mret")]


def _told(record: tuple[int, ...]) -> tuple[int, ...]:
    """What must be alike: QEMU 7.2 transforms no instruction, and calls a fault of a walk's own access one of a load."""
    value, cause, address, gpa, instruction = record
    implicit = instruction in (READ_PSEUDO, WRITE_PSEUDO)
    return value, LOAD_GUEST_PAGE if implicit else cause, address, gpa, instruction if implicit else 0


@pytest.mark.parametrize(("first", "second"), [(8, 8), (8, 9), (9, 8), (10, 10)], ids=["39-39x4", "39-48x4", "48-39x4", "57-57x4"])
def test_accesses_through_random_tables_of_both_stages(first: int, second: int, tmp_path: Path) -> None:
    rng = random.Random(f"{first} {second}")
    levels, end = first - 5, LOG + 8 * WORDS * COUNT
    cases = _cases(rng, levels)
    program = _program(first, second, cases, end)
    image = bytearray(one.SIZE)
    for address, data in (
        (BASE, struct.pack(f"<{len(program)}I", *program)), (HANDLER, struct.pack("<8I", *_handler())),
        (TABLES, one._tables(rng, levels)), (SECOND, _second(rng, second - 5)),
        (CASES, b"".join(struct.pack("<QQQ", *each[:3]) for each in cases)), (BASE + 0x22_0000, rng.randbytes(0x10000)),
    ):  # fmt: skip
        image[address - BASE : address - BASE + len(data)] = data
    ours, theirs = one._ours(image), one._theirs(image, tmp_path)
    assert len(ours) == len(theirs) == end - TABLES
    differ, seen = [], set()
    for n, (status, guests, va, store) in enumerate(cases):
        records = [struct.unpack_from(f"<{WORDS}Q", each, LOG - TABLES + 8 * WORDS * n) for each in (ours, theirs)]
        seen.add(records[0][1])
        if _told(records[0]) != _told(records[1]):
            differ.append((n, hex(status), hex(guests), hex(va), store, *[list(map(hex, each)) for each in records]))
    assert differ == [], f"{len(differ)}: {differ[:6]}"
    assert len(seen) > 2, seen
    assert one._settled(ours) == one._settled(theirs)
    assert ours[SECOND - TABLES : LOG - TABLES] == theirs[SECOND - TABLES : LOG - TABLES]
