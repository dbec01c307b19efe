"""Objects that a program has the kernel hold outside its own memory: a kernel's limits are in proportion to --memory."""

from __future__ import annotations

import pytest
from attack import Guest

HOARDS = ("descriptors", "streams", "records", "links", "events", "directories", "texts", "interests", "areas")


@pytest.mark.parametrize("hoard", HOARDS)
def test_objects_of_the_kernel_are_bounded(hoard: str, guest: Guest) -> None:
    got = guest("hoards", hoard, options=("--memory", "64M"), timeout_s=120)
    assert got.status == 42, got.tail()
