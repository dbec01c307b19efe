"""How often a session looks outside while the guest is busy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from trapline.cli.session import CHUNK, ON_THREADS, SHORT, SHORT_ON_THREADS, Output, Session
from trapline.machine.riscv.harts import SPENT, STOPPED


class Wire:
    """A link on which something has come, or not."""

    full = False

    def __init__(self) -> None:
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def fileno(self) -> int:
        return self._bell

    def ready(self) -> None:
        os.eventfd_read(self._bell)

    def due(self) -> float | None:
        return None

    def flush(self) -> bool:
        return False

    def close(self) -> None:
        os.close(self._bell)


class Harts:
    """They are always busy. `rings`: the runs in which something comes."""

    def __init__(self, wire: Wire, rings: set[int], runs: int) -> None:
        self.spans: list[int] = []
        self._wire, self._rings, self._runs = wire, rings, runs

    def run(self, budget: int, *, jump: bool) -> int:
        if len(self.spans) in self._rings:
            self._wire.ring()
        self.spans.append(budget)
        return STOPPED if len(self.spans) == self._runs else SPENT


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


def spans(wire: Wire, rings: set[int], runs: int = 10, *, links: bool = True, threads: bool = False) -> list[int]:
    harts = Harts(wire, rings, runs)
    board: Any = SimpleNamespace(harts=harts, uart=SimpleNamespace(room=lambda: 0, receive=bool))
    session = Session(board, board.uart, Output(), timeout_s=None, host_clock=True, once=True, links=[wire] if links else [], threads=threads)
    session._stdin = -1
    assert session.run() == 0
    return harts.spans


def test_a_busy_link_is_looked_at_often(wire: Wire) -> None:
    assert spans(wire, {1, 2}) == [CHUNK, CHUNK, SHORT, SHORT, *(SHORT << n for n in range(1, 5)), CHUNK, CHUNK]
    on_threads = [SHORT_ON_THREADS, *(SHORT_ON_THREADS << n for n in range(1, 4))]
    assert spans(wire, {0, 1}, 8, threads=True) == [ON_THREADS, SHORT_ON_THREADS, *on_threads, ON_THREADS, ON_THREADS]


def test_nothing_else_changes_how_often(wire: Wire) -> None:
    assert set(spans(wire, set())) == {CHUNK}
    assert set(spans(wire, {1, 2}, links=False)) == {CHUNK}
