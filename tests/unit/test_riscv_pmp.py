"""Physical memory protection: matching, priorities, Smepmp's truth table, and the hart's obedience."""

from __future__ import annotations

import pytest
from riscv_util import BASE, new_hart, put, run, tier  # noqa: F401

from trapline.machine.contract import EXEC, READ, WRITE
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv import trap as t
from trapline.machine.riscv.pmp import LOCK, NA4, NAPOT, TOR, Pmp, R, W, X, rights

RW, RX, RWX = READ | WRITE, READ | EXEC, READ | WRITE | EXEC


def protection(*entries: tuple[int, int], secure: int = 0) -> Pmp:
    cpu = memoryview(bytearray(at.SIZE)).cast("Q")
    for n, (config, address) in enumerate(entries):
        cpu[at.PMPCFG + n], cpu[at.PMPADDR + n] = config, address
    cpu[at.MSECCFG] = secure
    return Pmp(cpu)


def test_without_entries_machine_mode_may_all_and_the_others_nothing() -> None:
    nothing = protection()
    assert nothing.allows(0, 8, RWX, st.M)
    assert not nothing.allows(0, 8, READ, st.S)
    assert not nothing.allows(0, 8, READ, st.U)
    assert not protection(secure=st.MMWP).allows(0, 8, READ, st.M)


@pytest.mark.parametrize(
    ("entries", "start", "end"),
    [
        ([(NA4 | R, 0x1000 >> 2)], 0x1000, 0x1004),
        ([(NAPOT | R, 0x1000 >> 2)], 0x1000, 0x1008),
        ([(NAPOT | R, 0x1000 >> 2 | 0x1FF)], 0x1000, 0x2000),
        ([(TOR | R, 0x2000 >> 2)], 0, 0x2000),
        ([(0, 0x1000 >> 2), (TOR | R, 0x2000 >> 2)], 0x1000, 0x2000),
    ],
)
def test_matching(entries: list[tuple[int, int]], start: int, end: int) -> None:
    those = protection(*entries)
    assert those.allows(start, 4, READ, st.U)
    assert those.allows(end - 4, 4, READ, st.U)
    assert not those.allows(end, 4, READ, st.U)
    assert not those.allows(end - 2, 4, READ, st.U)  # only half of it matches
    if start:
        assert not those.allows(start - 4, 4, READ, st.U)
        assert not those.allows(start - 2, 4, READ, st.M)  # a partial match fails for every mode


def test_first_entry_decides_and_empty_ranges_do_not_match() -> None:
    those = protection((NA4, 0x1000 >> 2), (NAPOT | R, 0x1000 >> 2 | 0x1FF), (TOR | RWX, 0x100))
    assert not those.allows(0x1000, 4, READ, st.U)
    assert those.allows(0x1004, 4, READ, st.U)
    assert not those.allows(0x1004, 4, WRITE, st.U)


def test_unlocked_entries_do_not_bind_machine_mode() -> None:
    assert protection((NA4, 0x400)).allows(0x1000, 4, RWX, st.M)
    assert not protection((NA4 | LOCK | R, 0x400)).allows(0x1000, 4, WRITE, st.M)


@pytest.mark.parametrize(
    ("config", "machine", "user"),
    [
        (0, 0, 0), (X, 0, EXEC), (W, RW, READ), (W | X, RW, RW), (R, 0, READ), (R | X, 0, RX), (R | W, 0, RW), (R | W | X, 0, RWX),
        (LOCK, 0, 0), (LOCK | X, EXEC, 0), (LOCK | W, EXEC, EXEC), (LOCK | W | X, RX, EXEC), (LOCK | R, READ, 0),
        (LOCK | R | X, RX, 0), (LOCK | R | W, RW, 0), (LOCK | R | W | X, READ, READ),
    ],
)  # fmt: skip
def test_truth_table_of_smepmp(config: int, machine: int, user: int) -> None:
    assert rights(config, True) == (machine, user)


def test_pages_that_are_not_uniform_have_no_rights_as_a_whole() -> None:
    those = protection((NA4 | R, 0x1000 >> 2), (NAPOT | R, 0x2000 >> 2 | 0x1FF))
    assert (those.page(0x1000, st.U), those.page(0x2000, st.U), those.page(0x3000, st.U)) == (0, READ, 0)


def test_hart_faults_where_protection_ends_within_a_page() -> None:
    hart = new_hart()
    cpu = hart.cpu
    cpu[at.PMPCFG], cpu[at.PMPADDR] = NAPOT | R | X, BASE >> 2 | 0x3FF  # 8 KiB of code and data
    cpu[at.PMPCFG + 1], cpu[at.PMPADDR + 1] = TOR | R | W, (BASE + 0x2804) >> 2
    cpu[at.PMPCFG + 1], cpu[at.PMPADDR + 1] = NA4 | R | W, (BASE + 0x2800) >> 2
    cpu[at.MTVEC] = BASE + 0x1000
    hart.pmp.update()
    hart.enter(st.U)
    hart.xs[10] = BASE + 0x2800
    put(hart, ("sw", {"rs1": 10, "rs2": 10}), ("lw", {"rs1": 10, "rd": 5}), ("lw", {"rs1": 10, "imm": 4}))
    run(hart, 2)
    assert hart.xs[5] == 0xFFFF_FFFF_8000_2800
    run(hart, 1)
    assert (cpu[at.MCAUSE], cpu[at.MTVAL]) == (t.LOAD_ACCESS, BASE + 0x2804)


def test_instruction_whose_second_half_may_not_be_executed() -> None:
    hart = new_hart()
    cpu = hart.cpu
    cpu[at.PMPCFG], cpu[at.PMPADDR] = TOR | R | X, (BASE + 0x100) >> 2
    cpu[at.MTVEC] = BASE + 0x1000
    hart.pmp.update()
    put(hart, 0x13, at_=BASE + 0xFC)
    put(hart, 0x0001, 0x13, at_=BASE + 0xF8)
    hart.bus.write(BASE + 0xFE, 4, 0x13)
    hart.enter(st.U)
    run(hart, 1, BASE + 0xFE)
    assert (cpu[at.MCAUSE], cpu[at.MTVAL], cpu[at.MEPC]) == (t.FETCH_ACCESS, BASE + 0x100, BASE + 0xFE)


def test_table_in_protected_memory_is_an_access_fault() -> None:
    hart = new_hart()
    cpu = hart.cpu
    cpu[at.PMPCFG], cpu[at.PMPADDR] = NA4, (BASE + 0x3000) >> 2
    cpu[at.PMPCFG + 1], cpu[at.PMPADDR + 1] = NAPOT | R | W | X, pmp.ADDRESS_MASK
    hart.pmp.update()
    hart.change_space(st.SV39_MODE << st.MODE_SHIFT | (BASE + 0x3000) >> 12)
    hart.enter(st.S)
    with pytest.raises(t.Trap) as caught:
        hart.load(0, 8)
    assert caught.value.cause == t.LOAD_ACCESS
