"""The compiler's thread comes on beside a loop that keeps the machine's thread busy."""

from __future__ import annotations

import threading
import time

import pytest

from trapline.machine.ram import Ram
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.isa.decode import encode
from trapline.machine.riscv.jit.native import NativeHart

try:
    from trapline.machine.riscv.jit.tiers import Tiers
except ImportError:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

CODE = 0x10000
WORDS = (encode("addi", rd=5, rs1=5, imm=1), encode("xor", rd=6, rs1=6, rs2=5), encode("jal", rd=0, imm=-8))
LONG = 1_000_000_000  #: instructions, about a second


class Witness(threading.Thread):
    """Another thread of Python's: the longest time in which it could not go on."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.longest_s, self.ended = 0.0, False

    def run(self) -> None:
        last = time.perf_counter()
        while not self.ended:
            now = time.perf_counter()
            self.longest_s, last = max(self.longest_s, now - last), now


@pytest.mark.parametrize("hosted", [True, False])
def test_python_goes_on_beside_native_code_while_something_is_compiled(hosted: bool) -> None:
    """A tight loop kept Python's lock, and its own region from being compiled."""
    ram = Ram(4 << 20)
    for i, word in enumerate(WORDS):
        ram.mem[CODE + 4 * i : CODE + 4 * i + 4] = word.to_bytes(4, "little")
    tiers = Tiers(ram, hot=0)
    witness = Witness()
    try:
        hart = NativeHart(Bus(ram), Code(Bus(ram)), hosted=hosted, tiers=tiers)
        hart.reset(CODE)
        hart.run(10_000)
        tiers.compiling = True
        witness.start()
        start = time.perf_counter()
        hart.run(LONG)
        passed_s = time.perf_counter() - start
        assert witness.longest_s < passed_s / 2
    finally:
        witness.ended = True
        tiers.close()
