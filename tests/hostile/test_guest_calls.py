"""Hostile arguments, hostile frames, odd places to call from, racing threads: the program may die, the kernel lives on."""

from __future__ import annotations

import hostile_arguments
import pytest
from attack import Guest

PARTS = 8
SEGV, ILL, BUS = 139, 132, 135
FRAMES = {
    "page-end": {42},
    "every-offset": {42},
    "bases": {42},
    "stack": {42},
    "plain-frame": {42},
    "iopl": {42, SEGV},
    "no-interrupts": {42, SEGV},
    "all-flags": {42, SEGV, BUS, ILL},
    "ring0": {42, SEGV},
    "null-cs": {42, SEGV},
    "bad-ss": {42, SEGV},
    "non-canonical-rip": {SEGV},
    "kernel-rip": {SEGV},
    "kernel-rsp": {SEGV},
    "bad-fp-pointer": {SEGV},
    "junk-fp": {SEGV, 42},
    "frame-nowhere": {SEGV},
    "no-stack": {42},
    "signal-without-stack": {SEGV},
}


@pytest.mark.parametrize("seed", range(6))
def test_every_call_with_hostile_arguments(seed: int, guest: Guest) -> None:
    """The seed is the first argument of guest/pointers.c: it repeats the very same calls."""
    assert guest("pointers", str(seed), "4", timeout_s=120).status == 42


@pytest.mark.parametrize("part", range(PARTS))
def test_every_argument_of_every_declared_call(part: int, guest: Guest) -> None:
    """Addresses that wrap, straddle, are read-only or nobody's, and lengths to match, in each position and in pairs."""
    got = guest("arguments", str(part), str(PARTS), headers=(hostile_arguments.table(),), timeout_s=240)
    tried = len(hostile_arguments.declared()[part::PARTS])
    assert got.status == 42 and f"tried {tried} calls" in got.text, got.tail()


@pytest.mark.parametrize("part", range(2))
def test_every_argument_of_every_call_by_the_32_bit_entry(part: int, guest: Guest) -> None:
    got = guest("arguments", str(part), "2", "1", "int80", headers=(hostile_arguments.table(),), timeout_s=240)
    assert got.status == 42 and "tried " in got.text and "tried 0 calls" not in got.text, got.tail()


@pytest.mark.parametrize(("attack", "statuses"), FRAMES.items(), ids=FRAMES.keys())
def test_odd_places_and_forged_frames(attack: str, statuses: set[int], guest: Guest) -> None:
    got = guest("odd_places", attack)
    assert got.status in statuses, got.tail()


def test_where_the_stub_could_be(guest: Guest) -> None:
    """Read, write, call, map, unmap, protect at the top of the address space: a fault or an error, never the kernel's end."""
    got = guest("stub_region", timeout_s=180)
    assert got.status == 42, got.tail()


def test_racing_threads(guest: Guest) -> None:
    got = guest("races", timeout_s=120)
    assert got.status == 42, got.tail()
