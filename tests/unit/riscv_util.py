"""Helpers for tests of the RISC-V machine: words, harts with little programs, cross-compiled programs."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.hart import Hart
from trapline.machine.riscv.isa.declare import Op
from trapline.machine.riscv.isa.decode import decode, encode

PREFIX = "riscv64-linux-gnu-"
BASE = 0x8000_0000
M64 = (1 << 64) - 1


def random_word(rng: random.Random, op: Op) -> int:
    """A word of this op with random operands, which decodes to it."""
    while True:
        word = rng.getrandbits(8 * op.length) & ~op.mask | op.match
        i = decode(word)
        if i is not None and i.op is op:
            return word


def new_hart(memory: int = 4 << 20, **kwargs: object) -> Hart:
    """A hart in machine mode with RAM at BASE."""
    bus = Bus(Ram(memory), BASE)
    hart = Hart(bus, Code(bus), **kwargs)  # type: ignore[arg-type]
    hart.reset(BASE)
    return hart


def put(hart: Hart, *words: int | tuple[str, dict[str, int]], at_: int = BASE) -> int:
    """Write instructions (words, or mnemonic and operands) to memory; the address after them."""
    for each in words:
        word = each if isinstance(each, int) else encode(each[0], **each[1])
        size = 4 if word & 3 == 3 else 2
        hart.bus.write(at_, size, word)
        at_ += size
    return at_


def run(hart: Hart, count: int, pc: int | None = None) -> None:
    """Execute `count` instructions (or traps)."""
    if pc is not None:
        hart.cpu[at.PC] = pc
    hart.run(count)


def build(source: Path, target: Path, *flags: str) -> None:
    subprocess.run([f"{PREFIX}gcc", "-static", "-o", target, source, *flags], check=True, capture_output=True)
