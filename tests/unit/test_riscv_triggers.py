"""Triggers: breakpoints on execution, loads and stores, in the modes they are set for."""

from __future__ import annotations

import pytest
from riscv_util import BASE, new_hart, put, run, tier  # noqa: F401

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv import trap as t
from trapline.machine.riscv import triggers as tr
from trapline.machine.riscv.hart import Hart

DATA = BASE + 0x10000


def watching(control: int, address: int, *, mte: bool = True) -> Hart:
    hart = new_hart()
    hart.cpu[at.MTVEC] = BASE + 0x1000
    hart.cpu[at.TCONTROL] = st.MTE if mte else 0
    hart.cpu[at.MCAUSE] = 99
    hart.set_trigger_address(address)
    hart.set_trigger(tr.MCONTROL6 | control)
    hart.xs[10] = DATA
    put(hart, 0x13, ("ld", {"rd": 5, "rs1": 10}), ("sd", {"rs1": 10, "rs2": 10}), 0x13)
    return hart


@pytest.mark.parametrize(
    ("control", "address", "count", "value"),
    [(tr.EXECUTE, BASE + 4, 1, BASE + 4), (tr.LOAD, DATA, 1, DATA), (tr.LOAD, DATA + 7, 1, DATA), (tr.STORE, DATA, 2, DATA)],
)
def test_breakpoint_before_the_access(control: int, address: int, count: int, value: int) -> None:
    hart = watching(control | tr.IN_M, address)
    run(hart, count + 1)
    assert (hart.cpu[at.MCAUSE], hart.cpu[at.MTVAL], hart.cpu[at.MEPC]) == (t.BREAKPOINT, value, BASE + 4 * count)
    assert hart.cpu[at.INSTRET] == count
    assert hart.cpu[at.TCONTROL] == st.MPTE
    assert (hart.xs[5], hart.bus.read(DATA, 8)) == (0, 0)


@pytest.mark.parametrize(
    ("control", "address", "mte"),
    [
        (tr.EXECUTE | tr.IN_U, BASE + 4, True), (tr.EXECUTE | tr.IN_M, BASE + 4, False), (tr.IN_M, BASE + 4, True),
        (tr.EXECUTE | tr.IN_M, BASE + 6, True), (tr.STORE | tr.IN_M, DATA + 8, True),
    ],
    ids=["another mode", "no re-entry", "no access", "not an instruction's address", "beside it"],
)  # fmt: skip
def test_no_breakpoint(control: int, address: int, mte: bool) -> None:
    hart = watching(control, address, mte=mte)
    run(hart, 4)
    assert (hart.cpu[at.MCAUSE], hart.cpu[at.PC]) == (99, BASE + 16)


def test_other_types_are_disabled_and_reset_forgets() -> None:
    hart = new_hart()
    hart.set_trigger(2 << 60 | tr.EXECUTE | tr.IN_M)
    assert hart.cpu[at.TDATA1] == tr.DISABLED
    hart.set_trigger(tr.MCONTROL6 | tr.EXECUTE | tr.IN_M)
    assert hart.watched
    hart.reset(BASE)
    assert not hart.watched
