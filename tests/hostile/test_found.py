"""What fuzzers and generated arguments once broke: one minimal call each, made in the name of a task (see tests/fuzz/world.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fuzz.targets import elf_file
from fuzz.world import AREA, World
from trapline import Kernel


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.mark.parametrize("flags", [0, 1])
def test_mlock2_of_an_empty_range(flags: int, world: World) -> None:
    world.fresh()
    assert world.call("mlock2", AREA, 0, flags) == 0
    assert world.call("munlock", AREA, 0) == 0


@pytest.mark.parametrize("kind", [2, 3], ids=["fixed", "movable"])
@pytest.mark.parametrize("entry", [(1 << 64) - 1, 1 << 63, 1 << 47, (1 << 64) - 0x1000], ids=hex)
def test_elf_whose_entry_wraps(kind: int, entry: int) -> None:
    """The process dies where there is nothing to run; making its auxiliary vector must not fail."""
    with Kernel(memory=64 << 20, cpus=1, stdio=(-1, -1, -1)) as kernel:
        load = (1, 5, 0, 0x40_0000 if kind == 2 else 0, 0x200, 0x200)
        kernel.add_file("/tmp/program", elf_file(load, entry=entry, kind=kind, tail=bytes(0x200)), 0o755)
        assert kernel.run(["/tmp/program"], timeout=10) == -11
