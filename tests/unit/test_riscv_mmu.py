"""Address translation: every cause of a page or access fault, the bits a walk sets, and what the TLB remembers."""

from __future__ import annotations

import pytest
from riscv_util import BASE, new_hart, put, run, tier  # noqa: F401

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st
from trapline.machine.riscv import trap as t
from trapline.machine.riscv.hart import TRAPPED, Hart
from trapline.machine.riscv.tlb import Tlb
from trapline.machine.riscv.walk import Leaf

V, R, W, X, U, G, A, D = (1 << n for n in range(8))
ROOT, MIDDLE, LAST, FRAME = (BASE + 0x10_0000 + 0x1000 * n for n in range(4))
BIG = BASE + 0x20_0000  #: 2 MiB-aligned
VA = 0x12_3456_7000
SEEN = V | A | D
NAPOT = 1 << 63


def entry(pa: int, flags: int) -> int:
    return pa >> 12 << 10 | flags


def index(va: int, level: int) -> int:
    return va >> (12 + 9 * level) & 511


class World:
    """A hart in a mode below M, with Sv39 tables that map VA to FRAME; M-mode's handler is not in the way: traps end runs."""

    def __init__(self, priv: int = st.S, leaf: int = SEEN | R | W | X) -> None:
        self.hart: Hart = new_hart(hosted=True)
        self.put(ROOT, VA, 2, entry(MIDDLE, V))
        self.put(MIDDLE, VA, 1, entry(LAST, V))
        self.leaf(entry(FRAME, leaf))
        cpu = self.hart.cpu
        cpu[at.PMPCFG], cpu[at.PMPADDR] = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.ADDRESS_MASK
        self.hart.pmp.update()
        self.mode(st.SV39_MODE)
        self.hart.enter(priv)

    def put(self, table: int, va: int, level: int, value: int) -> None:
        self.hart.bus.write(table + 8 * index(va, level), 8, value)

    def leaf(self, value: int) -> None:
        self.put(LAST, VA, 0, value)

    def mode(self, mode: int, root: int = ROOT, asid: int = 1) -> None:
        self.hart.forget_pages()
        self.hart.change_space(mode << st.MODE_SHIFT | asid << st.ASID_SHIFT | root >> 12)

    def status(self, bits: int) -> None:
        self.hart.cpu[at.MSTATUS] |= bits
        self.hart.forget_pages()
        self.hart.select_context()

    def access(self, kind: str, va: int = VA) -> int | None:
        """Do it, by an instruction in a page of its own (fetch: of VA itself); the trap's cause, or None."""
        hart = self.hart
        if kind == "fetch":
            hart.bus.write(FRAME, 4, 0x13)
            hart.cpu[at.PC] = va
        else:
            try:
                {"load": lambda: hart.load(va, 8), "store": lambda: hart.store(va, 8, 1), "amo": lambda: hart.amo("add", va, 8, 1)}[kind]()
            except t.Trap as trap:
                assert trap.value == va
                return trap.cause
            return None
        if hart.run(1) == TRAPPED:
            assert hart.cpu[at.TRAP_VALUE] == va
            return int(hart.cpu[at.TRAP_CAUSE])
        return None


PAGE = {"fetch": t.FETCH_PAGE, "load": t.LOAD_PAGE, "store": t.STORE_PAGE, "amo": t.STORE_PAGE}
ACCESS = {"fetch": t.FETCH_ACCESS, "load": t.LOAD_ACCESS, "store": t.STORE_ACCESS, "amo": t.STORE_ACCESS}
KINDS = tuple(PAGE)


