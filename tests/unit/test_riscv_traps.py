"""Traps of a whole hart: causes and values, delegation, vectors, priorities, returns, waiting, and who may use what."""

from __future__ import annotations

import pytest
from riscv_util import BASE, M64, new_hart, put, run, tier  # noqa: F401

from trapline.machine.riscv import csr, pmp
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv import trap as t
from trapline.machine.riscv.hart import BUDGET, WAITING, Hart

M_HANDLER, S_HANDLER = BASE + 0x1000, BASE + 0x2000
DELEGATED = 0xB3FF
ILLEGAL_WORD = 0xFFFF_FFFF


def prepared(priv: int, *, delegate: bool = False) -> Hart:
    """A hart whose handlers are endless loops, in a mode, with all memory permitted."""
    hart = new_hart()
    put(hart, ("jal", {}), at_=M_HANDLER)
    put(hart, ("jal", {}), at_=S_HANDLER)
    cpu = hart.cpu
    cpu[at.MTVEC], cpu[at.STVEC] = M_HANDLER, S_HANDLER
    cpu[at.PMPCFG], cpu[at.PMPADDR] = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.ADDRESS_MASK
    hart.pmp.update()
    if delegate:
        cpu[at.MEDELEG] = DELEGATED
    hart.enter(priv)
    return hart


def one(hart: Hart, *words: object, count: int = 1) -> None:
    put(hart, *words)  # type: ignore[arg-type]
    run(hart, count, BASE)


@pytest.mark.parametrize("priv", [st.U, st.S, st.M])
@pytest.mark.parametrize("delegate", [False, True])
@pytest.mark.parametrize(
    ("word", "cause", "value"),
    [
        (ILLEGAL_WORD, t.ILLEGAL, ILLEGAL_WORD),
        (0x0000, t.ILLEGAL, 0),
        (("ebreak", {}), t.BREAKPOINT, BASE),
        (("lr.w", {"rs1": 10}), t.LOAD_MISALIGNED, 0x8000_4001),
        (("amoadd.w", {"rs1": 10}), t.STORE_MISALIGNED, 0x8000_4001),
        (("ld", {"rs1": 11}), t.LOAD_ACCESS, 0x100),
        (("sd", {"rs1": 11}), t.STORE_ACCESS, 0x100),
    ],
)
def test_synchronous_trap(priv: int, delegate: bool, word: object, cause: int, value: int) -> None:
    hart = prepared(priv, delegate=delegate)
    hart.xs[10], hart.xs[11] = 0x8000_4001, 0x100
    one(hart, word)
    cpu = hart.cpu
    if delegate and priv < st.M:
        assert (cpu[at.SCAUSE], cpu[at.STVAL], cpu[at.SEPC], cpu[at.PC], cpu[at.PRIV]) == (cause, value, BASE, S_HANDLER, st.S)
        assert bool(cpu[at.MSTATUS] & st.SPP) == (priv == st.S)
    else:
        assert (cpu[at.MCAUSE], cpu[at.MTVAL], cpu[at.MEPC], cpu[at.PC], cpu[at.PRIV]) == (cause, value, BASE, M_HANDLER, st.M)
        assert (cpu[at.MSTATUS] & st.MPP) >> st.MPP_SHIFT == priv


@pytest.mark.parametrize(("priv", "cause"), [(st.U, t.ECALL_U), (st.S, t.ECALL_S), (st.M, t.ECALL_M)])
def test_ecall_says_where_it_came_from_and_does_not_retire(priv: int, cause: int) -> None:
    hart = prepared(priv)
    one(hart, ("ecall", {}))
    assert (hart.cpu[at.MCAUSE], hart.cpu[at.MTVAL], hart.cpu[at.INSTRET]) == (cause, 0, 0)


def test_fetch_outside_memory() -> None:
    hart = prepared(st.M)
    run(hart, 1, 0x4000)
    assert (hart.cpu[at.MCAUSE], hart.cpu[at.MTVAL], hart.cpu[at.MEPC]) == (t.FETCH_ACCESS, 0x4000, 0x4000)


def test_pc_wraps_at_the_end_of_the_address_space() -> None:
    hart = prepared(st.M)
    run(hart, 1, M64 - 1)
    assert (hart.cpu[at.MCAUSE], hart.cpu[at.MEPC]) == (t.FETCH_ACCESS, M64 - 1)


@pytest.mark.parametrize("name", ["fadd.d", "flw", "fsd", "fcvt.w.s", "fli.d"])
def test_floating_point_is_illegal_while_fs_is_off(name: str) -> None:
    hart = prepared(st.M)
    one(hart, (name, {}))
    assert hart.cpu[at.MCAUSE] == t.ILLEGAL
    hart = prepared(st.M)
    hart.cpu[at.MSTATUS] |= 1 << st.FS_SHIFT
    hart.xs[0:1] = hart.xs[0:1]
    one(hart, ("fli.d", {"rd": 1, "rs1": 16}))
    assert hart.cpu[at.MSTATUS] & st.FS == st.FS


