"""A region of an earlier run holds code that this run has not executed yet: the reference tier is the judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from trapline.machine.contract import READ
from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.hart import TRAPPED, Hart
from trapline.machine.riscv.isa.decode import encode
from trapline.machine.riscv.jit.cache import Cache
from trapline.machine.riscv.jit.native import NativeHart
from trapline.machine.riscv.trap import ACCESS, CAUSES

try:
    from trapline.machine.riscv.jit.tiers import Tiers
except ImportError:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

CODE, DATA, NOWHERE = 0x10000, 0x20000, 1 << 40
WORDS = (
    encode("ld", rd=19, rs1=0, imm=0),  # so that address 0 can be read without a look around
    encode("bltu", rs1=31, rs2=6, imm=12),  # the other way, in the last rounds
    encode("addi", rd=5, rs1=5, imm=1),
    encode("jal", rd=0, imm=8),
    encode("ld", rd=18, rs1=8, imm=0),
    encode("addi", rd=31, rs1=31, imm=-1),
    encode("bne", rs1=31, rs2=0, imm=-20),
    encode("ecall"),
)


def start(hart: Hart, address: int, rounds: int, others: int) -> None:
    """A loop of so many rounds, the last `others` - 1 of which go the other way."""
    hart.reset(CODE)
    for i, word in enumerate(WORDS):
        hart.bus.ram.mem[CODE + 4 * i : CODE + 4 * i + 4] = word.to_bytes(4, "little")
    hart.cpu[at.X + 31], hart.cpu[at.X + 6], hart.cpu[at.X + 8] = rounds, others, address


def test_a_region_leaves_where_this_run_has_not_been(tmp_path: Path) -> None:
    """The interpreter took the place of the region's load before it had decoded it, and loaded from address 0."""
    recalled = []
    for address, runs in ((DATA, ((5, 3), (100, 20))), (NOWHERE, ((100, 20),))):
        rams = [Ram(4 << 20) for _ in range(2)]
        tiers = Tiers(rams[1], background=False, hot=10, warm=0, cache=Cache(str(tmp_path)))
        reference = Hart(Bus(rams[0]), Code(Bus(rams[0])), hosted=True)
        native = NativeHart(Bus(rams[1]), Code(Bus(rams[1])), hosted=True, tiers=tiers)
        for rounds, others in runs:
            for each in (reference, native):
                start(each, address, rounds, others)
            assert reference.run(100_000) == native.run(100_000) == TRAPPED
            assert list(reference.cpu[at.X : at.PC + 1]) == list(native.cpu[at.X : at.PC + 1])
            assert native.cpu[at.TRAP_CAUSE] == reference.cpu[at.TRAP_CAUSE]
            assert native.cpu[at.TRAP_VALUE] == reference.cpu[at.TRAP_VALUE]
        recalled.append(tiers.recalled)
        tiers.close()
    assert reference.cpu[at.TRAP_CAUSE] == CAUSES[READ, ACCESS] and reference.cpu[at.TRAP_VALUE] == NOWHERE
    assert recalled[0] == 0 < recalled[1]
