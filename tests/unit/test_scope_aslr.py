"""Entropy from samples whose source is known."""

from __future__ import annotations

import random

import pytest

from trapline.scope.views.aslr import entropy, measure, render


@pytest.mark.parametrize(("bits", "shift"), [(8, 12), (16, 12), (28, 12), (30, 4)])
def test_a_uniform_source_is_recognised(bits: int, shift: int) -> None:
    rng = random.Random(bits)
    found = entropy("x", [0x7000_0000_0000 + (rng.getrandbits(bits) << shift) for _ in range(500)])
    assert abs(found.bits - bits) < 0.1 and found.low_bit == shift
    assert found.shannon_bits <= 9 and sum(found.histogram) == 500 and min(found.histogram) > 10


def test_what_never_changes_has_none() -> None:
    found = entropy("x", [0x400000] * 20)
    assert (found.bits, found.shannon_bits, found.distinct, found.low_bit, found.high_bit) == (0, 0, 1, -1, -1)


def test_two_values_are_one_bit() -> None:
    found = entropy("x", [0, 0x1000] * 50)
    assert found.shannon_bits == 1 and 0.9 < found.bits < 1.1 and found.distinct == 2


def test_distances_show_who_shares_a_draw() -> None:
    rng = random.Random(1)
    runs = []
    for _ in range(300):
        base = rng.getrandbits(28) << 12
        runs.append({"mmap": base, "vdso": base + 0x5000, "stack": rng.getrandbits(30) << 4, "program": 0x400000})
    found = measure("p", runs)
    assert [each.name for each in found.places] == ["mmap", "vdso", "stack", "program"]
    distances = {each.name: each for each in found.distances}
    assert distances["vdso - mmap"].bits == 0 and distances["stack - mmap"].bits > 27
    assert all("program" not in name for name in distances)  # it does not vary
    text = render(found)
    assert max(map(len, text.splitlines())) <= 80 and "over 300 starts" in text and "fixed" in text