@pytest.mark.parametrize(("rm", "frm"), [(5, 0), (6, 0), (7, 5), (7, 7)])
def test_reserved_rounding_mode_is_illegal(rm: int, frm: int) -> None:
    hart = prepared(st.M)
    hart.cpu[at.MSTATUS] |= st.FS
    hart.cpu[at.FRM] = frm
    one(hart, ("fadd.d", {"rd": 1, "rs1": 2, "rs2": 3, "rm": rm}))
    assert hart.cpu[at.MCAUSE] == t.ILLEGAL
    assert hart.cpu[at.MTVAL] & 0x7F == 0x53


# ---- interrupts


@pytest.mark.parametrize("mode", [0, 1], ids=["direct", "vectored"])
def test_interrupts_come_in_the_order_of_the_manual(mode: int) -> None:
    hart = prepared(st.M)
    cpu = hart.cpu
    for n in range(16):
        put(hart, ("jal", {}), at_=M_HANDLER + 4 * n)
    cpu[at.MTVEC] |= mode
    cpu[at.LINES] = cpu[at.MIE] = 0xAAA
    for expected in (t.MEI, t.MSI, t.MTI, t.SEI, t.SSI, t.STI):
        cpu[at.MSTATUS] |= st.MIE
        run(hart, 1, BASE)
        assert cpu[at.MCAUSE] == t.INTERRUPT | expected
        assert cpu[at.PC] == M_HANDLER + (4 * expected if mode else 0)
        assert not cpu[at.MSTATUS] & st.MIE
        cpu[at.LINES] &= ~(1 << expected)


def test_exceptions_are_never_vectored() -> None:
    hart = prepared(st.M)
    hart.cpu[at.MTVEC] |= 1
    one(hart, ("ecall", {}))
    assert hart.cpu[at.PC] == M_HANDLER


@pytest.mark.parametrize(
    ("priv", "sie", "taken"), [(st.U, False, True), (st.S, False, False), (st.S, True, True), (st.M, True, False)]
)
def test_delegated_interrupt_is_taken_below_or_in_enabled_supervisor_mode(priv: int, sie: bool, taken: bool) -> None:
    hart = prepared(priv)
    cpu = hart.cpu
    cpu[at.MIDELEG] = cpu[at.MIE] = cpu[at.MIP] = st.SSIP
    cpu[at.MSTATUS] |= (st.SIE if sie else 0) | st.MIE
    one(hart, ("addi", {}))
    assert (cpu[at.SCAUSE] == t.INTERRUPT | t.SSI) == taken
    assert (cpu[at.PRIV] == st.S and cpu[at.PC] == S_HANDLER) == taken


def test_machine_interrupt_is_taken_below_machine_mode_even_if_mie_is_clear() -> None:
    hart = prepared(st.S)
    hart.cpu[at.MIE] = hart.cpu[at.LINES] = 1 << t.MTI
    run(hart, 1, BASE)
    assert hart.cpu[at.MCAUSE] == t.INTERRUPT | t.MTI


def test_interrupt_enabled_by_a_csr_write_comes_before_the_next_instruction() -> None:
    hart = prepared(st.M)
    hart.cpu[at.MIE] = hart.cpu[at.LINES] = 1 << t.MSI
    put(hart, ("csrrsi", {"csr": csr.NUMBERS["mstatus"], "imm": st.MIE}), ("addi", {"rd": 5, "imm": 1}))
    run(hart, 2, BASE)
    assert (hart.cpu[at.MEPC], hart.xs[5]) == (BASE + 4, 0)


def test_supervisor_timer_of_sstc() -> None:
    now = [99]
    hart = prepared(st.S)
    hart.time = lambda: now[0]
    cpu = hart.cpu
    cpu[at.MENVCFG], cpu[at.STIMECMP] = st.STCE, 100
    cpu[at.MIDELEG] = cpu[at.MIE] = st.STIP
    cpu[at.MSTATUS] |= st.SIE
    one(hart, ("addi", {}))
    assert cpu[at.SCAUSE] == 0
    now[0] = 100
    run(hart, 1, BASE)
    assert cpu[at.SCAUSE] == t.INTERRUPT | t.STI


def test_wfi_waits_for_an_enabled_interrupt_whether_or_not_it_is_taken() -> None:
    hart = prepared(st.M)
    hart.cpu[at.MIE] = 1 << t.MTI
    put(hart, ("wfi", {}), ("addi", {"rd": 5, "imm": 1}))
    run(hart, 0, BASE)
    assert hart.run(100) == WAITING
    assert hart.xs[5] == 0
    hart.cpu[at.LINES] = 1 << t.MTI  # mstatus.MIE is clear: not taken
    assert hart.run(1) == BUDGET
    assert hart.xs[5] == 1


# ---- returns


def test_mret_goes_where_mpp_says_and_clears_mprv_below_machine_mode() -> None:
    hart = prepared(st.M)
    cpu = hart.cpu
    cpu[at.MEPC] = BASE + 0x100
    cpu[at.MSTATUS] |= st.MPIE | st.S << st.MPP_SHIFT | st.MPRV
    one(hart, ("mret", {}))
    status = cpu[at.MSTATUS]
    assert (cpu[at.PC], cpu[at.PRIV]) == (BASE + 0x100, st.S)
    assert (status & st.MIE, status & st.MPIE, status & st.MPP, status & st.MPRV) == (st.MIE, st.MPIE, 0, 0)


