"""Loads and stores of devices' registers: the same by the long way and by native tiers' short one (jit/registers.py)."""

from __future__ import annotations

import pytest
from tests.unit.riscv_util import BASE, new_hart, put, run, tier

from trapline.machine.riscv import layout as at
from trapline.machine.riscv.bus import BusError
from trapline.machine.riscv.hart import Hart
from trapline.machine.riscv.trap import LOAD_ACCESS, LOAD_MISALIGNED, STORE_ACCESS

__all__ = ["tier"]
DEVICE = 0x1000_0000
HANDLER = BASE + 0x1000


class Echo:
    """Says which accesses came, and refuses what is at 0x80."""

    size = 0x100
    quiet = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        self._note("read", offset, size, 0)
        return 0xF1F2_F3F4_F5F6_F7F8 & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        self._note("write", offset, size, value)

    def _note(self, what: str, offset: int, size: int, value: int) -> None:
        if offset == 0x80:
            raise BusError("nothing there")
        self.seen.append((what, offset, size, value))


@pytest.mark.parametrize(
    ("name", "size", "value"),
    [
        ("lb", 1, -8), ("lh", 2, -2056), ("lw", 4, -0x0A09_0808), ("ld", 8, -0x0E0D_0C0B_0A09_0808), ("lbu", 1, 0xF8),
        ("lhu", 2, 0xF7F8), ("lwu", 4, 0xF5F6_F7F8),
    ],
)  # fmt: skip
def test_loads_extend(name: str, size: int, value: int) -> None:
    hart, device = new_hart(), Echo()
    hart.bus.attach(DEVICE, device)
    put(hart, (name, {"rd": 5, "rs1": 6, "imm": 0x40}), ("jal", {"rd": 0, "imm": -4}))
    hart.xs[6] = DEVICE
    for _ in range(3):
        hart.xs[5] = 1
        run(hart, 2)
        assert hart.xs[5] == value & (1 << 64) - 1 and hart.cpu[at.PC] == BASE
    assert device.seen == [("read", 0x40, size, 0)] * 3 and hart.cpu[at.INSTRET] == 6


@pytest.mark.parametrize(("name", "size"), [("sb", 1), ("sh", 2), ("sw", 4), ("sd", 8)])
def test_stores_cut_off(name: str, size: int) -> None:
    hart, device = new_hart(), Echo()
    hart.bus.attach(DEVICE, device)
    put(hart, (name, {"rs2": 5, "rs1": 6, "imm": 8}), ("jal", {"rd": 0, "imm": -4}))
    hart.xs[5], hart.xs[6] = 0x1122_3344_5566_7788, DEVICE
    run(hart, 6)
    assert device.seen == [("write", 8, size, 0x1122_3344_5566_7788 & (1 << 8 * size) - 1)] * 3 and hart.cpu[at.PC] == BASE


@pytest.mark.parametrize(
    ("op", "offset", "cause"),
    [("lw", 0x80, LOAD_ACCESS), ("sw", 0x80, STORE_ACCESS), ("lw", 0x100, LOAD_ACCESS), ("lw", 0x42, LOAD_MISALIGNED)],
)
def test_refusals_trap_behind_accesses_that_were_not_refused(op: str, offset: int, cause: int) -> None:
    hart, device = new_hart(), Echo()
    hart.bus.attach(DEVICE, device)
    value = {"rd": 5} if op == "lw" else {"rs2": 5}
    put(hart, (op, {**value, "rs1": 6, "imm": 0}), ("add", {"rd": 6, "rs1": 6, "rs2": 7}), ("jal", {"rd": 0, "imm": -8}))
    hart.cpu[at.MTVEC] = HANDLER
    hart.xs[6], hart.xs[7] = DEVICE, offset
    for _ in range(2):
        run(hart, 3, BASE)
        assert len(device.seen) == 1
        run(hart, 1)
        assert (hart.cpu[at.PC], hart.cpu[at.MCAUSE], hart.cpu[at.MTVAL]) == (HANDLER, cause, DEVICE + offset)
        hart.xs[6] = DEVICE
        device.seen.clear()


