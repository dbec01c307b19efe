"""Loads and stores through random page tables, on a hart of ours and on qemu-system-riscv64: values, causes, trap values, A and D bits.

A program in M-mode borrows the rights of U- or S-mode (mstatus.MPRV) for each access; its handler notes mcause and mtval and goes on
behind the access. The log and the tables are compared afterwards; QEMU's come out through its UART.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.bus import Bus, Halt
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.csr import NUMBERS
from trapline.machine.riscv.hart import Hart
from trapline.machine.riscv.isa.decode import encode

QEMU = shutil.which("qemu-system-riscv64") or ""
pytestmark = pytest.mark.skipif(not QEMU, reason="no qemu-system-riscv64")

BASE = 0x8000_0000
TABLES, CASES, LOG, HANDLER = BASE + 0x10_0000, BASE + 0x18_0000, BASE + 0x11_2000, BASE + 0x8_0000
SIZE = 0x28_0000  #: bytes of memory that the program's file fills
UART, FINISHER, PASS = 0x1000_0000, 0x10_0000, 0x5555
COUNT = 400
#: Where leaves lead: pages of data, a superpage of them, and places where both machines have nothing.
FRAMES = (*(BASE + 0x22_0000 + 0x1000 * n for n in range(16)), *[BASE + 0x20_0000] * 6, *[0x9000_0000] * 2, *[0xC000_0000] * 2)
CPU = "rv64,svpbmt=true,svnapot=true"


def _entry(rng: random.Random, pointer_to: int | None) -> int:
    """A page-table entry: mostly sound, with one thing or another wrong."""
    if pointer_to is not None and rng.random() < 0.7:
        entry = pointer_to >> 12 << 10 | 1
        return entry | rng.choice((0, 0, 0, 1 << 4, 1 << 6, 1 << 7, 1 << 5, 1 << 63, 1 << 61, 1 << 8))
    frame = rng.choice((*FRAMES, BASE))
    rights = rng.choice((0b111, 0b011, 0b001, 0b101, 0b100, 0b010, 0b110, 0b111, 0b111)) << 1
    if frame == BASE:  # program and tables are there
        rights = rights & ~0b100 or 0b010
    entry = frame >> 12 << 10 | rights | (rng.random() < 0.95) | rng.getrandbits(1) << 4 | rng.getrandbits(2) << 6 | rng.getrandbits(3) << 8
    return entry | rng.choice((0, 0, 0, 0, 1 << 63, 1 << 61))  # QEMU lets memory type 3, which is reserved, pass


def _tables(rng: random.Random, levels: int) -> bytes:
    """A root, and for each level below it four tables, in one block."""
    words = [0] * (512 * (1 + 4 * (levels - 1)))
    for table in range(1 + 4 * (levels - 1)):
        depth = 0 if table == 0 else 1 + (table - 1) // 4
        for index in range(8):
            below = None if depth == levels - 1 else TABLES + 4096 * (1 + 4 * depth + rng.randrange(4))
            words[512 * table + index] = _entry(rng, below)
    return struct.pack(f"<{len(words)}Q", *words)


def _cases(rng: random.Random, levels: int) -> list[tuple[int, int, bool]]:
    """(mstatus, address, is a store)."""
    found = []
    for _ in range(COUNT):
        address = sum(rng.randrange(8) << (12 + 9 * level) for level in range(levels)) | rng.randrange(512) << 3
        if BASE <= address < BASE + 0x1_0000:  # QEMU reads there as M-mode would, having just fetched from it
            address += 1 << 16
        if rng.random() < 0.05:
            address |= 1 << rng.randrange(11 + 9 * levels, 64)
        status = st.MPRV | rng.choice((st.U, st.S)) << st.MPP_SHIFT | rng.choice((0, st.SUM)) | rng.choice((0, st.MXR))
        found.append((status, address, rng.random() < 0.4))
    return found


def _li(rd: int, address: int) -> list[int]:
    """An address between 2 and 4 GiB, or below."""
    words = [encode("lui", rd=rd, imm=(address >> 12 << 12 ^ 1 << 31) - (1 << 31))]
    return [*words, encode("slli", rd=rd, rs1=rd, imm=32), encode("srli", rd=rd, rs1=rd, imm=32)]


def _write(name: str, rs1: int) -> int:
    return encode("csrrw", csr=NUMBERS[name], rs1=rs1)


def _program(mode: int, cases: list[tuple[int, int, bool]], sent: int) -> list[int]:
    words = [*_li(5, HANDLER), _write("mtvec", 5), encode("addi", rd=5, imm=-1), _write("pmpaddr0", 5), encode("addi", rd=5, imm=31)]
    words += [_write("pmpcfg0", 5), encode("addi", rd=5, imm=mode), encode("slli", rd=5, rs1=5, imm=60), *_li(6, TABLES)]
    words += [encode("srli", rd=6, rs1=6, imm=12), encode("or", rd=5, rs1=5, rs2=6), _write("satp", 5), encode("sfence.vma")]
    words += [encode("addi", rd=5, imm=1), encode("slli", rd=5, rs1=5, imm=62), encode("csrrs", csr=NUMBERS["menvcfg"], rs1=5)]
    words += [*_li(6, CASES), *_li(8, LOG)]
    for _, _, store in cases:
        words += [encode("ld", rd=5, rs1=6), encode("ld", rd=10, rs1=6, imm=8), encode("addi", rd=6, rs1=6, imm=16)]
        words += [encode("addi", rd=n, imm=-1) for n in (11, 12, 13)]
        words += [_write("mstatus", 5), encode("sd", rs1=10, rs2=6) if store else encode("ld", rd=11, rs1=10), _write("mstatus", 0)]
        words += [encode("sd", rs1=8, rs2=n, imm=8 * (n - 11)) for n in (11, 12, 13)] + [encode("addi", rd=8, rs1=8, imm=24)]
    words += [*_li(6, TABLES), *_li(8, UART), *_li(7, sent), encode("add", rd=7, rs1=7, rs2=6)]
    words += [encode("lbu", rd=5, rs1=6), encode("sb", rs1=8, rs2=5), encode("addi", rd=6, rs1=6, imm=1), encode("bltu", rs1=6, rs2=7, imm=-12)]
    return [*words, *_li(8, FINISHER), *_li(5, PASS), encode("ori", rd=5, rs1=5, imm=PASS & 0x7FF), encode("sw", rs1=8, rs2=5), encode("jal")]


def _image(mode: int, levels: int, rng: random.Random) -> tuple[bytearray, int]:
    cases = _cases(rng, levels)
    sent = LOG + 24 * COUNT - TABLES + 4095 & -4096
    program = _program(mode, cases, sent)
    handler = [encode("csrrs", rd=12, csr=NUMBERS["mcause"]), encode("csrrs", rd=13, csr=NUMBERS["mtval"])]
    handler += [encode("csrrs", rd=14, csr=NUMBERS["mepc"]), encode("addi", rd=14, rs1=14, imm=4), _write("mepc", 14), encode("mret")]
    image = bytearray(SIZE)
    for address, data in (
        (BASE, struct.pack(f"<{len(program)}I", *program)), (HANDLER, struct.pack("<6I", *handler)), (TABLES, _tables(rng, levels)),
        (CASES, b"".join(struct.pack("<QQ", status, address) for status, address, _ in cases)), (BASE + 0x22_0000, rng.randbytes(0x10000)),
    ):  # fmt: skip
        image[address - BASE : address - BASE + len(data)] = data
    return image, sent


class _Uart:
    size = 8

    def __init__(self) -> None:
        self.sent = bytearray()

    def read(self, offset: int, size: int) -> int:
        return 0x60

    def write(self, offset: int, size: int, value: int) -> None:
        self.sent.append(value)


class _Finisher:
    size = 4

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        raise Halt(value)


def _ours(image: bytearray) -> bytes:
    bus = Bus(Ram(16 << 20), BASE)
    uart = _Uart()
    bus.attach(UART, uart)
    bus.attach(FINISHER, _Finisher())
    bus.ram.mem[:SIZE] = image
    hart = Hart(bus, Code(bus))
    hart.reset(BASE)
    hart.cpu[at.MENVCFG] = st.ADUE
    with pytest.raises(Halt):
        for _ in range(200_000):
            hart.run(1_000_000)
    return bytes(uart.sent)


def _theirs(image: bytearray, tmp_path: Path) -> bytes:
    file, serial = tmp_path / "image", tmp_path / "serial"
    file.write_bytes(image)
    machine = ["-M", "virt", "-cpu", CPU, "-bios", "none", "-m", "128", "-display", "none", "-monitor", "none"]
    loader = ["-device", f"loader,file={file},addr={BASE:#x},force-raw=on"]
    subprocess.run([QEMU, *machine, *loader, "-serial", f"file:{serial}"], check=True, timeout=60)
    return serial.read_bytes()


def _settled(words: bytes) -> list[int]:
    """The tables, but A and D of NAPOT entries: QEMU sets them before it finds that one has no defined size."""
    return [word & ~(3 << 6) if word >> 63 else word for (word,) in struct.iter_unpack("<Q", words[: LOG - TABLES])]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("mode", "levels"), [(st.SV39_MODE, 3), (st.SV48_MODE, 4), (st.SV57_MODE, 5)], ids=["Sv39", "Sv48", "Sv57"])
def test_accesses_through_random_tables(mode: int, levels: int, seed: int, tmp_path: Path) -> None:
    image, sent = _image(mode, levels, random.Random(f"{mode} {seed}"))
    ours, theirs = _ours(image), _theirs(image, tmp_path)
    assert len(ours) == len(theirs) == sent
    differ = []
    cases = CASES - BASE
    for n in range(COUNT):
        start = LOG - TABLES + 24 * n
        if ours[start : start + 24] != theirs[start : start + 24]:
            status, address = struct.unpack_from("<QQ", image, cases + 16 * n)
            record = [[hex(word) for word in struct.unpack_from("<3Q", each, start)] for each in (ours, theirs)]
            differ.append((n, hex(status), hex(address), *record))
    assert differ == []
    assert _settled(ours) == _settled(theirs)
