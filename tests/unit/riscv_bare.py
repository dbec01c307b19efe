"""Probes: short pieces of bare-metal code, each run in a mode and with registers of its own, here and on qemu-system-riscv64.

A driver in M-mode takes one slot after the other: it sets the control registers as the slot says, enters the probe with mret, and
when that traps (every probe ends in an ecall) its handler notes how. S-mode's handler notes its own registers in s2, s3 and s4, and
calls M-mode. Memory is the image of one file, in which QEMU leaves its answers.
"""

from __future__ import annotations

import importlib.util
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from trapline.machine.riscv import status as st
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.csr import NUMBERS
from trapline.machine.riscv.firmware import Program
from trapline.machine.riscv.harts import HALTED
from trapline.machine.riscv.isa.decode import encode

QEMU = shutil.which("qemu-system-riscv64") or ""
BASE, MEMORY = 0x8000_0000, 8 << 20
START, MACHINE, SUPERVISOR, SLOTS, PROBES = BASE, BASE + 0x400, BASE + 0x1000, BASE + 0x10_0000, BASE + 0x30_0000
TABLES = BASE + 0x50_0000  #: what else an image may bring
CONTENT = 0x60_0000  #: bytes of the image that count: device trees go behind
SLOT, ANSWER = 512, 256  #: bytes of a slot, and where in it the answer begins
NOWHERE = 0x9000_0000  #: neither machine has anything there
FINISHER, ACLINT, PASS = 0x10_0000, 0x200_0000, 0x5555
NEVER = (1 << 64) - 1
TIERS = ("reference", "native") if importlib.util.find_spec("llvmlite") else ("reference",)
CPU = "rv64,svpbmt=true,svnapot=true,svinval=true,zbc=false,x-epmp=true"
DATA, LANDING = TABLES + 0x8_0000, TABLES + 0xA_0000  #: what probes write, and where they jump: ecalls
LANDINGS = {LANDING: struct.pack("<I", encode("ecall")) * 0x2800}
_SET = ("mstatus", "medeleg", "mideleg", "mie", "mip", "satp", "menvcfg", "mcounteren", "scounteren",
        "hstatus", "hedeleg", "hideleg", "hcounteren", "henvcfg", "hgatp", "vsatp", "vsstatus")  # fmt: skip


class Probe(NamedTuple):
    """`code` in mode `priv`, with a0 to a3 and the control registers set. `msip`, `mtimecmp`: of the ACLINT."""

    code: tuple[int, ...]
    priv: int = st.M
    args: tuple[int, ...] = ()
    mstatus: int = 0
    medeleg: int = 0
    mideleg: int = 0
    mie: int = 0
    mip: int = 0
    satp: int = 0
    menvcfg: int = 0
    mcounteren: int = 0
    scounteren: int = 0
    hstatus: int = 0
    hedeleg: int = 0
    hideleg: int = 0
    hcounteren: int = 0
    henvcfg: int = 0
    hgatp: int = 0
    vsatp: int = 0
    vsstatus: int = 0
    msip: int = 0
    mtimecmp: int = NEVER
    guest: bool = False  #: in VS- or VU-mode
    at: int = 0  #: where it begins in virtual memory, if not where it is in RAM


class Answer(NamedTuple):
    """How a probe ended; `offset`: of mepc from its beginning. `s`: scause, stval, sepc, if S-mode took a trap."""

    cause: int
    value: int
    offset: int
    mstatus: int
    a: tuple[int, ...]
    s: tuple[int, ...]
    h: tuple[int, ...]

    def __str__(self) -> str:
        a, s, h = (" ".join(hex(each) for each in words) for words in (self.a, self.s, self.h))
        return f"cause {self.cause:#x} value {self.value:#x} at +{self.offset} mstatus {self.mstatus:#x} a: {a} s: {s} h: {h}"


def csr(how: str, name: str | int, rd: int = 0, rs1: int = 0) -> int:
    return encode(f"csrr{how}", rd=rd, rs1=rs1, csr=NUMBERS[name] if isinstance(name, str) else name)


def address(rd: int, value: int) -> list[int]:
    """Load an address of 32 bits whose low twelve are less than 2048."""
    words = [encode("lui", rd=rd, imm=(value & -4096 ^ 1 << 31) - (1 << 31))]
    words += [encode("slli", rd=rd, rs1=rd, imm=32), encode("srli", rd=rd, rs1=rd, imm=32)]
    return [*words, encode("addi", rd=rd, rs1=rd, imm=value & 4095)]


def _next() -> list[int]:
    """x31 is the slot: go into its probe, or end the machine."""
    end = [*address(5, FINISHER), *address(6, PASS), encode("sw", rs1=5, rs2=6), encode("jal")]
    words = [encode("ld", rd=30, rs1=31), encode("bne", rs1=30, rs2=0, imm=4 * len(end) + 4), *end]
    words += [csr("w", "mepc", rs1=30)]
    for n, name in enumerate(_SET):
        words += [encode("ld", rd=5, rs1=31, imm=8 + 8 * n), csr("w", name, rs1=5)]
    n = 1 + len(_SET)
    words += [*address(6, ACLINT), encode("ld", rd=5, rs1=31, imm=8 * n), encode("sw", rs1=6, rs2=5)]
    words += [*address(6, ACLINT + 0x4000), encode("ld", rd=5, rs1=31, imm=8 * n + 8), encode("sd", rs1=6, rs2=5)]
    words += [encode("ld", rd=10 + each, rs1=31, imm=8 * (n + 2 + each)) for each in range(4)]
    words += [csr("w", "mscratch", rs1=31), encode("sfence.vma"), encode("fence.i"), *address(1, NOWHERE)]
    words += [encode("addi", rd=each, rs1=1) for each in range(2, 32) if not 10 <= each <= 13]
    return [*words, *(encode("addi", rd=each) for each in (18, 19, 20)), encode("mret")]


