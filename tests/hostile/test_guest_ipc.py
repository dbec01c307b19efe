"""Queues, semaphores, filters and rings that hostile programs fill: they are refused at last, and the kernel lives on."""

from __future__ import annotations

import pytest
from attack import Guest

BOMBS = ("messages", "semaphores", "queues", "segments", "filters", "slow-filter", "rings")


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_the_kernel_holds_for_programs_is_bounded(bomb: str, guest: Guest) -> None:
    got = guest("ipc", bomb, timeout_s=120)
    assert got.status == 42, got.tail()
