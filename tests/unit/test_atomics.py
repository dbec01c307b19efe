"""Words that user code may change at the same time: what Ram does by itself, and what a machine's CPU does for it, agree."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import pytest

from trapline.abi import futex as f
from trapline.machine.ram import Atomics, Ram

ring = pytest.importorskip("trapline.machine.host._ring", reason="the host machine is not built here")
AT = 4096 + 8


@pytest.fixture(params=["plain", "native"])
def ram(request: pytest.FixtureRequest) -> Iterator[Ram]:
    ram = Ram(2 << 20)
    if request.param == "native":
        ram.atomics = Atomics(ring.exchange, ring.modify)
    yield ram
    ram.close()


def test_exchange_stores_only_over_what_was_expected(ram: Ram) -> None:
    assert ram.compare_exchange32(AT, 0, 0xFFFF_FFFF) == 0
    assert ram.compare_exchange32(AT, 7, 8) == 0xFFFF_FFFF
    assert ram.words32[AT >> 2] == 0xFFFF_FFFF
    assert ram.words32[(AT >> 2) - 1] == ram.words32[(AT >> 2) + 1] == 0


@pytest.mark.parametrize(
    ("operation", "argument", "old", "new"),
    [
        (f.FUTEX_OP_SET, 7, 1, 7), (f.FUTEX_OP_SET, -2, 1, 0xFFFF_FFFE), (f.FUTEX_OP_ADD, -1, 0, 0xFFFF_FFFF),
        (f.FUTEX_OP_ADD, 2, 0xFFFF_FFFF, 1), (f.FUTEX_OP_OR, 6, 1, 7), (f.FUTEX_OP_OR, 1 << 31, 0, 1 << 31),
        (f.FUTEX_OP_ANDN, 1, 3, 2), (f.FUTEX_OP_ANDN, -1, 3, 0), (f.FUTEX_OP_XOR, 3, 1, 2),
    ],
)  # fmt: skip
def test_modify_does_what_it_is_told(ram: Ram, operation: int, argument: int, old: int, new: int) -> None:
    ram.words32[AT >> 2] = old
    assert ram.modify32(AT, operation, argument) == old
    assert ram.words32[AT >> 2] == new


@pytest.mark.parametrize("offset", [2, 4093, 4096, 1 << 60])
def test_there_is_no_word_outside_the_memory(offset: int) -> None:
    with mmap.mmap(-1, 4096) as memory:
        with pytest.raises(ValueError, match="no such word"):
            ring.exchange(memory, offset, 0, 1)
        with pytest.raises(ValueError, match="no such word"):
            ring.modify(memory, offset, f.FUTEX_OP_SET, 1)
        assert not any(memory[:])