@pytest.mark.parametrize("kind", KINDS)
def test_access_that_everything_permits(kind: str) -> None:
    assert World().access(kind) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "leaf",
    [
        pytest.param(entry(FRAME, SEEN & ~V | R | W | X), id="not valid"),
        pytest.param(entry(FRAME, SEEN | W | X), id="writable but not readable"),
        pytest.param(entry(FRAME, SEEN | R | W | X) | 1 << 54, id="reserved bit 54"),
        pytest.param(entry(FRAME, SEEN | R | W | X) | 1 << 60, id="reserved bit 60"),
        pytest.param(entry(FRAME, SEEN | R | W | X) | 1 << 61, id="memory type without Svpbmt"),
        pytest.param(entry(FRAME, SEEN | R | W | X) | NAPOT, id="NAPOT of no defined size"),
        pytest.param(entry(FRAME, V), id="pointer at the last level"),
        pytest.param(entry(FRAME, SEEN | R | W | X | U), id="a user page, in S-mode"),
    ],
)
def test_leaf_that_faults_whatever_the_access(kind: str, leaf: int) -> None:
    world = World()
    world.leaf(leaf)
    assert world.access(kind) == PAGE[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flag", [A, D, U, NAPOT, 1 << 61], ids=["A", "D", "U", "N", "PBMT"])
def test_pointer_with_a_bit_that_only_leaves_have(kind: str, flag: int) -> None:
    world = World()
    world.put(MIDDLE, VA, 1, entry(LAST, V) | flag)
    assert world.access(kind) == PAGE[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_misaligned_superpage(kind: str) -> None:
    world = World()
    world.put(MIDDLE, VA, 1, entry(BIG + 0x1000, SEEN | R | W | X))
    assert world.access(kind) == PAGE[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("va", [VA | 1 << 39, VA | 1 << 63, 1 << 38])
def test_address_that_is_not_canonical(kind: str, va: int) -> None:
    assert World().access(kind, va) == PAGE[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_table_outside_memory_is_an_access_fault_of_the_original_kind(kind: str) -> None:
    world = World()
    world.put(MIDDLE, VA, 1, entry(0x1000, V))
    assert world.access(kind) == ACCESS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_frame_outside_memory_is_an_access_fault(kind: str) -> None:
    world = World()
    world.leaf(entry(0x1000, SEEN | R | W | X))
    assert world.access(kind) == ACCESS[kind]


@pytest.mark.parametrize(
    ("flags", "allowed"),
    [(R, {"load"}), (R | W, {"load", "store", "amo"}), (X, {"fetch"}), (R | X, {"load", "fetch"}), (R | W | X, set(KINDS))],
)
@pytest.mark.parametrize("kind", KINDS)
def test_rights_of_a_leaf(kind: str, flags: int, allowed: set[str]) -> None:
    assert World(leaf=SEEN | flags).access(kind) == (None if kind in allowed else PAGE[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_user_mode_needs_user_pages(kind: str) -> None:
    assert World(st.U).access(kind) == PAGE[kind]
    assert World(st.U, SEEN | R | W | X | U).access(kind) is None


def test_sum_lets_supervisor_data_accesses_at_user_pages_but_never_fetches() -> None:
    world = World(leaf=SEEN | R | W | X | U)
    world.status(st.SUM)
    assert [world.access(kind) for kind in KINDS] == [t.FETCH_PAGE, None, None, None]


def test_mxr_makes_executable_pages_readable() -> None:
    world = World(leaf=SEEN | X)
    assert world.access("load") == t.LOAD_PAGE
    world.status(st.MXR)
    assert (world.access("load"), world.access("store")) == (None, t.STORE_PAGE)


def test_mprv_checks_machine_mode_data_like_the_mode_in_mpp() -> None:
    world = World(st.M, SEEN | R | U)
    assert world.access("load") == t.LOAD_ACCESS  # physical: there is nothing at VA
    world.status(st.MPRV)
    assert world.access("load") is None
    world.status(st.S << st.MPP_SHIFT)
    assert world.access("load") == t.LOAD_PAGE


@pytest.mark.parametrize(("kind", "bits"), [("load", A), ("fetch", A), ("store", A | D), ("amo", A | D)])
def test_accessed_and_dirty_are_set_by_hardware_or_fault(kind: str, bits: int) -> None:
    world = World(leaf=V | R | W | X)
    assert world.access(kind) == PAGE[kind]
    world.hart.cpu[at.MENVCFG] = st.ADUE
    world.hart.forget_pages()
    assert world.access(kind) is None
    assert world.hart.bus.read(LAST + 8 * index(VA, 0), 8) & (A | D) == bits


def test_a_load_does_not_make_a_later_store_skip_the_dirty_bit() -> None:
    world = World(leaf=V | R | W | A)
    world.hart.cpu[at.MENVCFG] = st.ADUE
    assert world.access("load") is None
    assert world.access("store") is None
    assert world.hart.bus.read(LAST + 8 * index(VA, 0), 8) & D


def test_superpage_napot_and_memory_type() -> None:
    world = World()
    world.put(MIDDLE, VA, 1, entry(BIG, SEEN | R | W))
    world.hart.bus.write(BIG + (VA & 0x1F_FFFF), 8, 77)
    assert world.hart.load(VA, 8) == 77
    world = World()
    world.hart.cpu[at.MENVCFG] = st.PBMTE
    world.leaf(entry((BIG & ~0xFFFF) | 0x8000, SEEN | R | W) | NAPOT | 1 << 61)
    world.hart.bus.write(BIG + 0x7000, 8, 78)
    assert VA & 0xFFFF == 0x7000
    assert world.hart.load(VA, 8) == 78


@pytest.mark.parametrize(("mode", "levels"), [(st.SV39_MODE, 3), (st.SV48_MODE, 4), (st.SV57_MODE, 5)])
def test_formats_walk_as_many_levels_as_they_have(mode: int, levels: int) -> None:
    world = World()
    va = VA | 1 << (12 + 9 * levels - 2)
    tables = [BASE + 0x30_0000 + 0x1000 * n for n in range(levels)]
    for level, table in zip(range(levels - 1, 0, -1), tables, strict=False):
        world.put(table, va, level, entry(table + 0x1000, V))
    world.put(tables[-1], va, 0, entry(FRAME, SEEN | R))
    world.mode(mode, tables[0])
    before = world.hart.tlb.walk_steps
    world.hart.bus.write(FRAME, 8, 99)
    assert world.hart.load(va, 8) == 99
    assert world.hart.tlb.walk_steps - before == levels


def test_changed_entry_is_seen_after_the_fence_and_asids_keep_spaces_apart() -> None:
    world = World()
    hart = world.hart
    hart.bus.write(FRAME, 8, 1)
    hart.bus.write(BIG, 8, 2)
    assert hart.load(VA, 8) == 1
    world.leaf(entry(BIG, SEEN | R))
    hart.sfence_vma(VA, 2, any_address=False, any_asid=False)
    assert hart.load(VA, 8) == 1  # another space's: the TLB still has ours
    hart.sfence_vma(VA, 1, any_address=False, any_asid=False)
    assert hart.load(VA, 8) == 2


def test_global_entries_survive_the_fence_of_an_address_space() -> None:
    world = World(leaf=SEEN | R | G)
    hart = world.hart
    hart.load(VA, 8)
    world.leaf(0)
    hart.sfence_vma(0, 1, any_address=True, any_asid=False)
    assert world.access("load") is None
    hart.sfence_vma(0, 0, any_address=True, any_asid=True)
    assert world.access("load") == t.LOAD_PAGE


def test_store_across_pages_writes_nothing_if_the_second_page_faults() -> None:
    world = World()
    with pytest.raises(t.Trap) as caught:
        world.hart.store(VA + 4092, 8, (1 << 64) - 1)
    assert (caught.value.cause, caught.value.value) == (t.STORE_PAGE, VA + 4096)
    assert world.hart.bus.read(FRAME + 4092, 4) == 0


def test_instruction_across_pages_faults_at_its_second_half() -> None:
    world = World()
    hart = world.hart
    hart.bus.write(FRAME + 4094, 2, 0x0013)
    hart.cpu[at.PC] = VA + 4094
    assert hart.run(1) == TRAPPED
    assert (hart.cpu[at.TRAP_CAUSE], hart.cpu[at.TRAP_VALUE], hart.cpu[at.PC]) == (t.FETCH_PAGE, VA + 4096, VA + 4094)


def test_tlb_of_one_entry_replaces_it() -> None:
    tlb = Tlb(sets=1, ways=1)
    one, two = Leaf(1, 0, 12, 0), Leaf(2, 0, 12, 0)
    tlb.insert(0x1000, 1, one)
    tlb.insert(0x2000, 1, two)
    assert (tlb.lookup(0x1000, 1), tlb.lookup(0x2000, 1), len(tlb)) == (None, two, 1)
    assert (tlb.hits, tlb.misses) == (1, 1)


def test_code_that_changes_is_executed_after_fence_i() -> None:
    hart = new_hart()
    put(hart, ("addi", {"rd": 5, "imm": 1}), ("jal", {"imm": -4}))
    run(hart, 2)
    put(hart, ("addi", {"rd": 5, "imm": 2}))
    run(hart, 1)
    assert hart.xs[5] == 1
    hart.fence_i()
    run(hart, 2)
    assert hart.xs[5] == 2


def test_each_mode_keeps_its_own_cached_rights() -> None:
    world = World(st.U, SEEN | R | W | U)
    hart = world.hart
    for _ in range(2):  # the second time each mode finds what it had cached
        assert world.access("load") is None
        hart.enter(st.S)
        assert world.access("load") == t.LOAD_PAGE
        hart.enter(st.M)
        assert world.access("load") == t.LOAD_ACCESS
        hart.enter(st.U)
    hart.enter(st.S)
    world.status(st.SUM)
    assert world.access("load") is None
    world.leaf(0)
    hart.sfence_vma(0, 0, any_address=True, any_asid=True)
    hart.enter(st.U)
    assert world.access("load") == t.LOAD_PAGE


def test_mode_that_machine_mode_borrows_changes_with_every_trap() -> None:
    world = World(st.M, SEEN | R | U)
    hart = world.hart
    hart.hosted = False
    hart.cpu[at.MTVEC] = BASE + 0x200
    world.status(st.MPRV)
    assert world.access("load") is None
    put(hart, ("ecall", {}))
    run(hart, 1, BASE)  # now mstatus.MPP is M
    assert world.access("load") == t.LOAD_ACCESS


@pytest.mark.parametrize("word", [0x13, 0x0001, 0x0000_0073 | 0xB02 << 20 | 2 << 12], ids=["nop", "c.nop", "a system instruction"])
@pytest.mark.parametrize("interrupt", [False, True])
def test_execution_goes_on_at_zero_behind_the_last_address(word: int, interrupt: bool) -> None:
    world = World(st.S)
    hart, top = world.hart, (1 << 64) - 4096
    hart.hosted = False
    for va, frame in ((top, FRAME), (0, FRAME + 0x1000)):
        world.put(ROOT, va, 2, entry(MIDDLE, V))
        world.put(MIDDLE, va, 1, entry(LAST, V))
        world.put(LAST, va, 0, entry(frame, SEEN | R | X))
    size = 4 if word & 3 == 3 else 2
    put(hart, word, at_=FRAME + 4096 - size)
    put(hart, ("addi", {"rd": 5, "imm": 1}), at_=FRAME + 0x1000)
    cpu = hart.cpu
    cpu[at.MCOUNTEREN], cpu[at.MTVEC] = 7, BASE + 0x1000
    if word >> 20 == 0xB02:
        put(hart, word & 0xFFFFF | 0xC02 << 20, at_=FRAME + 4096 - size)
    put(hart, ("jal", {}), at_=BASE + 0x1000)
    run(hart, 1, (1 << 64) - size)
    assert cpu[at.PC] == 0
    if interrupt:
        cpu[at.LINES] = cpu[at.MIE] = 1 << t.MTI
    run(hart, 2, (1 << 64) - size)
    assert (cpu[at.MEPC], hart.xs[5]) == (((1 << 64) - size, 0) if interrupt else (0, 1))
    cpu[at.LINES] = 0


def test_interrupt_that_the_last_instruction_of_the_address_space_enables() -> None:
    world = World(st.S)
    hart, top = world.hart, (1 << 64) - 4096
    hart.hosted = False
    world.put(ROOT, top, 2, entry(MIDDLE, V))
    world.put(MIDDLE, top, 1, entry(LAST, V))
    world.put(LAST, top, 0, entry(FRAME, SEEN | R | X))
    put(hart, ("csrrsi", {"csr": 0x100, "imm": st.SIE}), at_=FRAME + 4092)
    cpu = hart.cpu
    cpu[at.MIDELEG] = cpu[at.MIE] = cpu[at.MIP] = st.SSIP
    cpu[at.STVEC] = top
    run(hart, 2, (1 << 64) - 4)
    assert (cpu[at.SEPC], cpu[at.SCAUSE], cpu[at.PC]) == (0, t.INTERRUPT | t.SSI, top)
