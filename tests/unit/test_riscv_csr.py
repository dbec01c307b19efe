"""Control and status registers: who may use each, what writes leave in each field, counters and their enables."""

from __future__ import annotations

import pytest
from riscv_util import BASE, M64, new_hart, put, run, tier  # noqa: F401

from trapline.machine.riscv import csr, pmp
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.hart import Hart
from trapline.machine.riscv.trap import ILLEGAL, Trap

N = csr.NUMBERS


def write(hart: Hart, name: str, value: int) -> int:
    """Write and read back."""
    hart.csr(N[name], "w", value, read=False, write=True)
    return read(hart, name)


def read(hart: Hart, name: str) -> int:
    return hart.csr(N[name], "s", 0, read=True, write=False)


def refused(hart: Hart, number: int, *, store: bool = False) -> bool:
    put(hart, 0x13)
    try:
        hart.csr(number, "s", 0, read=True, write=store)
    except Trap as trap:
        assert trap.cause == ILLEGAL
        return True
    return False


def at_mode(priv: int) -> Hart:
    hart = new_hart()
    cpu = hart.cpu
    cpu[at.PMPCFG], cpu[at.PMPADDR] = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.ADDRESS_MASK
    hart.pmp.update()
    cpu[at.MENVCFG], cpu[at.MCOUNTEREN], cpu[at.SCOUNTEREN] = st.STCE | st.SSE, 0xFFFF_FFFF, 0xFFFF_FFFF
    cpu[at.SENVCFG] = st.SSE
    cpu[at.MSTATUS] |= st.FS
    hart.enter(priv)
    return hart


@pytest.mark.parametrize("priv", [st.U, st.S, st.M])
def test_every_number_obeys_its_own_rule(priv: int) -> None:
    hart = at_mode(priv)
    for number in range(4096):
        owner = {csr.HYPERVISOR: st.S}.get(number >> 8 & 3, number >> 8 & 3)
        missing = number not in csr.TABLE or priv < owner
        assert refused(hart, number) == missing, hex(number)
        assert refused(hart, number, store=True) == (missing or number >> 10 == 3), hex(number)


@pytest.mark.parametrize("name", sorted(N))
def test_writes_of_anything_leave_a_legal_value_that_is_stable(name: str) -> None:
    hart = at_mode(st.M)
    if N[name] >> 10 == 3:
        assert refused(hart, N[name], store=True)
        return
    for value in (0, M64, 0x5555_5555_5555_5555, 0xAAAA_AAAA_AAAA_AAAA):
        kept = write(hart, name, value)
        assert 0 <= kept <= M64
        if "cycle" not in name and "instret" not in name:
            assert write(hart, name, kept) == kept


@pytest.mark.parametrize(
    ("name", "written", "kept"),
    [
        ("misa", 0, st.MISA), ("mvendorid", None, 0), ("mhartid", None, 0),
        ("mepc", M64, M64 - 1), ("sepc", 3, 2), ("mtvec", 0x1001, 0x1001), ("mtvec", 0x1003, 0x1000), ("stvec", 0x1002, 0x1000),
        ("medeleg", M64, 0xF4_B7FF), ("mideleg", M64, 0x1666), ("mie", M64, 0x1EEE), ("mcounteren", M64, 0xFFFF_FFFF),
        ("mideleg", 0, 0x1444), ("hideleg", M64, 0x444), ("hedeleg", M64, 0x4_B1FF), ("hvip", M64, 0x444), ("hie", M64, 0x1444),
        ("hgeie", M64, 0), ("hip", M64, 4), ("hstatus", M64, 2 << 32 | 0x70_03C0), ("vsstatus", M64, st.SSTATUS & ~(1 << 32)),
        ("hgatp", M64, M64 >> 20 << 2 & (1 << 44) - 1 | 0x3FFF << 44), ("hgatp", 8 << 60 | 7, 8 << 60 | 4),
        ("vsatp", 1 << 60 | 5, 0), ("vsatp", 10 << 60 | M64 >> 4, 10 << 60 | M64 >> 4), ("henvcfg", M64, 1 << 63 | 0xFD),
        ("fcsr", M64, 0xFF), ("frm", M64, 7), ("fflags", M64, 31), ("mcountinhibit", M64, 0xFFFF_FFFD),
        ("satp", 1 << 60 | 5, 0), ("satp", 8 << 60 | M64 >> 4, 8 << 60 | M64 >> 4), ("menvcfg", M64, 0b1110 << 60 | 0xFD),
        ("menvcfg", 2 << 4, 0), ("senvcfg", M64, 0xFD), ("mhpmevent3", 99, 0), ("mhpmevent3", 2, 2), ("tselect", 9, 0),
        ("tinfo", 0, 1 << 24 | 1 << 15 | 1 << 6), ("pmpaddr3", M64, (1 << 54) - 1), ("mseccfg", st.MMWP, st.MMWP),
        ("mseccfg", st.MLPE, st.MLPE), ("ssp", M64, M64 - 7),
    ],
)  # fmt: skip
def test_field_by_field(name: str, written: int | None, kept: int) -> None:
    hart = at_mode(st.M)
    if written is None:
        assert read(hart, name) == kept
    else:
        assert write(hart, name, written) == kept


def test_mstatus_fields() -> None:
    hart = new_hart()
    assert write(hart, "mstatus", M64) == st.XLEN_64 | st.SD | st.MSTATUS_WRITABLE
    assert write(hart, "mstatus", 0) == st.XLEN_64
    write(hart, "mstatus", st.S << st.MPP_SHIFT)
    assert write(hart, "mstatus", 2 << st.MPP_SHIFT) & st.MPP == st.S << st.MPP_SHIFT  # there is no mode 2
    assert write(hart, "sstatus", M64) & (st.MIE | st.MPRV | st.TVM) == 0
    assert read(hart, "mstatus") & st.SUM


