"""Fetches, protection and two stages of translation: probes on random tables and regions, as qemu-system-riscv64 answers them.

Loads and stores through one stage are test_riscv_qemu_system's.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from riscv_bare import BASE, DATA, LANDING, PROBES, QEMU, TABLES, Probe, address, compare, csr, report

from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv.isa.decode import encode

pytestmark = pytest.mark.skipif(not QEMU, reason="no qemu-system-riscv64")

# ---- fetching through page tables

LEVELS = {st.SV39_MODE: 3, st.SV48_MODE: 4, st.SV57_MODE: 5}
#: A gigabyte where neither machine has anything. (Nothing smaller leads there: QEMU aborts where an instruction ends in such a page.)
ABSENT = 0xC000_0000
SUPERPAGE = LANDING & -(2 << 20)
FIRST = (LANDING - SUPERPAGE) >> 12  #: the lowest index of a last-level table that is used
PAGES = 8
#: What is there: pages of ecalls, and pages of ecalls that begin in the middle of a word.
FETCHED = {LANDING + 4096 * n: struct.pack("<I", 0x73 if n % 2 == 0 else 0x73_0000) * 1024 for n in range(PAGES + 1)}


def _leaf(rng: random.Random, level: int) -> int:
    """A leaf, mostly sound. Gigabytes and more lead nowhere, or are misaligned."""
    frame = rng.choice((ABSENT, LANDING)) if level > 1 else rng.choice((SUPERPAGE,) * 6 + (LANDING,)) if level else None
    if frame is None:
        frame = LANDING + 4096 * rng.randrange(PAGES)
    rights = rng.choice((0b100, 0b101, 0b111, 0b111, 0b101, 0b011, 0b001, 0b010, 0b110)) << 1
    entry = frame >> 12 << 10 | rights | (rng.random() < 0.95) | rng.getrandbits(1) << 4 | rng.getrandbits(5) << 5
    return entry | rng.choice((0,) * 8 + (1 << 63, 1 << 61, 2 << 61))  # QEMU lets the reserved bits 54 to 60 pass


def _tables(rng: random.Random, levels: int) -> bytes:
    """A root, and for each level below it three tables."""
    words = [0] * (512 * (1 + 3 * (levels - 1)))
    for table in range(1 + 3 * (levels - 1)):
        depth = (table + 2) // 3
        level = levels - 1 - depth
        for index in range(PAGES):
            entry = _leaf(rng, level)
            if level and rng.random() < 0.75:
                entry = TABLES + 4096 * (1 + 3 * depth + rng.randrange(3)) >> 12 << 10 | 1
                entry |= rng.choice((0,) * 8 + (1 << 4, 1 << 6, 1 << 7, 1 << 5, 1 << 63, 1 << 61, 1 << 8))
            words[512 * table + index + (0 if level else FIRST)] = entry
    return struct.pack(f"<{len(words)}Q", *words)


@pytest.mark.parametrize("mode", LEVELS, ids=["Sv39", "Sv48", "Sv57"])
def test_fetches(mode: int, tmp_path: Path) -> None:
    """Instructions on pages of every kind, some across two: what is executed, or cause, trap value and pc."""
    rng, levels = random.Random(mode), LEVELS[mode]
    probes = []
    for _ in range(1200):
        indices = [FIRST + rng.randrange(PAGES), *(rng.randrange(PAGES) for _ in range(levels - 1))]
        where = sum(index << 12 + 9 * level for level, index in enumerate(indices))
        where |= rng.choice((0, 2, 4, 0xFFC, 0xFFE, 0xFFE, rng.randrange(0, 4096, 2)))
        if rng.random() < 0.03:
            where |= 1 << rng.randrange(11 + 9 * levels, 64)
        status = rng.choice((0, st.SUM, st.MXR))
        satp = mode << st.MODE_SHIFT | TABLES >> 12
        probes.append(Probe(
            (), rng.choice((st.U, st.S)), mstatus=status, satp=satp, menvcfg=st.ADUE | st.PBMTE, at=where,
        ))  # fmt: skip
    differ = [each for each in compare(probes, tmp_path, {TABLES: _tables(rng, levels), **FETCHED}) if each[1] != each[2]]
    report(differ)


# ---- protection

def _napot(start: int, size: int) -> int:
    return start >> 2 | (size >> 3) - 1


def _set_address(n: int, value: int) -> list[int]:
    return [*address(5, value & -4096), encode("addi", rd=6, imm=value >> 6 & 63), encode("slli", rd=6, rs1=6, imm=6),
            encode("addi", rd=6, rs1=6, imm=value & 63), encode("or", rd=5, rs1=5, rs2=6), csr("w", f"pmpaddr{n}", rs1=5)]  # fmt: skip


def _config(*entries: int) -> int:
    return sum(each << 8 * n for n, each in enumerate(entries))


def _protected(secure: int) -> Probe:
    """The first probe: entries 10 to 13 let the driver live (code, devices, slots, probes), and mseccfg says what it will."""
    code = []
    for n, value in enumerate((_napot(BASE, 0x4000), _napot(0, 1 << 31), _napot(BASE, 2 << 20), _napot(PROBES, 1 << 20))):
        code += _set_address(10 + n, value)
    every, locked = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.NAPOT | pmp.LOCK
    before = [0, 0, *([every] * 4)]
    if secure & st.MML:
        before = [0, 0, locked | pmp.R | pmp.X, locked | pmp.R | pmp.W, locked | pmp.R | pmp.W, locked | pmp.R | pmp.X]
    for value in (st.RLB, secure | st.RLB):
        code += [encode("addi", rd=5, imm=value), csr("w", "mseccfg", rs1=5), csr("w", "pmpcfg2", rs1=10)]
    return Probe((*code, csr("s", "mseccfg", rd=11), csr("s", "pmpcfg2", rd=12)), st.M, (_config(*before),))


def _entry(rng: random.Random, step: int, secure: int) -> tuple[int, int]:
    """(address, configuration): where `step` divides its bounds."""
    where = DATA + rng.randrange(0, 0x8000, step)
    mode = rng.choice((pmp.OFF, pmp.TOR, pmp.TOR, pmp.NA4, pmp.NAPOT, pmp.NAPOT) if step == 4 else (pmp.OFF, pmp.TOR, pmp.TOR, pmp.NAPOT))
    size = max(8, step) << rng.randrange(13 if step == 4 else 3)
    config = rng.choice((0, 1, 3, 4, 5, 7)) | mode
    if secure & st.MML:
        config = rng.randrange(8) | mode | rng.choice((0, pmp.LOCK))
    return (_napot(where & -size, size) if mode == pmp.NAPOT else where >> 2), config


def _protection_probe(rng: random.Random, secure: int) -> Probe:
    kind, priv = rng.choice(("load", "load", "store", "store", "fetch")), rng.choice((st.U, st.S, st.M))
    entries = [_entry(rng, 4096 if kind == "fetch" else 4, secure) for _ in range(4)]
    if entries[0][1] & pmp.MODE == pmp.TOR:  # from address 0, where the driver is too
        entries[0] = entries[0][0], entries[0][1] & ~pmp.MODE
    code = [csr("w", "pmpcfg0"), *(word for n, each in enumerate(entries) for word in _set_address(n, each[0]))]
    code += [csr("w", "pmpcfg0", rs1=10), csr("s", "pmpcfg0", rd=10), *address(5, 0x1000), encode("srli", rd=6, rs1=5, imm=1)]
    code += [encode("or", rd=5, rs1=5, rs2=6), csr("c", "mstatus", rs1=5), csr("s", "mstatus", rs1=11)]
    status, size = priv << st.MPP_SHIFT, rng.choice((1, 2, 4, 8))
    where = DATA + rng.randrange(-0x1000, 0x9000, 4 if kind == "fetch" else size)
    if kind == "fetch":
        code += [csr("w", "mepc", rs1=12), encode("mret")]
    else:
        letter, status = {1: "b", 2: "h", 4: "w", 8: "d"}[size], status | st.MPRV
        code.append(encode("l" + letter, rd=13, rs1=12) if kind == "load" else encode("s" + letter, rs1=12, rs2=13))
        code.append(csr("w", "mstatus"))
    return Probe(tuple(code), st.M, (_config(*(config for _, config in entries)), status, where, 5))


@pytest.mark.parametrize("secure", [0, st.MMWP, st.MML, st.MML | st.MMWP], ids=["plain", "MMWP", "MML", "MML-MMWP"])
def test_protection(secure: int, tmp_path: Path) -> None:
    """Loads, stores and fetches of each mode under four random entries (locked ones with MML: rule locking bypassed, QEMU ignores them)."""
    rng = random.Random(secure)
    probes = [_protected(secure), *(_protection_probe(rng, secure) for _ in range(400))]
    memory = {DATA - 0x1000: struct.pack("<I", encode("ecall")) * 0x2C00}
    report([each for each in compare(probes, tmp_path, memory) if each[1] != each[2]])


# ---- protection of page tables

WALKED = 0x4000_0000  #: where S- and U-mode see DATA, through three levels of tables
MAPPED = 8


def _walk_probe(rng: random.Random) -> Probe:
    """A load or store of S- or U-mode through tables of which some entries cannot be read."""
    size, page = rng.choice((1, 2, 4, 8)), rng.randrange(MAPPED)
    where, entry = WALKED + 4096 * page + rng.randrange(0, 4096, size), TABLES + 0x2000 + 8 * page
    code = [csr("w", "pmpcfg0"), encode("sd", rs1=5, rs2=13)]  # the entry anew, without the bits that the access before has set
    code[:0] = address(5, entry)
    for n in range(4):
        spot = rng.choice((TABLES, TABLES + 0x1000, TABLES + 0x2000, DATA, DATA + 4096 * page)) + rng.choice((0, 8, 16, 64, 4096))
        size_log = rng.randrange(3, 14)
        code += _set_address(n, _napot(spot & -(1 << size_log), 1 << size_log))
    config = _config(*(rng.choice((0, 3, 3, 4, 7)) | rng.choice((pmp.OFF, pmp.NAPOT, pmp.NAPOT, pmp.NA4)) for _ in range(4)))
    code += [csr("w", "pmpcfg0", rs1=10), encode("sfence.vma"), csr("w", "mstatus", rs1=11)]
    letter = {1: "b", 2: "h", 4: "w", 8: "d"}[size]
    code.append(encode("l" + letter, rd=13, rs1=12) if rng.random() < 0.6 else encode("s" + letter, rs1=12, rs2=13))
    code += [csr("w", "mstatus"), csr("w", "pmpcfg0"), *address(5, entry), encode("ld", rd=13, rs1=5)]
    user = rng.getrandbits(1)
    leaf = DATA + 4096 * page >> 12 << 10 | rng.choice((7, 7, 7, 3)) | user << 4 | rng.choice((0, 1, 3, 3)) << 6
    status = st.MPRV | rng.choice((st.U, st.S)) << st.MPP_SHIFT | rng.choice((0, st.SUM))
    satp = st.SV39_MODE << st.MODE_SHIFT | TABLES >> 12
    return Probe(tuple(code), st.M, (config, status, where, leaf), satp=satp, menvcfg=st.ADUE)


def test_protected_tables(tmp_path: Path) -> None:
    """What a walk may not read is an access fault of the access it is for; what it may is left as it should be, bits A and D set."""
    rng = random.Random(40)
    probes = [_walk_probe(rng) for _ in range(900)]
    pointers = struct.pack("<Q", TABLES + 0x1000 >> 12 << 10 | 1), struct.pack("<Q", TABLES + 0x2000 >> 12 << 10 | 1)
    report([each for each in compare(probes, tmp_path, {TABLES + 8: pointers[0], TABLES + 0x1000: pointers[1]}) if each[1] != each[2]])



# ---- two stages of translation

G_ROOT, G_TABLES, VS_FRAMES = TABLES, TABLES + 0x4000, TABLES + 0x1_0000  #: Sv39x4's root is four pages
GUEST_PAGES = 24  #: guest-physical pages 0 to 5 are the guest's tables, the others its data
SUPER = DATA & -(2 << 20)


def _second_stage(rng: random.Random) -> dict[int, bytes]:
    """Guest-physical to physical: pages below GUEST_PAGES one by one, mostly soundly; then superpages, some misaligned."""
    root, middle, last = [0] * 2048, [0] * 512, [0] * 512
    root[0] = G_TABLES >> 12 << 10 | 1
    root[1] = rng.choice((SUPER >> 12 << 10 | 0xDF, 0))  # a misaligned gigapage, or nothing
    middle[0] = G_TABLES + 0x1000 >> 12 << 10 | 1
    for index in range(1, 4):
        middle[index] = rng.choice((SUPER, SUPER, SUPER + 0x1000)) >> 12 << 10 | rng.choice((0xDF, 0xD7, 0xCF, 0x1F, 0x13))
    for page in range(GUEST_PAGES):
        frame = VS_FRAMES + 4096 * page if page < 6 else DATA + 4096 * rng.randrange(16)
        flaws = (0,) * (24 if page < 6 else 4)
        last[page] = frame >> 12 << 10 | (0xDF ^ rng.choice((*flaws, 1, 2, 4, 8, 16, 64, 128, 192, 0xC)))
    return {G_ROOT: struct.pack("<2048Q", *root), G_TABLES: struct.pack("<512Q", *middle), G_TABLES + 0x1000: struct.pack("<512Q", *last)}


def _first_stage(rng: random.Random) -> dict[int, bytes]:
    """The guest's root, two tables below it and three below those."""
    found = {}
    for table in range(6):
        words = [0] * 512
        for index in range(8):
            page = rng.choice((*range(6, GUEST_PAGES), 40, 1 << 9, 1 << 18, 1 << 29))
            if table == 0 or (table < 3 and rng.random() < 0.8):
                page, rights = (1 + rng.randrange(2) if table == 0 else 3 + rng.randrange(3)), 1
            else:
                page = page & -512 if table < 3 else page
                rights = 0xCF ^ rng.choice((0, 0, 0, 0, 1, 2, 4, 8, 64, 128, 0xC0, 6)) ^ rng.getrandbits(1) << 4
            words[index] = page << 10 | rights
        found[VS_FRAMES + 4096 * table] = struct.pack("<512Q", *words)
    return found