def _driver() -> dict[int, list[int]]:
    machine = [csr("w", "mscratch", rd=31, rs1=31)]
    saved = (10, 11, 12, 13, 18, 19, 20)
    machine += [encode("sd", rs1=31, rs2=each, imm=ANSWER + 32 + 8 * n) for n, each in enumerate(saved)]
    noted = *enumerate(("mcause", "mtval", "mepc", "mstatus")), *enumerate(("mtval2", "mtinst", "htval", "htinst", "hstatus"), 11)
    for n, name in noted:
        machine += [csr("s", name, rd=5), encode("sd", rs1=31, rs2=5, imm=ANSWER + 8 * n)]
    machine += [csr("w", name) for name in ("mstatus", "mie")] + [encode("addi", rd=31, rs1=31, imm=SLOT), *_next()]
    supervisor = [csr("s", name, rd=rd) for rd, name in ((18, "scause"), (19, "stval"), (20, "sepc"))] + [encode("ecall")]
    start = [*address(5, MACHINE), csr("w", "mtvec", rs1=5), *address(5, SUPERVISOR), csr("w", "stvec", rs1=5), csr("w", "vstvec", rs1=5)]
    start += [encode("addi", rd=5, imm=-1), csr("w", "pmpaddr15", rs1=5), encode("addi", rd=5, imm=31)]
    start += [encode("slli", rd=5, rs1=5, imm=56), csr("w", "pmpcfg2", rs1=5), *address(31, SLOTS)]
    return {MACHINE: machine, SUPERVISOR: supervisor, START: [*start, *_next()]}


def places(probes: Sequence[Probe]) -> list[int]:
    """Where each probe begins in RAM."""
    found, here = [], PROBES
    for each in probes:
        found.append(here)
        here += 4 * len(each.code) + 4 + 63 & -64
    assert here <= TABLES, "too many probes for one image"
    return found


def image(probes: Sequence[Probe], more: dict[int, bytes]) -> bytearray:
    assert len(probes) < (PROBES - SLOTS) // SLOT
    parts = {where: struct.pack(f"<{len(words)}I", *words) for where, words in _driver().items()} | more
    for n, (each, here) in enumerate(zip(probes, places(probes), strict=True)):
        status = each.mstatus | each.priv << st.MPP_SHIFT | each.guest << 39
        words = [each.at or here, status, *(getattr(each, name) for name in _SET[1:]), each.msip, each.mtimecmp, *(*each.args, 0, 0, 0, 0)[:4]]
        parts[SLOTS + SLOT * n] = struct.pack(f"<{len(words)}Q", *words)
        parts[here] = struct.pack(f"<{len(each.code) + 1}I", *each.code, encode("ecall"))
    memory = bytearray(MEMORY)
    for where, data in parts.items():
        memory[where - BASE : where - BASE + len(data)] = data
    return memory


def answers(probes: Sequence[Probe], memory: bytes | bytearray | memoryview) -> list[Answer]:
    found = []
    for n, (each, here) in enumerate(zip(probes, places(probes), strict=True)):
        words = struct.unpack_from("<16Q", memory, SLOTS - BASE + SLOT * n + ANSWER)
        found.append(Answer(words[0], words[1], words[2] - (each.at or here) & NEVER, words[3], words[4:8], words[8:11], words[11:]))
    return found


def ours(probes: Sequence[Probe], more: dict[int, bytes] | None = None, tier: str = "reference") -> list[Answer]:
    board = Board(MEMORY, send=lambda data: None, native=tier != "reference", tier=tier)
    try:
        board.load(Program(START, [(BASE, bytes(image(probes, more or {}))[:CONTENT], CONTENT)]))
        for _ in range(20):
            if board.harts.run(100_000) == HALTED:
                break
        assert board.harts.halt is not None, f"stuck at {board.harts.each[0].cpu[32]:#x}"
        return answers(probes, board.ram.mem)
    finally:
        board.close()


def theirs(probes: Sequence[Probe], tmp_path: Path, more: dict[int, bytes] | None = None, cpu: str = "rv64") -> list[Answer]:
    file = tmp_path / "memory"
    file.write_bytes(image(probes, more or {}))
    backend = f"memory-backend-file,id=ram,mem-path={file},size={MEMORY},share=on"
    words = ["-M", "virt,memory-backend=ram", "-object", backend, "-cpu", cpu, "-bios", "none", "-m", f"{MEMORY >> 20}M"]
    subprocess.run([QEMU, *words, "-display", "none", "-monitor", "none", "-serial", "none"], check=True, timeout=60)
    return answers(probes, file.read_bytes())


def compare(probes: Sequence[Probe], tmp_path: Path, more: dict[int, bytes] | None = None) -> list[tuple[Probe, Answer, Answer]]:
    """(probe, our answer, theirs) of each; the tiers must agree with one another."""
    more = LANDINGS | (more or {})
    first, *others = [ours(probes, more, tier) for tier in TIERS]
    for each in others:
        assert [(p, str(b)) for p, a, b in zip(probes, first, each, strict=True) if a != b] == []
    return list(zip(probes, first, theirs(probes, tmp_path, more, CPU), strict=True))


def report(differ: list[tuple[Probe, Answer, Answer]]) -> None:
    lines = [f"{p}\n  ours   {a}\n  theirs {b}" for p, a, b in differ[:20]]
    if differ:
        pytest.fail(f"{len(differ)} differ\n" + "\n".join(lines), pytrace=False)