def test_sie_and_sip_show_what_is_delegated() -> None:
    hart = new_hart()
    write(hart, "mideleg", st.SSIP)
    write(hart, "mie", 0xAAA)
    assert read(hart, "sie") == st.SSIP
    write(hart, "sie", 0)
    assert read(hart, "mie") == 0xAAA & ~st.SSIP
    write(hart, "mip", 0xAAA)
    assert (read(hart, "mip"), read(hart, "sip")) == (0x222, st.SSIP)
    assert (write(hart, "mip", M64), read(hart, "sip")) == (0x226, st.SSIP)
    write(hart, "mip", 0x222)
    write(hart, "sip", 0)
    assert read(hart, "mip") == st.STIP | st.SEIP


def test_setting_a_bit_of_mip_does_not_latch_a_line_that_a_device_asserts() -> None:
    hart = new_hart()
    hart.cpu[at.LINES] = st.SEIP
    hart.csr(N["mip"], "s", st.SSIP, read=True, write=True)
    hart.cpu[at.LINES] = 0
    assert read(hart, "mip") == st.SSIP


def test_satp_of_supervisor_mode_is_trapped_by_tvm() -> None:
    hart = at_mode(st.S)
    assert not refused(hart, N["satp"])
    hart.cpu[at.MSTATUS] |= st.TVM
    assert refused(hart, N["satp"])


@pytest.mark.parametrize(("name", "bit"), [("cycle", 0), ("time", 1), ("instret", 2), ("hpmcounter3", 3), ("hpmcounter31", 31)])
def test_counters_need_their_enables(name: str, bit: int) -> None:
    for priv, machine, supervisor, seen in (
        (st.M, 0, 0, True), (st.S, 0, 1, False), (st.S, 1, 0, True), (st.U, 1, 0, False), (st.U, 0, 1, False), (st.U, 1, 1, True),
    ):  # fmt: skip
        hart = at_mode(priv)
        hart.cpu[at.MCOUNTEREN], hart.cpu[at.SCOUNTEREN] = machine << bit, supervisor << bit
        assert refused(hart, N[name]) != seen


def test_stimecmp_needs_sstc_and_the_time_enable() -> None:
    hart = at_mode(st.S)
    assert not refused(hart, N["stimecmp"], store=True)
    hart.cpu[at.MCOUNTEREN] = 0
    assert refused(hart, N["stimecmp"])
    hart = at_mode(st.S)
    hart.cpu[at.MENVCFG] = 0
    assert refused(hart, N["stimecmp"])


def test_fcsr_needs_fs() -> None:
    hart = new_hart()
    assert refused(hart, N["fflags"])
    assert refused(hart, N["fcsr"])


def test_counters_count_what_has_retired_and_a_write_is_not_counted() -> None:
    hart = new_hart()
    number = N["minstret"]
    put(hart, 0x13, 0x13, ("csrrs", {"rd": 5, "csr": number}), ("csrrwi", {"csr": number, "imm": 10}),
        ("csrrs", {"rd": 6, "csr": number}), ("csrrs", {"rd": 7, "csr": number}))  # fmt: skip
    run(hart, 6)
    assert (hart.xs[5], hart.xs[6], hart.xs[7]) == (2, 10, 11)


def test_inhibited_counter_stands_still() -> None:
    hart = new_hart()
    put(hart, ("csrrwi", {"csr": N["mcountinhibit"], "imm": 1}), ("csrrs", {"rd": 5, "csr": N["mcycle"]}), 0x13,
        ("csrrs", {"rd": 6, "csr": N["mcycle"]}), ("csrrs", {"rd": 7, "csr": N["minstret"]}))  # fmt: skip
    run(hart, 5)
    assert hart.xs[5] == hart.xs[6]
    assert hart.xs[7] == 4


def test_event_counter_counts_traps() -> None:
    hart = new_hart()
    write(hart, "mhpmevent3", 4)
    hart.cpu[at.MTVEC] = BASE + 0x100
    put(hart, ("ecall", {}))
    run(hart, 1)
    assert read(hart, "mhpmcounter3") == 1
    write(hart, "mhpmcounter3", 7)
    assert read(hart, "mhpmcounter3") == 7


# ---- locked protection


def test_locked_entry_keeps_its_registers() -> None:
    hart = new_hart()
    write(hart, "pmpaddr0", 0x100)
    write(hart, "pmpaddr1", 0x200)
    write(hart, "pmpcfg0", (pmp.LOCK | pmp.TOR | pmp.R) << 8)
    assert write(hart, "pmpcfg0", 0) == (pmp.LOCK | pmp.TOR | pmp.R) << 8
    assert write(hart, "pmpaddr1", 0) == 0x200
    assert write(hart, "pmpaddr0", 0) == 0x100  # it is the bottom of a locked range


def test_write_without_read_is_reserved_unless_mml_is_set() -> None:
    hart = new_hart()
    assert write(hart, "pmpcfg0", pmp.W) == 0
    write(hart, "mseccfg", st.MML | st.RLB)
    assert write(hart, "pmpcfg0", pmp.W) == pmp.W


def test_sticky_bits_of_mseccfg() -> None:
    hart = new_hart()
    assert write(hart, "mseccfg", st.MML | st.MMWP | st.RLB) == 7
    assert write(hart, "mseccfg", 0) == st.MML | st.MMWP
    hart = new_hart()
    write(hart, "pmpcfg0", pmp.LOCK | pmp.NA4)
    assert write(hart, "mseccfg", st.RLB) == 0
