"""Process accounting: acct(5)'s numbers, and when there is room for records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trapline.abi.errno import EINVAL
from trapline.kernel.fs.proc.sysctl import TREE, Value
from trapline.kernel.fs.superblock import StatFs
from trapline.kernel.task import accounting
from trapline.kernel.task.accounting import Accounting, comp_t


def value(packed: int) -> int:
    """As acct(5) says to read one."""
    return (packed & 0x1FFF) << (packed >> 13 & 7) * 3


def test_small_numbers_are_exact_and_large_ones_near() -> None:
    assert [value(comp_t(each)) for each in (0, 1, 8191)] == [0, 1, 8191]
    for number in (8192, 8195, 8196, 65535, 10**6, 123_456_789, 10**10):
        assert abs(value(comp_t(number)) - number) <= number / 2048
    assert value(comp_t(8196)) == 8200  # a half is rounded up
    assert value(comp_t(8195)) == 8192
    assert comp_t(8191 << 21) == 0xFFFF
    assert comp_t(1 << 60) == 0xFFFF


class Disk:
    """A file on a disk with `free` of 100 blocks left."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.written = 0
        self.inode = self

    def statfs(self) -> StatFs:
        return StatFs(0, blocks=100, bfree=self.free)

    def try_write(self, data: bytes) -> int:
        self.written += 1
        return len(data)


def test_records_stop_where_room_is_short_and_go_on_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "record", lambda task, status: b"")
    now = [0]
    lines: list[str] = []
    clock = SimpleNamespace(monotonic_ns=lambda: now[0])
    task: Any = SimpleNamespace(kernel=SimpleNamespace(clock=clock, accounting_limits=(4, 2, 30), log=lines.append))
    disk: Any = Disk(3)
    records = Accounting(disk)

    def writes(free: int, seconds: int) -> bool:
        disk.free, now[0], before = free, now[0] + seconds * 10**9, disk.written
        records.process_ends(task, 0)
        return bool(disk.written > before)

    assert writes(3, 1)
    assert writes(2, 29)  # nobody looks yet
    assert not writes(2, 1)
    assert not writes(50, 29)
    assert not writes(4, 1)  # less is needed to go on than to stop
    assert writes(5, 30)
    assert lines == ["Process accounting paused", "Process accounting resumed"]


def test_limits_can_be_set_one_by_one() -> None:
    tree: Any = TREE["kernel"]
    acct: Value = tree["acct"]
    kernel = SimpleNamespace(accounting_limits=(4, 2, 30))
    assert acct.put is not None and acct.get(kernel) == b"4\t2\t30"
    acct.put(kernel, b"10 5")
    assert kernel.accounting_limits == (10, 5, 30)
    for wrong in (b"x", b"1 2 3 4", b"-1"):
        with pytest.raises(EINVAL):
            acct.put(kernel, wrong)
