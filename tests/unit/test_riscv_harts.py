"""Several harts: turns, virtual time, interrupts on exact instructions, atomics between them; the bus and its devices."""

from __future__ import annotations

import pytest
from riscv_util import BASE, put

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv import trap as t
from trapline.machine.riscv.bus import Bus, BusError, Halt
from trapline.machine.riscv.csr import NUMBERS
from trapline.machine.riscv.devices.aclint import Aclint
from trapline.machine.riscv.harts import HALTED, IDLE, PER_TICK, SPENT, WAITS, Harts

COUNTER, FINISHER = BASE + 0x8000, 0x10_0000


class Finisher:
    size = 4

    def read(self, offset: int, size: int) -> int:
        raise BusError

    def write(self, offset: int, size: int, value: int) -> None:
        raise Halt(value)


def several(count: int, quantum: int = 1000) -> Harts:
    harts = Harts(Bus(Ram(4 << 20), BASE), count, quantum=quantum)
    harts.bus.attach(FINISHER, Finisher())
    for hart in harts.each:
        hart.reset(BASE)
        hart.xs[10] = COUNTER
    return harts


LR_SC = [("lr.w", {"rd": 5, "rs1": 10}), ("addi", {"rd": 5, "rs1": 5, "imm": 1}), ("sc.w", {"rd": 6, "rs1": 10, "rs2": 5}),
         ("bne", {"rs1": 6, "imm": -12}), ("addi", {"rd": 7, "rs1": 7, "imm": 1}), ("jal", {"imm": -20})]  # fmt: skip
AMO = [("addi", {"rd": 6, "imm": 1}), ("amoadd.w", {"rd": 5, "rs1": 10, "rs2": 6}), ("addi", {"rd": 7, "rs1": 7, "imm": 1}), ("jal", {"imm": -8})]


@pytest.mark.parametrize("program", [LR_SC, AMO], ids=["lr and sc", "amo"])
@pytest.mark.parametrize("quantum", [7, 64, 1000])
def test_counter_that_all_increment_loses_nothing(program: list[tuple[str, dict[str, int]]], quantum: int) -> None:
    harts = several(3, quantum)
    put(harts.each[0], *program)
    assert harts.run(5000) == SPENT
    done = sum(hart.xs[7] for hart in harts.each)
    assert done > 0
    assert 0 <= harts.bus.read(COUNTER, 4) - done <= 3  # one that stored and has not counted it


def test_two_runs_are_the_same_to_the_last_register() -> None:
    def state() -> list[bytes]:
        harts = several(2)
        put(harts.each[0], *LR_SC)
        harts.run(12345)
        return [bytes(hart.struct) for hart in harts.each]

    assert state() == state()