@pytest.mark.parametrize("seed", range(2))
def test_two_stages(seed: int, tmp_path: Path) -> None:
    """Accesses as a guest's (hlv, hsv) through both stages: values, or causes, both addresses, the instruction that a hypervisor is shown.

    Not what QEMU 7.2 has otherwise than the manual: hlvx (it does not ask for the right to execute), vsstatus.SUM and MXR (it looks
    at neither for hlv), pages of the second stage that can only be executed (MXR does not make them readable there).
    """
    rng = random.Random(60 + seed)
    tables = _second_stage(rng) | _first_stage(rng)
    probes = []
    for _ in range(900):
        size = rng.choice("bhwd")
        where = sum(rng.randrange(8) << 12 + 9 * level for level in range(3)) | rng.randrange(512) << 3
        load, store = encode("hlv." + size, rd=10, rs1=12), encode("hsv." + size, rs1=12, rs2=13)
        word = rng.choice((load, load, store))
        bare = rng.random() < 0.2
        where = rng.randrange(GUEST_PAGES + 4) << 12 | rng.randrange(512) << 3 if bare else where
        probes.append(Probe(
            (word,), st.M, (0, 0, where, rng.getrandbits(64)), mstatus=rng.choice((0, st.MXR)), menvcfg=st.ADUE, henvcfg=st.ADUE,
            hstatus=rng.choice((0, st.SPVP)), vsstatus=st.SUM, hgatp=st.SV39_MODE << st.MODE_SHIFT | G_ROOT >> 12,
            vsatp=0 if bare else st.SV39_MODE << st.MODE_SHIFT, satp=st.SV39_MODE << st.MODE_SHIFT,  # if satp is Bare, QEMU's are access faults
        ))  # fmt: skip
    differ = []
    for probe, a, b in compare(probes, tmp_path, tables):
        walked = a.h[1] in (0x3000, 0x3020)  # the pseudo-instructions of a walk's own accesses
        cause = a.cause if walked and {a.cause, b.cause} == {21, 23} else b.cause  # that of the access, not of the walk's
        shown = b.h[1] if walked or b.h[1] else a.h[1]  # zero is legal, otherwise
        right = b._replace(cause=cause, mstatus=b.mstatus | a.mstatus & st.GVA, h=(b.h[0], shown, *b.h[2:]))  # hlv is a guest's, too
        if a != right:
            differ.append((probe, a, b))
    report(differ)