def test_what_another_page_table_maps_is_accessed_there() -> None:
    """The short way remembers translations: they are gone with sfence.vma."""
    hart, first, second = new_hart(), Echo(), Echo()
    hart.bus.attach(DEVICE, first)
    hart.bus.attach(DEVICE + 0x1000, second)
    table = BASE + 0x10_0000
    for where in (table, table + 0x1000):
        hart.bus.write(where, 8, (where + 0x1000 >> 12) << 10 | 1)
    leaf = table + 0x2000
    hart.bus.write(table + 8 * (BASE >> 30), 8, (BASE >> 12) << 10 | 0xCF)
    hart.bus.write(leaf, 8, (DEVICE >> 12) << 10 | 0xC7)
    put(hart, ("sw", {"rs2": 5, "rs1": 6, "imm": 0}), ("sw", {"rs2": 5, "rs1": 6, "imm": 4}), ("sfence.vma", {"rs1": 0, "rs2": 0}),
        ("jal", {"rd": 0, "imm": -12}))  # fmt: skip
    hart.xs[6] = 0
    hart.cpu[at.PMPCFG], hart.cpu[at.PMPADDR] = 0x1F, (1 << 54) - 1
    hart.pmp.update()
    hart.change_space(8 << 60 | table >> 12)
    hart.enter(1)
    run(hart, 4)
    assert [each[1] for each in first.seen] == [0, 4]
    hart.bus.write(leaf, 8, (DEVICE + 0x1000 >> 12) << 10 | 0xC7)
    run(hart, 4)
    run(hart, 4)
    assert len(first.seen) == 2 and [each[1] for each in second.seen] == [0, 4, 0, 4]


