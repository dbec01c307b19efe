"""Helpers for tests of the RISC-V machine: words, and harts with little programs.

A test module that imports the fixture `tier` runs each of its tests on reference harts and on native ones.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

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


def native(bus: Bus, code: Code, **kwargs: Any) -> Hart:
    from trapline.machine.riscv.jit.native import NativeHart
    from trapline.machine.riscv.jit.tiers import Tiers

    return NativeHart(bus, code, tiers=Tiers(bus.ram, background=False), **kwargs)


_make: Callable[..., Hart] = Hart


@pytest.fixture(params=["reference", "native"], autouse=True)
def tier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which harts `new_hart` makes."""
    if request.param == "native":
        pytest.importorskip("llvmlite")
        monkeypatch.setattr(sys.modules[__name__], "_make", native)
    return str(request.param)


def new_hart(memory: int = 4 << 20, **kwargs: Any) -> Hart:
    """A hart in machine mode with RAM at BASE."""
    bus = Bus(Ram(memory), BASE)
    hart = _make(bus, Code(bus), **kwargs)
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
