"""What a program of the RISC-V machine can make the translator hold: code that changes faster than it is compiled."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout

pytest.importorskip("llvmlite")

from trapline.machine.riscv.jit import state as layout_of
from trapline.machine.riscv.jit import tiers as module
from trapline.machine.riscv.jit.tiers import Tiers

SELF_LOOP = (0x6F).to_bytes(4, "little")  # jal x0, 0
PAGE = 0x5000


class Program:
    """One page of loops, mapped for execution, on a hart that runs nothing."""

    def __init__(self, tiers: Tiers, ram: Ram) -> None:
        self.tiers, self.ram = tiers, ram
        self.hart: Any = SimpleNamespace(cpu=memoryview(bytearray(layout.SIZE)).cast("Q"))
        self.change(0)

    def change(self, n: int) -> None:
        self.ram.mem[:4096] = SELF_LOOP * 1023 + n.to_bytes(4, "little")
        slot = layout.CODE + (PAGE >> 12) * 2
        page = self.tiers.page(0)
        self.hart.cpu[slot], self.hart.cpu[slot + 1] = PAGE, page.base
        for record in range(layout_of.HALFWORDS):  # all of it has been executed
            self.tiers.arena._words[(page.offset >> 3) + 2 * record] = 1

    def heat(self, record: int) -> None:
        self.tiers.heat(self.hart, PAGE + 4 * record)


def test_regions_that_are_never_installed_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REGIONS", 3)
    tiers = Tiers(ram := Ram(4 << 20), background=False)
    monkeypatch.setattr(tiers.arena, "install", lambda *_: False)
    loads = []
    load = tiers._compiler.load
    monkeypatch.setattr(tiers._compiler, "load", lambda *args: loads.append(args) or load(*args))
    program = Program(tiers, ram)
    for n in range(12):
        program.change(n)
        program.heat(n % 2)
    assert len(loads) == 3 and tiers.compiled == 0
    tiers.close()


def test_places_that_wait_to_be_compiled_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 20)
    tiers = Tiers(ram := Ram(4 << 20))
    monkeypatch.setattr(tiers, "_work", lambda: None)  # the compiler is slow
    program = Program(tiers, ram)
    for n in range(100):
        program.change(n)
        program.heat(n)
    assert len(tiers._waiting) == 20
    tiers.close()