class Gatherer(Echo):
    """Only gathers what is stored at 0, unless something else was stored at 8."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.posted = 0  #: bytes that came so

    def write(self, offset: int, size: int, value: int) -> None:
        super().write(offset, size, value)
        if offset == 8:
            self.closed = bool(value)

    def posts(self, offset: int) -> bool:
        return offset == 0 and not self.closed

    def post(self, data: bytes) -> None:
        self.posted += len(data)
        self.seen += [("write", 0, 1, each) for each in data]


LOOP = (("sb", {"rs2": 5, "rs1": 6, "imm": 0}), ("addi", {"rd": 5, "rs1": 5, "imm": 1}))  #: and a jump back


@pytest.fixture
def gatherer() -> tuple[Hart, Gatherer]:
    hart, device = new_hart(), Gatherer()
    hart.bus.attach(DEVICE, device)
    hart.xs[6] = DEVICE
    return hart, device


def bytes_of(*values: int) -> list[tuple[str, int, int, int]]:
    return [("write", 0, 1, each) for each in values]


def test_posted_bytes_arrive_in_order(gatherer: tuple[Hart, Gatherer], tier: str) -> None:
    """In runs that end anywhere, each byte once and each instruction counted."""
    hart, device = gatherer
    put(hart, *LOOP, ("jal", {"rd": 0, "imm": -8}))
    done = 0
    for budget in (3, 1, 1, 1, 2, 4, 5, 600, 7, 300):
        run(hart, budget)
        done += budget
        assert device.seen == bytes_of(*(n & 255 for n in range((done + 2) // 3))) and hart.cpu[at.INSTRET] == done
    assert device.posted > 200 if tier == "native" else not device.posted


def test_other_accesses_come_between(gatherer: tuple[Hart, Gatherer], tier: str) -> None:
    hart, device = gatherer
    put(hart, *LOOP[:1], *LOOP, ("sb", {"rs2": 0, "rs1": 6, "imm": 1}), *LOOP, *LOOP[:1], ("sw", {"rs2": 5, "rs1": 6, "imm": 0}),
        ("lbu", {"rd": 7, "rs1": 6, "imm": 0}), ("jal", {"rd": 0, "imm": -36}))  # fmt: skip
    for n in range(0, 40, 2):
        run(hart, 10)
        assert device.seen == [*bytes_of(n, n), ("write", 1, 1, 0), *bytes_of(n + 1, n + 2), ("write", 0, 4, n + 2), ("read", 0, 1, 0)]
        device.seen.clear()
    assert bool(device.posted) == (tier == "native")


def test_a_device_that_has_changed_gets_each_byte_by_itself(gatherer: tuple[Hart, Gatherer]) -> None:
    hart, device = gatherer
    put(hart, *LOOP, ("jal", {"rd": 0, "imm": -8}))
    run(hart, 30)
    posted = device.posted
    device.closed = True  # between two runs: by another hart
    device.seen.clear()
    run(hart, 30)
    assert device.posted == posted and device.seen == bytes_of(*range(10, 20))


def test_closing_it_by_a_store_ends_posting(gatherer: tuple[Hart, Gatherer]) -> None:
    hart, device = gatherer
    hart.bus.attach(DEVICE + 0x1000, second := Gatherer())
    hart.xs[6] = DEVICE + 0x1000
    hart.xs[5] = 1
    put(hart, *LOOP, *LOOP, ("sb", {"rs2": 5, "rs1": 6, "imm": 8}), *LOOP, *LOOP)
    run(hart, 9)
    assert second.seen == [*bytes_of(1, 2), ("write", 8, 1, 3), *bytes_of(3, 4)] and second.posted <= 1 and not device.seen


@pytest.mark.parametrize("fence", [True, False])
def test_posted_bytes_follow_the_page_table(fence: bool) -> None:
    """As single ones do: with sfence.vma in the program, or another value of satp."""
    hart, first, second = new_hart(), Gatherer(), Gatherer()
    hart.bus.attach(DEVICE, first)
    hart.bus.attach(DEVICE + 0x1000, second)
    tables = [BASE + 0x10_0000, BASE + 0x20_0000]
    for table, device in zip(tables, (DEVICE, DEVICE + 0x1000), strict=True):
        for where in (table, table + 0x1000):
            hart.bus.write(where, 8, (where + 0x1000 >> 12) << 10 | 1)
        hart.bus.write(table + 0x2000, 8, (device >> 12) << 10 | 0xC7)
        hart.bus.write(table + 8 * (BASE >> 30), 8, (BASE >> 12) << 10 | 0xCF)
    satps = [8 << 60 | n << 44 | table >> 12 for n, table in enumerate(tables, 1)]
    store_leaf = ("sd", {"rs2": 8, "rs1": 9, "imm": 0}), ("sfence.vma", {"rs1": 0, "rs2": 0})
    change = store_leaf if fence else (("csrrw", {"rd": 0, "rs1": 10, "csr": 0x180}), ("addi", {"rd": 0, "rs1": 0, "imm": 0}))
    put(hart, *LOOP, *LOOP, *LOOP, *change, *LOOP, *LOOP)
    hart.cpu[at.PMPCFG], hart.cpu[at.PMPADDR] = 0x1F, (1 << 54) - 1
    hart.pmp.update()
    hart.xs[6], hart.xs[8], hart.xs[10] = 0, (DEVICE + 0x1000 >> 12) << 10 | 0xC7, satps[1]
    hart.bus.write(tables[0] + 0x2008, 8, (tables[0] >> 12) << 10 | 0xC7)
    hart.xs[9] = 0x3000
    hart.bus.write(tables[0] + 0x2018, 8, (tables[0] + 0x2000 >> 12) << 10 | 0xC7)  # where the leaf can be stored to
    hart.change_space(satps[0])
    hart.enter(1)
    run(hart, 12)
    assert (first.seen, second.seen) == (bytes_of(0, 1, 2), bytes_of(3, 4))
