"""How a session waits: asleep, or awake for a moment where answers come soon."""

from __future__ import annotations

from typing import Any

import pytest

from trapline.cli import patience
from trapline.cli.patience import AWAKE_NS, Patience

STEP_NS = 50_000  #: between two looks


class World:
    """Time, and a descriptor that can be read `after_ns` from the beginning of a wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.since = 0
        self.after_ns: int | None = 0
        self.step_ns = STEP_NS
        self.slept: list[float | None] = []
        self.looks = 0
        monkeypatch.setattr(patience.select, "select", self.select)
        monkeypatch.setattr(patience.time, "monotonic_ns", lambda: self.now)
        monkeypatch.setattr(patience.os, "sched_yield", lambda: None)
        self.patience = Patience()

    def select(self, readable: list[int], writable: list[int], _: Any, timeout_s: float | None) -> Any:
        at = None if self.after_ns is None else self.since + self.after_ns
        if timeout_s == 0.0:
            self.looks += 1
            self.now += self.step_ns
        else:
            self.slept.append(timeout_s)
            assert at is not None or timeout_s is not None, "for ever"
            ends = [each for each in (at, None if timeout_s is None else self.now + int(timeout_s * 1e9)) if each is not None]
            self.now = max(self.now, min(ends))
        return (readable if at is not None and at <= self.now else [], [], [])

    def wait(self, after_ns: int | None, timeout_s: float | None) -> bool:
        self.since, self.after_ns = self.now, after_ns
        self.slept.clear()
        self.looks = 0
        return bool(self.patience.wait([5], [], timeout_s)[0])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_after_a_short_wait_the_next_is_awake(world: World) -> None:
    assert world.wait(400_000, None) and world.slept == [None] and not world.looks
    assert world.wait(400_000, None) and not world.slept and world.looks == 8


def test_long_waits_are_slept(world: World) -> None:
    for _ in range(3):
        assert world.wait(AWAKE_NS, 1.0) and world.slept == [1.0] and not world.looks
    assert not world.wait(None, 0.0001) and world.slept == [0.0001]  # a time-out says nothing of answers
    assert world.wait(AWAKE_NS, 1.0) and not world.looks


def test_looking_in_vain_ends(world: World) -> None:
    world.wait(0, 1.0)
    looks = []
    for _ in range(7):
        assert not world.wait(None, 1.0)
        looks.append(world.looks)
    assert looks == [20, 10, 5, 3, 2, 0, 0]


def test_a_time_out_is_kept(world: World) -> None:
    world.wait(0, 1.0)
    assert not world.wait(None, 0.0003) and world.now - world.since <= 300_000 + STEP_NS and not world.slept
    before = world.now
    assert not world.wait(None, 0.01) and world.now - before == 10_000_000 and world.slept == [pytest.approx(0.0095)]  # it had looked half as long


def test_where_somebody_needs_the_cpu_nobody_looks_for_a_while(world: World) -> None:
    world.wait(0, 1.0)
    world.step_ns = 3_000_000
    assert world.wait(5_000_000, 1.0) and world.looks == 1
    for _ in range(patience._RESERVED):
        assert world.wait(0, 1.0) and not world.looks
    world.wait(0, 1.0)
    assert world.wait(0, 1.0) and world.looks == 1


def test_a_look_without_time_is_one_look(world: World) -> None:
    world.wait(0, 1.0)
    assert not world.wait(None, 0.0) and world.looks == 1 and not world.slept
