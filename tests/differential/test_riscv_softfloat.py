"""Every floating-point instruction on edge and random operands, in every rounding mode, against qemu-riscv64: results and flags."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from riscv_random import CODE, elf

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.hart import TRAPPED, Hart
from trapline.machine.riscv.isa.declare import Op
from trapline.machine.riscv.isa.decode import OPS, encode

QEMU = shutil.which("qemu-riscv64") or ""
pytestmark = pytest.mark.skipif(not QEMU, reason="no qemu-riscv64")

TESTED = [op for op in OPS if op.extension in ("F", "D") and not op.operands.endswith(")")]
ROUNDS = 24  #: sets of operands for each instruction and rounding mode
OPERANDS, RESULTS, SIZE = 0x200000, 0x240000, 0x80000


def _number(rng: random.Random, bits: int) -> int:
    """A float's pattern: edges, neighbours of powers of two, subnormals, NaNs, or anything."""
    fraction, top = (23, 0xFF) if bits == 32 else (52, 0x7FF)
    sign = rng.getrandbits(1) << (bits - 1)
    near = rng.choice((0, 1, 2, (1 << fraction) - 1, 1 << (fraction - 1), (1 << (fraction - 1)) + 1, rng.getrandbits(fraction)))
    exponent = rng.choice((0, 0, 1, top, top - 1, top >> 1, rng.randrange(top), (top >> 1) + rng.randrange(-30, 66)))
    value = sign | max(0, min(top, exponent)) << fraction | near
    if bits == 32 and rng.random() < 0.97:
        return value | 0xFFFF_FFFF << 32
    return value


def _integer(rng: random.Random) -> int:
    return rng.choice((rng.getrandbits(64), rng.getrandbits(32), 1 << rng.randrange(64), (1 << 64) - (1 << rng.randrange(63)), rng.getrandbits(8)))


def _case(op: Op, mode: int) -> list[int]:
    """Load the operands behind x8, execute, store result and flags behind x9."""
    words = [encode("fld", rd=n, rs1=8, imm=8 * (n - 1)) for n in (1, 2, 3)] + [encode("ld", rd=1, rs1=8, imm=24)]
    words.append(encode("csrrwi", csr=1))
    operands = {field.name: {"rd": 4, "rs1": 1, "rs2": 2, "rs3": 3, "rm": mode}[field.name] for field in op.fields}
    words.append(encode(op.name, **operands))
    to_integer = op.operands.startswith("rd")
    words.append(encode("sd", rs1=9, rs2=4) if to_integer else encode("fsd", rs1=9, rs2=4))
    words += [encode("csrrs", rd=5, csr=1), encode("sd", rs1=9, rs2=5, imm=8)]
    return [*words, encode("addi", rd=8, rs1=8, imm=32), encode("addi", rd=9, rs1=9, imm=16)]


def _program(mode: int) -> tuple[bytes, int]:
    """The text for all instructions, each ROUNDS times, and how many results it has."""
    words = [encode("lui", rd=8, imm=OPERANDS), encode("lui", rd=9, imm=RESULTS)]
    for op in TESTED:
        words += _case(op, mode) * ROUNDS
    words += [encode("addi", rd=17, imm=64), encode("addi", rd=10, imm=1), encode("lui", rd=11, imm=RESULTS)]
    words += [encode("lui", rd=12, imm=SIZE - (RESULTS - OPERANDS)), encode("ecall")]
    words += [encode("addi", rd=17, imm=93), encode("addi", rd=10), encode("ecall")]
    return struct.pack(f"<{len(words)}I", *words), len(TESTED) * ROUNDS


def _data(rng: random.Random) -> bytes:
    cases = []
    for op in TESTED:
        single = ".s" in op.name and not op.name.startswith("fcvt.s.d")
        for _ in range(ROUNDS):
            cases += [_number(rng, 32 if single else 64) for _ in range(3)] + [_integer(rng)]
    return struct.pack(f"<{len(cases)}Q", *cases).ljust(SIZE, b"\0")


def _ours(text: bytes, data: bytes) -> bytes:
    bus = Bus(Ram(4 << 20))
    bus.ram.mem[CODE : CODE + len(text)] = text
    bus.ram.mem[OPERANDS : OPERANDS + len(data)] = data
    hart = Hart(bus, Code(bus), hosted=True)
    hart.cpu[at.PC] = CODE
    hart.cpu[at.MSTATUS] |= st.FS
    assert hart.run(10_000_000) == TRAPPED
    assert hart.xs[17] == 64
    return bytes(bus.ram.mem[RESULTS : OPERANDS + SIZE])


@pytest.mark.parametrize("mode", range(5), ids=["rne", "rtz", "rdn", "rup", "rmm"])
def test_results_and_flags_are_qemus(mode: int, tmp_path: Path) -> None:
    data = _data(random.Random(mode))
    text, count = _program(mode)
    file = tmp_path / "program"
    file.write_bytes(elf(text, data))
    file.chmod(0o755)
    theirs = struct.unpack_from(f"<{2 * count}Q", subprocess.run([QEMU, file], capture_output=True, timeout=60, check=True).stdout)
    ours = struct.unpack_from(f"<{2 * count}Q", _ours(text, data))
    wrong = []
    for n in range(count):
        if ours[2 * n : 2 * n + 2] != theirs[2 * n : 2 * n + 2]:
            operands = struct.unpack_from("<4Q", data, 32 * n)
            wrong.append((TESTED[n // ROUNDS].name, [hex(each) for each in (*operands, *ours[2 * n : 2 * n + 2], *theirs[2 * n : 2 * n + 2])]))
    assert wrong == []
