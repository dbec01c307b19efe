"""What fuzzers and generated arguments once broke: one minimal call each, made in the name of a task (see tests/fuzz/world.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fuzz.world import AREA, World


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