def test_time_is_the_instructions_that_passed() -> None:
    harts = several(1)
    put(harts.each[0], *([0x13] * 250), ("csrrs", {"rd": 5, "csr": NUMBERS["time"]}), ("jal", {}))
    harts.run(1000)
    assert (harts.each[0].xs[5], harts.now()) == (251 // PER_TICK, 1000 // PER_TICK)


def test_supervisor_timer_interrupts_the_same_instruction_whatever_the_quantum() -> None:
    found = set()
    for quantum in (1, 33, 1000):
        harts = several(1, quantum)
        hart = harts.each[0]
        put(hart, ("addi", {"rd": 7, "rs1": 7, "imm": 1}), ("jal", {"imm": -4}))
        put(hart, ("jal", {}), at_=BASE + 0x100)
        cpu = hart.cpu
        cpu[at.MTVEC], cpu[at.MENVCFG], cpu[at.STIMECMP] = BASE + 0x100, st.STCE, 5
        cpu[at.MIE] = st.STIP
        cpu[at.MSTATUS] |= st.MIE
        harts.run(800)
        assert cpu[at.MCAUSE] == t.INTERRUPT | t.STI
        found.add((hart.xs[7], cpu[at.MEPC]))
    assert found == {(5 * PER_TICK // 2, BASE)}


def test_waiting_harts_skip_to_the_deadline_or_are_idle() -> None:
    harts = several(2)
    put(harts.each[0], ("wfi", {}), ("jal", {}))
    assert harts.run(10_000) == IDLE
    wake = []
    harts.deadlines.append(lambda: 777)
    harts.advance.append(lambda: wake.append(harts.now()))
    assert harts.run(10_000) == IDLE  # after the deadline nobody has anything to do
    assert wake[-1] == 777
    assert max(hart.cpu[at.INSTRET] for hart in harts.each) < 10


def test_device_that_halts_leaves_the_store_done() -> None:
    harts = several(1)
    hart = harts.each[0]
    hart.xs[11] = FINISHER
    put(hart, ("addi", {"rd": 12, "imm": 42}), ("sw", {"rs1": 11, "rs2": 12}), 0x13)
    assert harts.run(100) == HALTED
    assert harts.halt is not None
    assert (harts.halt.status, hart.cpu[at.PC], hart.cpu[at.INSTRET]) == (42, BASE + 8, 2)


def test_device_sees_aligned_accesses_and_the_rest_faults() -> None:
    harts = several(1)
    hart = harts.each[0]
    for address, cause in ((FINISHER, t.LOAD_ACCESS), (FINISHER + 1, t.LOAD_MISALIGNED), (FINISHER + 4, t.LOAD_ACCESS)):
        with pytest.raises(t.Trap) as caught:
            hart.load(address, 4)
        assert caught.value.cause == cause
    with pytest.raises(t.Trap) as caught:
        hart.amo("add", FINISHER, 4, 1)
    assert caught.value.cause == t.STORE_ACCESS
    with pytest.raises(ValueError, match="taken"):
        harts.bus.attach(FINISHER + 3, Finisher())
    with pytest.raises(ValueError, match="taken"):
        harts.bus.attach(BASE - 1, Finisher())


@pytest.mark.parametrize(("count", "quantum"), [(0, 1), (65, 1), (1, 0)])
def test_impossible_numbers_are_refused(count: int, quantum: int) -> None:
    with pytest.raises(ValueError):
        Harts(Bus(Ram(4 << 20), BASE), count, quantum=quantum)


def test_native_harts_that_use_more_code_pages_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite")
    from trapline.machine.riscv.jit import pages
    from trapline.machine.riscv.jit.native import native_harts

    monkeypatch.setattr(pages, "ARENA_PAGES", 3)
    ram = Ram(4 << 20)
    tiers, make = native_harts(ram)
    harts = Harts(Bus(ram, BASE), 2, make=make, quantum=50)
    for n, hart in enumerate(harts.each):
        hart.reset(BASE + 0x1000 * n)
        hart.xs[5] = 0
    for n in range(5):  # each page adds its own bit and goes on in the page after the next
        to = 0x2000 if n < 3 else -0x3000 - 0x1000 * (n - 3)
        put(harts.each[0], ("addi", {"rd": 5, "rs1": 5, "imm": 1}), ("jal", {"imm": to - 4}), at_=BASE + 0x1000 * n)
    try:
        harts.run(2000)
        assert [hart.xs[5] for hart in harts.each] == [1000, 1000]
        assert [hart.cpu[at.INSTRET] for hart in harts.each] == [2000, 2000]
    finally:
        tiers.close()


def test_timer_that_its_own_handler_sets_again_is_exact_whatever_the_quantum() -> None:
    found = []
    for quantum in (1, 90, 50_000):
        harts = several(1, quantum)
        hart = harts.each[0]
        put(hart, ("addi", {"rd": 7, "rs1": 7, "imm": 1}), ("jal", {"imm": -4}))
        time, stimecmp = NUMBERS["time"], NUMBERS["stimecmp"]
        put(hart, ("csrrs", {"rd": 5, "csr": time}), ("addi", {"rd": 5, "rs1": 5, "imm": 2}), ("csrrw", {"csr": stimecmp, "rs1": 5}),
            ("addi", {"rd": 8, "rs1": 8, "imm": 1}), ("csrrs", {"rd": 9, "csr": NUMBERS["mepc"]}), ("mret", {}), at_=BASE + 0x100)  # fmt: skip
        cpu = hart.cpu
        cpu[at.MTVEC], cpu[at.MENVCFG], cpu[at.STIMECMP] = BASE + 0x100, st.STCE, 1
        cpu[at.MIE] = st.STIP
        cpu[at.MSTATUS] |= st.MIE | st.MPP
        harts.run(100_000)
        found.append((hart.xs[7], hart.xs[8], hart.xs[9], cpu[at.INSTRET]))
    assert found[0][1] == 500
    assert found == found[:1] * 3


def test_store_to_a_device_is_followed_by_the_interrupt_it_raises() -> None:
    harts = several(1)
    hart = harts.each[0]

    class Bell:
        size = 4

        def read(self, offset: int, size: int) -> int:
            return 0

        def write(self, offset: int, size: int, value: int) -> None:
            hart.cpu[at.LINES] = 1 << t.MSI

    harts.bus.attach(0x20_0000, Bell())
    hart.xs[11] = 0x20_0000
    hart.cpu[at.MIE], hart.cpu[at.MTVEC] = 1 << t.MSI, BASE + 0x100
    hart.cpu[at.MSTATUS] |= st.MIE
    put(hart, ("jal", {}), at_=BASE + 0x100)
    put(hart, 0x13, ("sw", {"rs1": 11}), ("addi", {"rd": 5, "imm": 1}))
    harts.run(500)
    assert (hart.cpu[at.MCAUSE], hart.cpu[at.MEPC], hart.xs[5]) == (t.INTERRUPT | t.MSI, BASE + 8, 0)


def test_machine_timer_set_again_by_its_handler_is_exact_whatever_the_quantum() -> None:
    found = []
    for quantum in (1, 90, 50_000):
        harts = several(2, quantum)
        harts.bus.attach(0x200_0000, Aclint(harts))
        hart = harts.each[0]
        put(hart, ("addi", {"rd": 7, "rs1": 7, "imm": 1}), ("jal", {"imm": -4}))
        put(hart, ("ld", {"rd": 5, "rs1": 11, "imm": -8}), ("addi", {"rd": 5, "rs1": 5, "imm": 3}), ("sd", {"rs1": 12, "rs2": 5}),
            ("addi", {"rd": 8, "rs1": 8, "imm": 1}), ("mret", {}), at_=BASE + 0x100)  # fmt: skip
        for n, each in enumerate(harts.each):
            each.xs[11], each.xs[12] = 0x200_C000, 0x200_4000 + 8 * n
            each.cpu[at.MTVEC], each.cpu[at.MIE] = BASE + 0x100, 1 << t.MTI
            each.cpu[at.MSTATUS] |= st.MIE | st.MPP
            harts.bus.write(0x200_4000 + 8 * n, 8, 1)
        harts.run(90_000)
        found.append([(each.xs[7], each.xs[8], each.cpu[at.INSTRET]) for each in harts.each])
    assert found[0][0][1] == 300
    assert found == found[:1] * 3


def test_sleeping_until_the_end_of_time() -> None:
    """Virtual time jumps to a deadline that is further away, in instructions, than 64 bits count."""
    harts = several(1)
    hart = harts.each[0]
    hart.cpu[at.MENVCFG], hart.cpu[at.STIMECMP], hart.cpu[at.MIE] = st.STCE, st.MASK - 1, st.STIP
    put(hart, ("wfi", {}), ("csrrs", {"rd": 5, "csr": NUMBERS["time"], "rs1": 0}), ("jal", {"rd": 0, "imm": 0}))
    harts.run(50_000)
    assert hart.xs[5] >= st.MASK - 1


@pytest.mark.parametrize(("quiet", "raises", "ends"), [(True, False, False), (True, True, True), (False, False, True)])
def test_store_to_a_device_ends_the_run_if_it_may_have_moved_something(quiet: bool, raises: bool, ends: bool) -> None:
    class Switch:
        size = 8

        def __init__(self) -> None:
            self.quiet = quiet

        def read(self, offset: int, size: int) -> int:
            raise BusError

        def write(self, offset: int, size: int, value: int) -> None:
            harts.each[0].cpu[at.LINES] ^= (1 << t.MEI) * raises

    harts = several(1)
    harts.bus.attach(0x1000_0000, Switch())
    hart = harts.each[0]
    hart.xs[11] = 0x1000_0000
    put(hart, ("addi", {"rd": 5, "imm": 1}), ("sw", {"rs1": 11, "rs2": 5}), ("jal", {"imm": 0}))
    hart.run(100)
    assert hart.consumed() == (2 if ends else 100)


def test_time_jumps_to_a_deadline_or_is_left_to_the_caller() -> None:
    harts = several(1)
    aclint = Aclint(harts)
    put(harts.each[0], ("wfi", {}), ("jal", {"imm": -4}))
    aclint.write(0x4000, 8, 1_000_000)
    assert harts.run(5000, jump=False) == WAITS
    left = harts.ahead()
    assert left == 1_000_000 * PER_TICK - harts.elapsed > 0
    harts.let_pass(left - PER_TICK)
    assert harts.ahead() == PER_TICK and not harts.each[0].cpu[at.LINES] & 1 << t.MTI
    assert harts.run(5000, jump=False) == WAITS
    harts.let_pass(harts.ahead())
    assert harts.each[0].cpu[at.LINES] & 1 << t.MTI
    aclint.write(0x4000, 8, 5_000_000)
    assert harts.run(5000) == IDLE and harts.elapsed >= 5_000_000 * PER_TICK  # it jumped, and nothing is left to wait for


def test_device_lets_the_run_end_early() -> None:
    harts = several(1)
    put(harts.each[0], ("jal", {"imm": 0}))
    harts.pause = True
    assert harts.run(100_000) == SPENT and harts.elapsed == harts.quantum and not harts.pause
