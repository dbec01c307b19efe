"""Control-flow integrity: landing pads and shadow stacks, where they are on, where they are off, and in a guest."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from riscv_util import BASE, M64, new_hart, put, run, tier  # noqa: F401

from trapline.machine.riscv import csr, pmp
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv import trap as t
from trapline.machine.riscv.hart import Hart
from trapline.machine.riscv.isa.decode import encode

N = csr.NUMBERS
M_HANDLER, S_HANDLER, G_HANDLER = BASE + 0x1000, BASE + 0x2000, BASE + 0x3000
ROOT, STACK, DATA = BASE + 0x10_0000, BASE + 0x20_0000, BASE + 0x40_0000 - 0x1000
SHADOW_VA, DATA_VA, CODE_VA = 0x4000_0000, 0x4020_0000, 0x4040_0000
V, R, W, X, U, A, D = (1 << n for n in (0, 1, 2, 3, 4, 6, 7))
C_SSPUSH, C_SSPOPCHK = 0x6081, 0x6281


def prepared(priv: int = st.U, *, guest: bool = False) -> Hart:
    """A hart with tables of large pages: code (executable by user and supervisor alike), data, and a shadow stack."""
    hart = new_hart()
    for handler in (M_HANDLER, S_HANDLER, G_HANDLER):
        put(hart, ("jal", {}), at_=handler)
    cpu = hart.cpu
    cpu[at.MTVEC], cpu[at.STVEC], cpu[at.VSTVEC] = M_HANDLER, S_HANDLER, G_HANDLER
    cpu[at.PMPCFG], cpu[at.PMPADDR] = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.ADDRESS_MASK
    hart.pmp.update()
    cpu[at.MEDELEG] = 0xF4_B7FF
    level = ROOT + 0x1000
    hart.bus.write(ROOT + 8, 8, level >> 12 << 10 | V)  # 1 GiB to 2 GiB
    mine = U if priv == st.U else 0
    for n, (pa, flags) in enumerate(((STACK, W), (STACK, R | W), (BASE, R | X))):
        hart.bus.write(level + 8 * n, 8, pa >> 12 << 10 | V | flags | A | D | mine)
    hart.bus.write(ROOT + 16, 8, BASE >> 30 << 28 | V | R | W | X | A | D)  # where the supervisor's handlers are
    satp = st.SV39_MODE << 60 | ROOT >> 12
    hart.enter(priv)
    if guest:
        cpu[at.VSATP] = satp
        hart.cross(1)
    else:
        hart.change_space(satp)
    return hart


def enable(hart: Hart, name: str, bits: int) -> None:
    """Set bits of a register, as machine mode would."""
    cpu = hart.cpu
    priv, virt = cpu[at.PRIV], cpu[at.VIRT]
    if virt:
        hart.cross(0)
    hart.enter(st.M)
    hart.csr(N[name], "s", bits, read=True, write=True)
    hart.enter(priv)
    if virt:
        hart.cross(1)


def shadowed(priv: int = st.U, *, guest: bool = False) -> Hart:
    hart = prepared(priv, guest=guest)
    for name in ("menvcfg", "senvcfg", "henvcfg"):
        enable(hart, name, st.SSE)
    hart.cpu[at.SSP] = SHADOW_VA + 0x800
    return hart


def execute(hart: Hart, *words: int | tuple[str, dict[str, int]], count: int | None = None) -> None:
    put(hart, *words, at_=BASE)
    hart.fence_i()
    run(hart, len(words) if count is None else count, CODE_VA)


def cause(hart: Hart) -> tuple[int, int]:
    """Of the last trap into S-mode (HS or VS)."""
    return hart.cpu[at.SCAUSE], hart.cpu[at.STVAL]


# ---- shadow stacks

PUSH, POP = ("sspush", {}), ("sspopchk", {})


@pytest.mark.parametrize(("priv", "guest"), list(product((st.U, st.S), (False, True))))
def test_push_pop_and_read(priv: int, guest: bool) -> None:
    hart = shadowed(priv, guest=guest)
    hart.xs[1], hart.xs[5] = 0x1234, 0x5678
    execute(hart, PUSH, ("sspush", {"imm": 4}), ("ssrdp", {"rd": 10}), C_SSPUSH, POP, C_SSPOPCHK, POP, ("ssrdp", {"rd": 11}))
    assert hart.cpu[at.TRAPS] == 0, cause(hart)
    assert [hart.bus.read(STACK + 0x800 - 8 * n, 8) for n in (1, 2, 3)] == [0x1234, 0x5678, 0x1234]
    assert (hart.xs[10], hart.xs[11], hart.cpu[at.SSP]) == (SHADOW_VA + 0x7F0, SHADOW_VA + 0x800, SHADOW_VA + 0x800)


@pytest.mark.parametrize("word", [POP, C_SSPOPCHK])
def test_a_wrong_return_address_is_a_software_check(word: int | tuple[str, dict[str, int]]) -> None:
    hart = shadowed()
    hart.xs[1] = hart.xs[5] = 0x1234
    execute(hart, PUSH, ("addi", {"rd": 1, "rs1": 1, "imm": 8}), ("addi", {"rd": 5, "rs1": 5, "imm": 8}), word)
    assert cause(hart) == (t.SOFTWARE_CHECK, t.SHADOW_FAULT)
    assert hart.cpu[at.SSP] == SHADOW_VA + 0x7F8


def test_where_it_is_off_they_are_may_be_operations() -> None:
    for bits in ((), ("menvcfg",), ("senvcfg",)):
        hart = prepared()
        for name in bits:
            enable(hart, name, st.SSE)
        hart.xs[1], hart.xs[10] = 1, 99
        execute(hart, PUSH, POP, ("ssrdp", {"rd": 10}), C_SSPUSH, C_SSPOPCHK)
        assert (hart.cpu[at.TRAPS], hart.xs[10], hart.cpu[at.SSP]) == (0, 0, 0)
    hart = new_hart()
    enable(hart, "menvcfg", st.SSE)
    hart.xs[10] = 99
    put(hart, PUSH, ("ssrdp", {"rd": 10}))
    run(hart, 2, BASE)
    assert (hart.cpu[at.TRAPS], hart.xs[10]) == (0, 0)  # there is none in machine mode


@pytest.mark.parametrize("n", range(32))
def test_may_be_operations_write_zero(n: int) -> None:
    hart = shadowed()
    words = [encode("mop.r", imm=n, rd=10, rs1=11), encode("mop.rr", imm=n & 7, rd=12, rs1=11, rs2=11), 0x6081 | (n & 7) << 8]
    hart.xs[10] = hart.xs[12] = 5
    hart.xs[11] = 7
    if n & 7 in (0, 2):
        words[2] = 0x6181  # c.mop.3: the others are the shadow stack's
    execute(hart, *words)
    assert (hart.cpu[at.TRAPS], hart.xs[10], hart.xs[12], hart.cpu[at.SSP]) == (0, 0, 0, SHADOW_VA + 0x800)


@pytest.mark.parametrize(
    ("flags", "push", "store", "load"),
    [
        (W, None, t.STORE_ACCESS, None), (R, t.STORE_PAGE, t.STORE_PAGE, None), (R | W, t.STORE_ACCESS, None, None),
        (R | X, t.STORE_ACCESS, t.STORE_PAGE, None), (X, t.STORE_ACCESS, t.STORE_PAGE, t.LOAD_PAGE),
        (R | W | X, t.STORE_ACCESS, None, None), (W | X, t.STORE_PAGE, t.STORE_PAGE, t.LOAD_PAGE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("guest", [False, True])
def test_pages_of_shadow_stacks_are_only_its_own_instructions(
    flags: int, push: int | None, store: int | None, load: int | None, guest: bool
) -> None:
    for expected, word in [(push, PUSH), (push, POP), (store, ("sd", {"rs1": 10})), (load, ("ld", {"rd": 11, "rs1": 10}))]:
        hart = shadowed(guest=guest)
        hart.bus.write(ROOT + 0x1000, 8, STACK >> 12 << 10 | V | flags | U | A | D)
        hart.xs[10] = SHADOW_VA + 0x7F8
        hart.cpu[at.SSP] = SHADOW_VA + (0x800 if word is PUSH else 0x7F8)
        execute(hart, word)
        if expected is None:
            assert hart.cpu[at.TRAPS] == 0, (word, cause(hart))
        else:
            assert cause(hart) == (expected, SHADOW_VA + 0x7F8), word


def test_the_encoding_is_reserved_while_it_is_off_and_execution_from_it_never_allowed() -> None:
    hart = prepared()
    hart.xs[10] = SHADOW_VA
    execute(hart, ("ld", {"rd": 11, "rs1": 10}))
    assert cause(hart) == (t.LOAD_PAGE, SHADOW_VA)
    hart = shadowed()
    run(hart, 1, SHADOW_VA)
    assert cause(hart) == (t.FETCH_ACCESS, SHADOW_VA)


def test_accessed_and_dirty_bits_of_a_shadow_stack() -> None:
    for word, bits in ((PUSH, A | D), (POP, A)):
        hart = shadowed()
        enable(hart, "menvcfg", st.ADUE)
        hart.bus.write(ROOT + 0x1000, 8, STACK >> 12 << 10 | V | W | U)
        hart.cpu[at.SSP] = SHADOW_VA + 0x100
        execute(hart, word)
        assert (hart.cpu[at.TRAPS], hart.bus.read(ROOT + 0x1000, 8) & (A | D)) == (0, bits)


def test_a_push_does_not_let_ordinary_stores_in() -> None:
    hart = shadowed()
    hart.xs[10] = SHADOW_VA + 0x7F0
    execute(hart, PUSH, ("ld", {"rd": 11, "rs1": 10}), PUSH, ("sd", {"rs1": 10}))
    assert (hart.cpu[at.TRAPS], cause(hart)) == (1, (t.STORE_ACCESS, SHADOW_VA + 0x7F0))


def test_without_translation_there_is_no_shadow_stack() -> None:
    hart = shadowed(st.S)
    hart.change_space(0)
    put(hart, PUSH)
    run(hart, 1, BASE)
    assert cause(hart) == (t.STORE_ACCESS, SHADOW_VA + 0x7F8)


@pytest.mark.parametrize(("name", "size"), [("ssamoswap.w", 4), ("ssamoswap.d", 8)])
def test_swap(name: str, size: int) -> None:
    hart = shadowed()
    hart.bus.write(STACK, 8, 0x8877_6655_8433_2211)
    hart.xs[10], hart.xs[12] = SHADOW_VA, 0x0102_0304_0506_0708
    execute(hart, (name, {"rd": 11, "rs1": 10, "rs2": 12}))
    assert hart.cpu[at.TRAPS] == 0
    assert hart.xs[11] == (0x8877_6655_8433_2211 if size == 8 else 0xFFFF_FFFF_8433_2211)
    assert hart.bus.read(STACK, 8) == (0x0102_0304_0506_0708 if size == 8 else 0x8877_6655_0506_0708)
    hart.xs[10] += size // 2
    execute(hart, (name, {"rd": 11, "rs1": 10, "rs2": 12}))
    assert cause(hart) == (t.STORE_ACCESS, SHADOW_VA + size // 2)


@pytest.mark.parametrize("word", [("ssamoswap.d", {"rs1": 10}), ("csrrs", {"rd": 11, "csr": N["ssp"]})])
@pytest.mark.parametrize(
    ("priv", "guest", "enables", "expected"),
    [
        (st.U, False, (), t.ILLEGAL), (st.U, False, ("menvcfg",), t.ILLEGAL), (st.S, False, (), t.ILLEGAL),
        (st.S, False, ("menvcfg",), None), (st.U, False, ("menvcfg", "senvcfg"), None), (st.S, True, ("menvcfg",), t.VIRTUAL),
        (st.S, True, (), t.ILLEGAL), (st.S, True, ("menvcfg", "henvcfg"), None), (st.U, True, ("menvcfg", "henvcfg"), t.VIRTUAL),
        (st.U, True, ("menvcfg", "senvcfg"), t.VIRTUAL), (st.U, True, ("menvcfg", "senvcfg", "henvcfg"), None),
    ],
)  # fmt: skip
def test_who_may_use_the_pointer_and_swap(
    word: tuple[str, dict[str, int]], priv: int, guest: bool, enables: tuple[str, ...], expected: int | None
) -> None:
    hart = prepared(priv, guest=guest)
    for name in enables:
        enable(hart, name, st.SSE)
    hart.xs[10] = SHADOW_VA
    execute(hart, word)
    if expected is None:
        assert hart.cpu[at.TRAPS] == 0, cause(hart)
    else:
        assert cause(hart)[0] == expected


# ---- landing pads


def landing(priv: int = st.U, *, guest: bool = False) -> Hart:
    hart = prepared(priv, guest=guest)
    enable(hart, "senvcfg" if priv == st.U else "henvcfg" if guest else "menvcfg", st.LPE)
    return hart


def jump(hart: Hart, target: int | tuple[str, dict[str, int]], *, through: int = 10, offset: int = 16, word: int = 0) -> None:
    """Execute an indirect jump and the instruction it leads to."""
    put(hart, word or ("jalr", {"rs1": through}), at_=BASE)
    put(hart, target, at_=BASE + offset)
    hart.fence_i()
    hart.xs[through] = CODE_VA + offset
    run(hart, 2, CODE_VA)


def lpad(label: int = 0) -> tuple[str, dict[str, int]]:
    return "lpad", {"imm": (label << 12 ^ 1 << 31) - (1 << 31)}


@pytest.mark.parametrize(("priv", "guest"), list(product((st.U, st.S), (False, True))))
@pytest.mark.parametrize("word", [0, 0x8502, 0x9502])  # jalr, c.jr a0, c.jalr a0
def test_an_indirect_jump_needs_a_landing_pad(priv: int, guest: bool, word: int) -> None:
    hart = landing(priv, guest=guest)
    jump(hart, lpad(), word=word)
    assert (hart.cpu[at.TRAPS], hart.cpu[at.PC], hart.cpu[at.ELP]) == (0, CODE_VA + 20, 0)
    hart = landing(priv, guest=guest)
    jump(hart, 0x13, word=word)
    assert cause(hart) == (t.SOFTWARE_CHECK, t.LANDING_FAULT)
    assert (hart.cpu[at.SEPC], hart.cpu[at.ELP], bool(hart.cpu[at.MSTATUS] & st.SPELP)) == (CODE_VA + 16, 0, True)


@pytest.mark.parametrize("through", [1, 5, 7])
def test_returns_and_guarded_jumps_need_none(through: int) -> None:
    hart = landing()
    jump(hart, 0x13, through=through)
    assert (hart.cpu[at.TRAPS], hart.cpu[at.PC]) == (0, CODE_VA + 20)


def test_where_it_is_off_nothing_is_needed_and_lpad_does_nothing() -> None:
    hart = prepared()
    jump(hart, 0x13)
    assert hart.cpu[at.TRAPS] == 0
    hart = prepared()
    jump(hart, lpad(5))
    assert hart.cpu[at.TRAPS] == 0


@pytest.mark.parametrize(("label", "expected", "works"), [(0, 7, True), (7, 7, True), (7, 8, False), (0xFFFFF, 0xFFFFF, True)])
def test_labels(label: int, expected: int, works: bool) -> None:
    hart = landing()
    hart.xs[7] = expected << 12 | 0xABC | 0xDEAD << 32
    jump(hart, lpad(label))
    assert (hart.cpu[at.TRAPS] == 0) == works
    if not works:
        assert cause(hart) == (t.SOFTWARE_CHECK, t.LANDING_FAULT)


def test_a_landing_pad_is_aligned() -> None:
    hart = landing()
    jump(hart, lpad(), offset=18)
    assert cause(hart) == (t.SOFTWARE_CHECK, t.LANDING_FAULT)


def test_lpad_that_nobody_jumped_to_does_nothing() -> None:
    hart = landing()
    hart.xs[7] = 1 << 12
    execute(hart, lpad(9), 0x13)
    assert (hart.cpu[at.TRAPS], hart.cpu[at.PC]) == (0, CODE_VA + 8)


def test_what_is_expected_survives_a_fault_of_the_target_and_sret() -> None:
    hart = landing()
    put(hart, ("sret", {}), at_=S_HANDLER)
    put(hart, ("jalr", {"rs1": 10}), at_=BASE)
    hart.xs[10] = 0x4060_0000  # no page yet
    run(hart, 2, CODE_VA)
    cpu = hart.cpu
    assert cause(hart) == (t.FETCH_PAGE, 0x4060_0000)
    assert cpu[at.MSTATUS] & st.SPELP
    hart.bus.write(ROOT + 0x1000 + 24, 8, BASE >> 12 << 10 | V | R | X | U | A | D)
    hart.shoot_down(None, None)
    run(hart, 1)
    assert (cpu[at.PRIV], cpu[at.ELP], cpu[at.MSTATUS] & st.SPELP) == (st.U, 1, 0)
    run(hart, 1)
    assert cause(hart) == (t.SOFTWARE_CHECK, t.LANDING_FAULT)  # jalr is no landing pad


def test_what_is_expected_survives_an_interrupt_into_machine_mode() -> None:
    hart = landing()
    put(hart, ("mret", {}), at_=M_HANDLER)
    put(hart, ("jalr", {"rs1": 10}), at_=BASE)
    put(hart, lpad(), at_=BASE + 16)
    hart.xs[10] = CODE_VA + 16
    run(hart, 1, CODE_VA)
    cpu = hart.cpu
    assert cpu[at.ELP] == 1
    cpu[at.MIE] = cpu[at.MIP] = 1 << t.MTI
    run(hart, 1)  # taking it takes one
    assert (cpu[at.PRIV], cpu[at.ELP], bool(cpu[at.MSTATUS] & st.MPELP)) == (st.M, 0, True)
    cpu[at.MIP] = 0
    run(hart, 2)
    assert (cpu[at.PC], cpu[at.ELP], cpu[at.MSTATUS] & st.MPELP, cpu[at.TRAPS]) == (CODE_VA + 20, 0, 0, 1)


def test_a_return_to_a_mode_without_landing_pads_forgets_what_was_expected() -> None:
    hart = landing()
    cpu = hart.cpu
    hart.enter(st.S)
    hart.csr(N["sstatus"], "s", st.SPELP, read=True, write=True)
    hart.csr(N["senvcfg"], "w", 0, read=False, write=True)
    cpu[at.SEPC] = CODE_VA
    put(hart, ("sret", {}), at_=S_HANDLER)
    put(hart, 0x13, at_=BASE)
    hart.fence_i()
    run(hart, 2, S_HANDLER)
    assert (cpu[at.PRIV], cpu[at.ELP], cpu[at.PC], cpu[at.TRAPS]) == (st.U, 0, CODE_VA + 4, 0)


def test_machine_mode_has_landing_pads_of_its_own() -> None:
    for enabled in (False, True):
        hart = new_hart()
        hart.cpu[at.MTVEC] = M_HANDLER
        if enabled:
            hart.csr(N["mseccfg"], "s", st.MLPE, read=True, write=True)
        put(hart, ("jalr", {"rs1": 10}))
        put(hart, 0x13, at_=BASE + 16)
        hart.xs[10] = BASE + 16
        run(hart, 2, BASE)
        assert (hart.cpu[at.MCAUSE] == t.SOFTWARE_CHECK) == enabled
        assert bool(hart.cpu[at.MSTATUS] & st.MPELP) == enabled


def test_a_long_run_with_landing_pads_counts_as_one_without() -> None:
    """A loop that calls through a register, and its callee."""
    counts = []
    for make in (landing, prepared):
        hart = make()
        put(hart, ("auipc", {"rd": 10}), ("addi", {"rd": 10, "rs1": 10, "imm": 32}), ("addi", {"rd": 11, "imm": 100}),
            ("jalr", {"rd": 1, "rs1": 10}), ("addi", {"rd": 11, "rs1": 11, "imm": -1}), ("bne", {"rs1": 11, "imm": -8}), ("ecall", {}))  # fmt: skip
        put(hart, lpad(), ("addi", {"rd": 12, "rs1": 12, "imm": 3}), ("jalr", {"rs1": 1}), at_=BASE + 32)
        run(hart, 1000, CODE_VA)
        assert hart.xs[12] == 300
        assert cause(hart)[0] == t.ECALL_U
        counts.append((hart.cpu[at.INSTRET], list(hart.xs)))
    assert counts[0] == counts[1]


# ---- what it is for

SAVE: list[int | tuple[str, dict[str, int]]] = [("addi", {"rd": 2, "rs1": 2, "imm": -16}), ("sd", {"rs1": 2, "rs2": 1, "imm": 8}), PUSH]
RESTORE: list[int | tuple[str, dict[str, int]]] = [
    ("ld", {"rd": 1, "rs1": 2, "imm": 8}), ("addi", {"rd": 2, "rs1": 2, "imm": 16}), POP, ("jalr", {"rs1": 1}),
]  # fmt: skip
GADGET = 0x400


def overwritten(make: Callable[[], Hart]) -> Hart:
    """A function whose saved return address is overwritten, on the stack, by that of code that nobody calls."""
    hart = make()
    put(hart, ("jal", {"rd": 1, "imm": 0x100}), ("addi", {"rd": 12, "imm": 1}), ("ecall", {}), at_=BASE)
    attack = [("sd", {"rs1": 2, "rs2": 13, "imm": 8})]
    put(hart, *SAVE, *attack, *RESTORE, at_=BASE + 0x100)
    put(hart, ("addi", {"rd": 12, "imm": 666}), ("ecall", {}), at_=BASE + GADGET)
    hart.xs[2], hart.xs[13] = DATA_VA + 0x2000, CODE_VA + GADGET
    run(hart, 30, CODE_VA)
    return hart


def test_a_return_to_somewhere_else_works_without_a_shadow_stack_and_faults_with_one() -> None:
    hart = overwritten(prepared)
    assert (hart.xs[12], cause(hart)[0], hart.cpu[at.SEPC]) == (666, t.ECALL_U, CODE_VA + GADGET + 4)
    hart = overwritten(shadowed)
    assert (hart.xs[12], cause(hart), hart.cpu[at.SEPC]) == (0, (t.SOFTWARE_CHECK, t.SHADOW_FAULT), CODE_VA + 0x100 + 24)


def test_registers_of_integrity_are_legal_whatever_is_written() -> None:
    hart = new_hart()
    for name in ("menvcfg", "senvcfg", "henvcfg", "mseccfg", "ssp", "sstatus", "vsstatus"):
        hart.csr(N[name], "w", M64, read=False, write=True)
    assert hart.csr(N["senvcfg"], "s", 0, read=True, write=False) & st.SSE
    hart.csr(N["menvcfg"], "w", 0, read=False, write=True)
    assert not hart.csr(N["senvcfg"], "s", 0, read=True, write=False) & st.SSE
    assert not hart.csr(N["henvcfg"], "s", 0, read=True, write=False) & st.SSE