def test_sret_goes_where_spp_says() -> None:
    hart = prepared(st.S)
    cpu = hart.cpu
    cpu[at.SEPC] = BASE + 0x100
    cpu[at.MSTATUS] |= st.SPIE
    one(hart, ("sret", {}))
    assert (cpu[at.PC], cpu[at.PRIV], cpu[at.MSTATUS] & (st.SIE | st.SPP)) == (BASE + 0x100, st.U, st.SIE)


@pytest.mark.parametrize(
    ("name", "lowest", "bit"),
    [("mret", st.M, 0), ("sret", st.S, st.TSR), ("wfi", st.S, st.TW), ("sfence.vma", st.S, st.TVM), ("sinval.vma", st.S, st.TVM),
     ("sfence.w.inval", st.S, 0), ("sfence.inval.ir", st.S, 0)],
)  # fmt: skip
@pytest.mark.parametrize("priv", [st.U, st.S, st.M])
def test_who_may_use_a_privileged_instruction(name: str, lowest: int, bit: int, priv: int) -> None:
    for trapped in {0, bit}:
        hart = prepared(priv)
        hart.cpu[at.MSTATUS] |= trapped
        hart.cpu[at.SEPC] = hart.cpu[at.MEPC] = BASE
        hart.cpu[at.MIE] = hart.cpu[at.MIP] = st.SSIP
        hart.cpu[at.MIDELEG] = st.SSIP
        hart.cpu[at.MCAUSE] = 99
        put(hart, (name, {}))
        hart.cpu[at.PC] = BASE
        if priv == st.U:
            hart.cpu[at.MIE] = 0
        hart.run(1)
        illegal = priv < lowest or (priv == st.S and bool(trapped))
        assert (hart.cpu[at.MCAUSE] == t.ILLEGAL) == illegal, (name, priv, trapped)


@pytest.mark.parametrize(("name", "bit"), [("cbo.zero", st.CBZE), ("cbo.clean", st.CBCFE), ("cbo.flush", st.CBCFE), ("cbo.inval", st.CBIE_FLUSH)])
@pytest.mark.parametrize("priv", [st.U, st.S, st.M])
def test_cache_block_instructions_need_the_environment_s_leave(name: str, bit: int, priv: int) -> None:
    for machine, supervisor in ((0, 0), (bit, 0), (bit, bit)):
        hart = prepared(priv)
        hart.cpu[at.MENVCFG], hart.cpu[at.SENVCFG] = machine, supervisor
        hart.cpu[at.MCAUSE] = 99
        hart.xs[10] = BASE + 0x8000
        one(hart, (name, {"rs1": 10}))
        allowed = priv == st.M or (machine and (priv == st.S or supervisor))
        assert hart.cpu[at.MCAUSE] == (99 if allowed else t.ILLEGAL)


@pytest.mark.parametrize("name", ["cbo.zero", "cbo.clean", "cbo.flush", "cbo.inval"])
@pytest.mark.parametrize("address", [BASE + (1 << 30) + 8, 0x10], ids=["behind RAM", "before it"])
def test_cache_block_instructions_fault_where_there_is_no_ram(name: str, address: int) -> None:
    hart = prepared(st.M)
    hart.xs[10] = address
    one(hart, (name, {"rs1": 10}))
    assert (hart.cpu[at.MCAUSE], hart.cpu[at.MTVAL]) == (t.STORE_ACCESS, address)


@pytest.mark.parametrize(("name", "epc"), [("mret", at.MEPC), ("sret", at.SEPC)])
@pytest.mark.parametrize("to", [st.U, st.S, st.M])
def test_a_return_to_a_lower_mode_takes_mprv_back(name: str, epc: int, to: int) -> None:
    if name == "sret" and to == st.M:
        return
    hart = prepared(st.M)
    hart.cpu[epc] = BASE + 0x100
    hart.cpu[at.MSTATUS] |= st.MPRV | (to << st.MPP_SHIFT if name == "mret" else st.SPP if to else 0)
    one(hart, (name, {}))
    assert (hart.cpu[at.PRIV], bool(hart.cpu[at.MSTATUS] & st.MPRV)) == (to, to == st.M)


def test_handler_that_traps_on_its_first_instruction_uses_up_its_budget() -> None:
    hart = new_hart()
    hart.cpu[at.MTVEC] = 0x1000
    assert hart.run(1000) == BUDGET
    assert hart.cpu[at.INSTRET] == 0


def test_trap_in_the_handler_s_interrupt_storm_ends_too() -> None:
    hart = new_hart()
    hart.cpu[at.MTVEC] = 0x1000
    hart.cpu[at.MIE] = hart.cpu[at.LINES] = 1 << t.MEI
    hart.cpu[at.MSTATUS] |= st.MIE
    assert hart.run(1000) == BUDGET
