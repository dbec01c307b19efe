"""The hypervisor extension: every virtualisation trap, who takes it and what it is told, interrupts, and two-stage translation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from riscv_util import BASE, M64, new_hart, put, run, tier  # noqa: F401

from trapline.machine.contract import EXEC, READ, WRITE
from trapline.machine.riscv import csr, pmp
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv import trap as t
from trapline.machine.riscv.hart import Hart
from trapline.machine.riscv.transformed import transform
from trapline.machine.riscv.walk import Step

N = csr.NUMBERS
VS, VU = st.S, st.U
M_HANDLER, H_HANDLER, G_HANDLER = BASE + 0x1000, BASE + 0x2000, BASE + 0x3000
SECOND, FIRST, DATA = BASE + 0x10_0000, BASE + 0x20_0000, BASE + 0x30_0000  #: tables of both stages; data
ALL_EXCEPTIONS = 0xF4_B7FF
V, R, W, X, U, A, D = (1 << n for n in (0, 1, 2, 3, 4, 6, 7))
RWXUAD = V | R | W | X | U | A | D


def at_guest(priv: int, *, delegate: bool = True) -> Hart:
    """A hart in a virtual mode, without translation, its three handlers endless loops; all memory is permitted."""
    hart = new_hart()
    for handler in (M_HANDLER, H_HANDLER, G_HANDLER):
        put(hart, ("jal", {}), at_=handler)
    cpu = hart.cpu
    cpu[at.MTVEC], cpu[at.STVEC], cpu[at.VSTVEC] = M_HANDLER, H_HANDLER, G_HANDLER
    cpu[at.PMPCFG], cpu[at.PMPADDR] = pmp.NAPOT | pmp.R | pmp.W | pmp.X, pmp.ADDRESS_MASK
    hart.pmp.update()
    cpu[at.MEDELEG] = ALL_EXCEPTIONS if delegate else 0
    cpu[at.MIDELEG] |= 0x222
    cpu[at.MENVCFG], cpu[at.MCOUNTEREN] = st.STCE | st.CBZE | st.CBCFE, 0xFFFF_FFFF
    hart.enter(priv)
    hart.cross(1)
    return hart


def one(hart: Hart, *words: object, count: int = 1) -> None:
    put(hart, *words)  # type: ignore[arg-type]
    hart.fence_i()
    run(hart, count, BASE)


def read_csr(name: str) -> tuple[str, dict[str, int]]:
    return "csrrs", {"rd": 5, "csr": N[name]}


def change(hart: Hart, word: int, bits: int) -> None:
    hart.cpu[word] |= bits


VTVM = (at.HSTATUS, st.VTVM)
Bits = tuple[int, int]


@pytest.mark.parametrize(
    ("priv", "word", "cause", "bits"),
    [
        *[(priv, read_csr(name), t.VIRTUAL, None) for priv in (VS, VU) for name in ("hstatus", "hgatp", "vsstatus", "vsatp", "htinst", "hgeip")],
        *[(priv, read_csr(name), t.ILLEGAL, None) for priv in (VS, VU) for name in ("mstatus", "mtval2", "medeleg")],
        *[(VU, read_csr(name), t.VIRTUAL, None) for name in ("sstatus", "satp", "sepc", "senvcfg", "scounteren", "stimecmp")],
        *[(priv, (name, {}), t.VIRTUAL, None) for priv in (VS, VU) for name in ("hfence.vvma", "hfence.gvma", "hinval.vvma", "hinval.gvma")],
        *[(priv, (name, {"rs1": 10}), t.VIRTUAL, None) for priv in (VS, VU) for name in ("hlv.b", "hlvx.hu", "hlv.d", "hsv.w")],
        *[(VU, (name, {}), t.VIRTUAL, None) for name in ("sret", "sfence.vma", "sinval.vma", "sfence.w.inval", "sfence.inval.ir", "wfi")],
        *[(priv, ("mret", {}), t.ILLEGAL, None) for priv in (VS, VU)],
        (VS, ("wfi", {}), t.VIRTUAL, (at.HSTATUS, st.VTW)), (VS, ("wfi", {}), t.ILLEGAL, (at.MSTATUS, st.TW)),
        (VU, ("wfi", {}), t.ILLEGAL, (at.MSTATUS, st.TW)),
        (VS, ("sret", {}), t.VIRTUAL, (at.HSTATUS, st.VTSR)),
        (VS, ("sfence.vma", {}), t.VIRTUAL, VTVM), (VS, ("sinval.vma", {}), t.VIRTUAL, VTVM),
        (VS, read_csr("satp"), t.VIRTUAL, VTVM), (VS, ("csrrw", {"csr": N["satp"]}), t.VIRTUAL, VTVM),
        (VS, read_csr("time"), t.VIRTUAL, None), (VS, read_csr("cycle"), t.VIRTUAL, None), (VU, read_csr("instret"), t.VIRTUAL, None),
        (VU, read_csr("time"), t.VIRTUAL, (at.HCOUNTEREN, 2)),  # scounteren is 0
        (VS, read_csr("stimecmp"), t.VIRTUAL, (at.HCOUNTEREN, 2)),  # henvcfg.STCE is 0
        (VS, ("cbo.zero", {"rs1": 10}), t.VIRTUAL, None), (VS, ("cbo.inval", {"rs1": 10}), t.ILLEGAL, None),
        (VU, ("cbo.zero", {"rs1": 10}), t.VIRTUAL, (at.HENVCFG, st.CBZE)),
        (VS, ("csrrw", {"csr": N["cycle"]}), t.ILLEGAL, (at.HCOUNTEREN, 1)),
        (VS, ("csrrw", {"csr": N["hgeip"]}), t.ILLEGAL, None),
        (VS, ("ecall", {}), t.ECALL_VS, None), (VU, ("ecall", {}), t.ECALL_U, None),
    ],
)  # fmt: skip
def test_virtualisation_trap(priv: int, word: tuple[str, dict[str, int]], cause: int, bits: Bits | None) -> None:
    hart = at_guest(priv)
    hart.xs[10] = DATA
    if bits is not None:
        change(hart, *bits)
    one(hart, word)
    cpu = hart.cpu
    raw = int(hart.bus.read(BASE, 4))
    value = raw if cause in (t.VIRTUAL, t.ILLEGAL) else 0
    assert (cpu[at.SCAUSE], cpu[at.STVAL], cpu[at.SEPC], cpu[at.PC]) == (cause, value, BASE, H_HANDLER)
    assert (cpu[at.VIRT], cpu[at.PRIV]) == (0, st.S)
    assert cpu[at.HSTATUS] & (st.SPV | st.SPVP | st.H_GVA) == st.SPV | (st.SPVP if priv == VS else 0)
    assert bool(cpu[at.MSTATUS] & st.SPP) == (priv == VS)
    assert (cpu[at.HTVAL], cpu[at.HTINST]) == (0, 0)


@pytest.mark.parametrize(
    ("priv", "word", "bits"),
    [
        (VS, ("wfi", {}), (at.MIP, st.VSSIP)), (VS, ("sfence.vma", {}), (at.MSTATUS, st.TVM)), (VS, ("sret", {}), (at.MSTATUS, st.TSR)),
        (VS, read_csr("satp"), (at.MSTATUS, st.TVM)), (VS, read_csr("time"), (at.HCOUNTEREN, 2)), (VS, read_csr("scounteren"), None),
        (VS, ("cbo.zero", {"rs1": 10}), (at.HENVCFG, st.CBZE)), (VS, ("sfence.w.inval", {}), VTVM),
    ],
)  # fmt: skip
def test_what_a_guest_may_do_does_not_trap(priv: int, word: tuple[str, dict[str, int]], bits: Bits | None) -> None:
    hart = at_guest(priv)
    hart.xs[10], hart.cpu[at.MIE], hart.cpu[at.HIDELEG] = DATA, st.VSSIP, st.VSSIP
    if bits is not None:
        change(hart, *bits)
    one(hart, word)
    assert (hart.cpu[at.TRAPS], hart.cpu[at.VIRT]) == (0, 1)


def test_a_hypervisors_instructions_are_illegal_in_user_mode_unless_hu_lends_the_loads() -> None:
    hart = at_guest(VS)
    hart.cross(0)
    hart.enter(st.U)
    hart.xs[10] = DATA
    for word in (("hlv.w", {"rs1": 10}), ("hfence.vvma", {}), ("hfence.gvma", {}), read_csr("hstatus"), read_csr("vsatp")):
        one(hart, word)
        assert hart.cpu[at.SCAUSE] == t.ILLEGAL
        hart.enter(st.U)
    hart.cpu[at.HSTATUS] |= st.HU
    before = hart.cpu[at.TRAPS]
    one(hart, ("hlv.w", {"rs1": 10}))
    assert hart.cpu[at.TRAPS] == before


def test_tvm_keeps_the_supervisor_from_hgatp_and_its_fence() -> None:
    hart = at_guest(VS)
    hart.cross(0)
    hart.cpu[at.MSTATUS] |= st.TVM
    for word in (read_csr("hgatp"), ("hfence.gvma", {})):
        hart.enter(st.S)
        hart.cpu[at.SCAUSE] = 0
        one(hart, word)
        assert hart.cpu[at.SCAUSE] == t.ILLEGAL
    hart.enter(st.S)
    hart.cpu[at.SCAUSE] = 0
    one(hart, ("hfence.vvma", {}))
    assert hart.cpu[at.SCAUSE] == 0


# ---- where traps go, and back


@pytest.mark.parametrize(("word", "cause"), [(("ecall", {}), t.ECALL_U), (("ebreak", {}), t.BREAKPOINT), (0xFFFF_FFFF, t.ILLEGAL)])
def test_a_trap_delegated_twice_is_the_guests(word: object, cause: int) -> None:
    hart = at_guest(VU)
    hart.cpu[at.HEDELEG] = 0x4_B1FF
    hart.cpu[at.VSCAUSE] = hart.cpu[at.HTVAL] = 77
    one(hart, word)
    cpu = hart.cpu
    assert (cpu[at.VIRT], cpu[at.PRIV], cpu[at.PC]) == (1, st.S, G_HANDLER)
    assert (cpu[at.SCAUSE], cpu[at.SEPC]) == (cause, BASE)
    assert not cpu[at.MSTATUS] & st.SPP
    assert (cpu[at.VSCAUSE], cpu[at.HTVAL]) == (77, 77)  # the hypervisor's registers are as they were
    put(hart, ("sret", {}), at_=G_HANDLER)
    run(hart, 1)
    assert (cpu[at.VIRT], cpu[at.PRIV], cpu[at.PC]) == (1, st.U, BASE)


@pytest.mark.parametrize("priv", [VS, VU])
def test_a_trap_of_a_guest_into_machine_mode_and_back(priv: int) -> None:
    hart = at_guest(priv, delegate=False)
    cpu = hart.cpu
    cpu[at.SSCRATCH], cpu[at.VSSCRATCH] = 1, 2
    one(hart, ("ebreak", {}))
    assert (cpu[at.VIRT], cpu[at.PRIV], cpu[at.MCAUSE], cpu[at.MTVAL]) == (0, st.M, t.BREAKPOINT, BASE)
    assert cpu[at.MSTATUS] & (st.MPV | st.GVA | st.MPP) == st.MPV | st.GVA | priv << st.MPP_SHIFT
    assert (cpu[at.SSCRATCH], cpu[at.VSSCRATCH]) == (2, 1)
    put(hart, ("mret", {}), at_=M_HANDLER)
    run(hart, 1)
    assert (cpu[at.VIRT], cpu[at.PRIV], cpu[at.PC]) == (1, priv, BASE)
    assert not cpu[at.MSTATUS] & st.MPV
    assert (cpu[at.SSCRATCH], cpu[at.VSSCRATCH]) == (1, 2)


def test_mret_to_machine_mode_ignores_mpv() -> None:
    hart = at_guest(VS, delegate=False)
    one(hart, ("ebreak", {}))
    hart.cpu[at.MSTATUS] |= st.MPP | st.MPV
    put(hart, ("mret", {}), at_=M_HANDLER)
    run(hart, 1)
    assert (hart.cpu[at.VIRT], hart.cpu[at.PRIV]) == (0, st.M)


@pytest.mark.parametrize("priv", [VS, VU])
def test_sret_enters_the_guest_when_spv_says_so(priv: int) -> None:
    hart = at_guest(priv)
    one(hart, ("hfence.gvma", {}))
    put(hart, ("sret", {}), at_=H_HANDLER)
    run(hart, 1)
    cpu = hart.cpu
    assert (cpu[at.VIRT], cpu[at.PRIV], cpu[at.PC], cpu[at.HSTATUS] & st.SPV) == (1, priv, BASE, 0)


def test_a_trap_of_the_hypervisor_itself_clears_spv_and_leaves_spvp() -> None:
    hart = at_guest(VS)
    one(hart, ("ecall", {}))
    assert hart.cpu[at.HSTATUS] & (st.SPV | st.SPVP) == st.SPV | st.SPVP
    put(hart, ("ebreak", {}), at_=H_HANDLER)
    run(hart, 1)
    assert hart.cpu[at.HSTATUS] & (st.SPV | st.SPVP) == st.SPVP


def test_supervisor_registers_of_a_guest_are_its_own() -> None:
    hart = at_guest(VS)
    cpu = hart.cpu
    names = ("sstatus", "stvec", "sscratch", "sepc", "scause", "stval")
    words = [("csrrw", {"csr": N[name], "rs1": 10}) for name in names]
    hart.xs[10] = st.SUM | st.MXR | 0x1000
    own = [cpu[word] for word in (at.VSTVEC, at.VSSCRATCH, at.VSEPC, at.VSCAUSE, at.VSTVAL)]
    one(hart, *words, ("ecall", {}), count=7)
    assert [cpu[word] for word in (at.STVEC, at.SSCRATCH)] == own[:2]
    assert [cpu[word] for word in (at.VSTVEC, at.VSSCRATCH, at.VSEPC, at.VSCAUSE, at.VSTVAL)] == [hart.xs[10] & ~3, *[hart.xs[10]] * 4]
    assert cpu[at.VSSTATUS] == st.SUM | st.MXR
    assert not cpu[at.MSTATUS] & (st.SUM | st.MXR)
    value = hart.csr(N["vsstatus"], "s", 0, read=True, write=False)
    assert value == st.SUM | st.MXR | st.UXL_64


def test_floating_point_of_a_guest_needs_both_fs_and_makes_both_dirty() -> None:
    clean, initial = 2 << st.FS_SHIFT, 1 << st.FS_SHIFT
    for own, hypervisors, works in ((0, clean, False), (clean, 0, False), (initial, clean, True)):
        hart = at_guest(VS)
        cpu = hart.cpu
        change(hart, at.MSTATUS, own)
        change(hart, at.VSSTATUS, hypervisors)
        one(hart, ("fmv.d.x", {"rd": 1, "rs1": 0}))
        assert bool(cpu[at.VIRT]) == works
        if works:
            assert cpu[at.MSTATUS] & cpu[at.VSSTATUS] & st.FS == st.FS
        else:
            assert cpu[at.SCAUSE] == t.ILLEGAL


# ---- interrupts


@pytest.mark.parametrize(("bit", "seen"), [(st.VSSIP, 1), (st.VSTIP, 5), (st.VSEIP, 9)])
def test_a_virtual_interrupt_is_the_guests_if_hideleg_says_so(bit: int, seen: int) -> None:
    hart = at_guest(VU)
    cpu = hart.cpu
    cpu[at.HIDELEG], cpu[at.MIE], cpu[at.MIP] = st.VS_INTERRUPTS, st.VS_INTERRUPTS, bit
    one(hart, 0x13)
    assert (cpu[at.VIRT], cpu[at.PRIV], cpu[at.SCAUSE], cpu[at.PC]) == (1, st.S, 1 << 63 | seen, G_HANDLER)
    assert hart.csr(N["sip"], "s", 0, read=True, write=False) == 1 << seen
    assert hart.csr(N["sie"], "s", 0, read=True, write=False) == 0x222


@pytest.mark.parametrize(("bit", "number"), [(st.VSSIP, 2), (st.VSTIP, 6), (st.VSEIP, 10)])
def test_a_virtual_interrupt_is_the_hypervisors_otherwise(bit: int, number: int) -> None:
    hart = at_guest(VS)
    cpu = hart.cpu
    cpu[at.MIE], cpu[at.MIP] = st.VS_INTERRUPTS, bit
    one(hart, 0x13)
    assert (cpu[at.VIRT], cpu[at.PRIV], cpu[at.SCAUSE], cpu[at.PC]) == (0, st.S, 1 << 63 | number, H_HANDLER)
    assert cpu[at.HSTATUS] & st.SPV


def test_a_guests_interrupt_waits_for_its_own_enable_and_for_the_guest() -> None:
    hart = at_guest(VS)
    cpu = hart.cpu
    cpu[at.HIDELEG], cpu[at.MIE], cpu[at.MIP] = st.VS_INTERRUPTS, st.VS_INTERRUPTS, st.VSSIP
    one(hart, 0x13)
    assert (cpu[at.TRAPS], cpu[at.PC]) == (0, BASE + 4)
    change(hart, at.MSTATUS, st.SIE)
    run(hart, 1)
    assert (cpu[at.TRAPS], cpu[at.PC]) == (1, G_HANDLER)
    hart.cross(0)
    change(hart, at.MSTATUS, st.SIE)
    one(hart, 0x13)
    assert (cpu[at.TRAPS], cpu[at.PC]) == (1, BASE + 4)


def test_the_hypervisors_interrupts_come_first_and_the_guest_cannot_shut_them_out() -> None:
    hart = at_guest(VS)
    cpu = hart.cpu
    change(hart, at.MSTATUS, st.SIE)
    cpu[at.HIDELEG], cpu[at.MIE] = st.VS_INTERRUPTS, st.VS_INTERRUPTS | st.SSIP
    cpu[at.MIP] = st.VS_INTERRUPTS | st.SSIP
    one(hart, 0x13)
    assert (cpu[at.VIRT], cpu[at.SCAUSE]) == (0, 1 << 63 | 1)
    hart = at_guest(VS)
    hart.cpu[at.MIE] = hart.cpu[at.MIP] = st.SSIP
    one(hart, 0x13)
    assert (hart.cpu[at.VIRT], hart.cpu[at.SCAUSE]) == (0, 1 << 63 | 1)


def test_the_guests_timer_counts_its_own_time() -> None:
    hart = at_guest(VS)
    cpu = hart.cpu
    cpu[at.HENVCFG], cpu[at.HCOUNTEREN], cpu[at.HIDELEG], cpu[at.MIE] = st.STCE, 2, st.VSTIP, st.VSTIP
    cpu[at.HTIMEDELTA] = 10**6
    change(hart, at.MSTATUS, st.SIE)
    hart.xs[6] = 10**6 + 8  # time is the instructions retired here
    words = [("csrrw", {"csr": N["stimecmp"], "rs1": 6}), ("csrrs", {"rd": 7, "csr": N["time"]}), *[0x13] * 20]
    put(hart, *words)
    cpu[at.PC] = BASE
    for _ in range(20):
        hart.run(1)
    assert (cpu[at.VSTIMECMP], cpu[at.STIMECMP]) == (10**6 + 8, M64)
    assert hart.xs[7] == 10**6 + 1
    assert (cpu[at.VIRT], cpu[at.SCAUSE], cpu[at.SEPC]) == (1, 1 << 63 | 5, BASE + 4 * 8)


def test_vsip_and_vsie_show_what_the_guest_sees() -> None:
    hart = at_guest(VS)
    hart.cross(0)
    hart.enter(st.M)
    change(hart, at.HIDELEG, st.VSSIP | st.VSEIP)

    def access(name: str, value: int | None = None) -> int:
        if value is not None:
            hart.csr(N[name], "w", value, read=False, write=True)
        return hart.csr(N[name], "s", 0, read=True, write=False)

    assert access("vsie", M64) == st.SSIP | st.SEIP
    assert access("hie") == access("mie") == st.VSSIP | st.VSEIP
    assert access("vsip", M64) == st.SSIP
    assert access("hvip", st.VSEIP) == st.VSEIP
    assert access("hip") == st.VSEIP
    assert access("vsip") == st.SEIP
    assert access("sie") == access("sip") == 0


# ---- translation


def entry(pa: int, flags: int) -> int:
    return pa >> 12 << 10 | flags


class World:
    """A guest with tables in both stages. Guest physical address = virtual address of the tables' place, plus `shift`."""

    def __init__(self, priv: int = VS, *, second_mode: int = st.SV39_MODE, first_mode: int = st.SV39_MODE) -> None:
        self.hart = at_guest(priv)
        self.cpu = self.hart.cpu
        self.next_second, self.next_first = SECOND + 0x4000, FIRST + 0x1000
        self.second_levels, self.first_levels = (mode - st.SV39_MODE + 3 for mode in (second_mode, first_mode))
        self.cpu[at.HGATP] = second_mode << 60 | 1 << 44 | SECOND >> 12
        self.satp = first_mode << 60 | FIRST >> 12
        for page in range(BASE, BASE + 0x5000, 0x1000):
            self.second(page, page)
            self.first(page, page, RWXUAD & ~U if priv == VS else RWXUAD)

    def start(self) -> Hart:
        self.hart.change_space(self.satp)
        return self.hart

    def _put(self, root: int, levels: int, va: int, leaf: int, new: Callable[[], int], wide: int) -> int:
        """Where the leaf is."""
        table = root
        for level in range(levels - 1, 0, -1):
            bits = 9 + (wide if level == levels - 1 else 0)
            place = table + 8 * (va >> 12 + 9 * level & (1 << bits) - 1)
            pointer = self.hart.bus.read(place, 8)
            if not pointer:
                pointer = entry(new(), V)
                self.hart.bus.write(place, 8, pointer)
            table = pointer >> 10 << 12
        place = table + 8 * (va >> 12 & 511)
        self.hart.bus.write(place, 8, leaf)
        return place

    def second(self, gpa: int, pa: int, flags: int = RWXUAD) -> int:
        def new() -> int:
            self.next_second += 0x1000
            return self.next_second - 0x1000

        return self._put(SECOND, self.second_levels, gpa, entry(pa, flags), new, 2)

    def first(self, va: int, gpa: int, flags: int = RWXUAD) -> int:
        """Tables of the first stage are where the guest believes: their pages are given to it, one to one."""

        def new() -> int:
            self.next_first += 0x1000
            return self.next_first - 0x1000

        place = self._put(FIRST, self.first_levels, va, entry(gpa, flags), new, 0)
        for page in range(FIRST, self.next_first, 0x1000):
            self.second(page, page)
        return place

    def load(self, va: int, name: str = "ld") -> None:
        self.hart.xs[10] = va
        one(self.hart, (name, {"rd": 11, "rs1": 10}) if name[0] in "lh" else (name, {"rs1": 10, "rs2": 11}))

    def trapped(self) -> tuple[int, int, int, int]:
        """Cause, value, guest physical address, instruction of a trap into HS-mode."""
        cpu = self.cpu
        assert (cpu[at.VIRT], cpu[at.PRIV]) == (0, st.S)
        return cpu[at.SCAUSE], cpu[at.STVAL], cpu[at.HTVAL] << 2, cpu[at.HTINST]


VA, GPA = 0x5000_0000, 0x1_4000_3000


@pytest.mark.parametrize("first_mode", [st.SV39_MODE, st.SV48_MODE, st.SV57_MODE])
@pytest.mark.parametrize("second_mode", [st.SV39_MODE, st.SV48_MODE, st.SV57_MODE])
def test_two_stages_lead_to_memory_in_as_many_steps_as_the_manual_has(first_mode: int, second_mode: int) -> None:
    world = World(VS, first_mode=first_mode, second_mode=second_mode)
    world.first(VA, GPA, RWXUAD & ~U)
    world.second(GPA, DATA)
    hart = world.start()
    hart.bus.write(DATA + 0x18, 8, 0x1234_5678_9ABC)
    hart.tlb.flush()
    levels, again = first_mode - 5, second_mode - 5
    walked = list(hart.walk_guest(VA + 0x18, READ))
    assert len(walked) == levels + (levels + 1) * again == sum(isinstance(step, Step) for step in walked)
    assert [step.stage for step in walked] == ([2] * again + [1]) * levels + [2] * again
    assert [step.level for step in walked if step.stage == 1] == list(range(levels))[::-1]
    world.load(VA + 0x18)
    assert (hart.xs[11], world.cpu[at.VIRT], world.cpu[at.TRAPS]) == (0x1234_5678_9ABC, 1, 0)


def test_steps_of_two_stage_walks_are_counted() -> None:
    world = World(VS)
    world.first(VA, GPA, RWXUAD & ~U)
    world.second(GPA, DATA)
    hart = world.start()
    world.load(VA)
    hart.tlb.flush()
    before = hart.tlb.nested_steps
    hart.translate(VA, READ, 8)
    assert hart.tlb.nested_steps - before == 15
    hart.translate(VA + 8, READ, 8)
    assert hart.tlb.nested_steps - before == 15  # the TLB has the pair


@pytest.mark.parametrize(("name", "access", "cause"), [("ld", READ, t.LOAD_GUEST_PAGE), ("sd", WRITE, t.STORE_GUEST_PAGE)])
@pytest.mark.parametrize("flags", [0, RWXUAD & ~U, RWXUAD & ~A & ~D, V | X | U | A | D, V | W | U | A | D])
def test_what_the_second_stage_refuses_is_a_guest_page_fault(name: str, access: int, cause: int, flags: int) -> None:
    world = World(VS)
    world.first(VA, GPA, RWXUAD & ~U)
    world.second(GPA, DATA, flags)
    world.start()
    world.load(VA + 0x10, name)
    raw = world.hart.bus.read(BASE, 4)
    assert world.trapped() == (cause, VA + 0x10, GPA + 0x10, raw & ~(31 << 15))
    assert world.cpu[at.HSTATUS] & (st.SPV | st.SPVP | st.H_GVA) == st.SPV | st.SPVP | st.H_GVA


@pytest.mark.parametrize(("name", "cause"), [("ld", t.LOAD_PAGE), ("sd", t.STORE_PAGE)])
@pytest.mark.parametrize("flags", [0, RWXUAD, V | X | A | D, (RWXUAD & ~U) & ~A & ~D])
def test_what_the_first_stage_refuses_is_a_page_fault_that_the_guest_can_take(name: str, cause: int, flags: int) -> None:
    for twice in (0, 0xB1FF):
        world = World(VS)
        world.cpu[at.HEDELEG] = twice
        world.first(VA, GPA, flags)
        world.second(GPA, DATA)
        world.start()
        world.load(VA + 0x10, name)
        if twice:
            cpu = world.cpu
            assert (cpu[at.VIRT], cpu[at.SCAUSE], cpu[at.STVAL], cpu[at.PC]) == (1, cause, VA + 0x10, G_HANDLER)
        else:
            assert world.trapped()[:3] == (cause, VA + 0x10, 0)
            assert world.cpu[at.HSTATUS] & st.H_GVA


@pytest.mark.parametrize(("name", "cause"), [("ld", t.LOAD_GUEST_PAGE), ("sd", t.STORE_GUEST_PAGE)])
def test_a_table_that_the_guest_has_not_is_a_fault_of_the_walk(name: str, cause: int) -> None:
    world = World(VS)
    place = world.first(VA, GPA, RWXUAD & ~U)
    world.second(place & -4096, place & -4096, 0)
    world.start()
    world.load(VA + 0x10, name)
    assert world.trapped() == (cause, VA + 0x10, place, t.READ_PSEUDO)


def test_a_table_that_cannot_be_written_is_a_fault_of_the_walk_that_sets_a_bit() -> None:
    world = World(VS)
    world.cpu[at.MENVCFG] |= st.ADUE
    world.cpu[at.HENVCFG] |= st.ADUE
    place = world.first(VA, GPA, RWXUAD & ~U & ~D & ~A)
    world.second(GPA, DATA)
    world.second(place & -4096, place & -4096, V | R | U | A | D)
    world.start()
    world.load(VA, "sd")
    assert world.trapped() == (t.STORE_GUEST_PAGE, VA, place, t.WRITE_PSEUDO)


@pytest.mark.parametrize(("own", "guests"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_accessed_and_dirty_bits_are_set_in_each_stage_as_its_adue_says(own: int, guests: int) -> None:
    world = World(VS)
    first = world.first(VA, GPA, V | R | W)
    second = world.second(GPA, DATA, V | R | W | U | (0 if own else A | D))
    world.cpu[at.MENVCFG] |= st.ADUE if own or guests else 0
    world.cpu[at.HENVCFG] |= st.ADUE if guests else 0
    hart = world.start()
    world.load(VA, "sd")
    if not guests:
        assert world.trapped()[0] == t.STORE_PAGE
        return
    assert world.cpu[at.TRAPS] == 0
    assert hart.bus.read(first, 8) & (A | D) == hart.bus.read(second, 8) & (A | D) == A | D


def test_instructions_come_through_both_stages() -> None:
    for first_flags, second_flags, cause in ((RWXUAD & ~U, RWXUAD & ~X, t.FETCH_GUEST_PAGE), (RWXUAD & ~U & ~X, RWXUAD, t.FETCH_PAGE)):
        world = World(VS)
        world.first(VA, GPA, first_flags)
        world.second(GPA, DATA, second_flags)
        hart = world.start()
        run(hart, 1, VA + 4)
        gpa = GPA + 4 if cause == t.FETCH_GUEST_PAGE else 0
        assert world.trapped() == (cause, VA + 4, gpa, 0)
    world = World(VU)
    world.first(VA, GPA)
    world.second(GPA, DATA)
    put(world.hart, ("addi", {"rd": 5, "imm": 7}), at_=DATA)
    run(world.start(), 1, VA)
    assert (world.hart.xs[5], world.cpu[at.PC]) == (7, VA + 4)


def test_modes_and_sum_are_the_guests() -> None:
    for priv, flags, sum_, works in ((VU, RWXUAD, 0, True), (VU, RWXUAD & ~U, 0, False), (VS, RWXUAD, 0, False), (VS, RWXUAD, st.SUM, True)):
        world = World(priv)
        world.first(VA, GPA, flags)
        world.second(GPA, DATA)
        change(world.hart, at.MSTATUS, sum_)
        world.start()
        world.load(VA)
        assert bool(world.cpu[at.VIRT]) == works
        if not works:
            assert world.cpu[at.SCAUSE] == t.LOAD_PAGE


def test_mxr_of_the_guest_counts_in_the_first_stage_and_the_hypervisors_in_both() -> None:
    executable = V | X | A | D
    for word, first, second, cause in (
        (at.MSTATUS, executable, RWXUAD, 0), (at.MSTATUS, RWXUAD & ~U, executable | U, t.LOAD_GUEST_PAGE),
        (at.VSSTATUS, executable, RWXUAD, 0), (at.VSSTATUS, executable, executable | U, 0),
    ):  # fmt: skip
        world = World(VS)
        world.first(VA, GPA, first)
        world.second(GPA, DATA, second)
        change(world.hart, word, st.MXR)
        world.start()
        world.load(VA)
        assert (world.cpu[at.SCAUSE] if not world.cpu[at.VIRT] else 0) == cause


@pytest.mark.parametrize(("mode", "bits"), [(st.SV39_MODE, 41), (st.SV48_MODE, 50), (st.SV57_MODE, 59)])
def test_guest_physical_addresses_are_two_bits_wider(mode: int, bits: int) -> None:
    for gpa, works in (((1 << bits) - 0x1000, True), (1 << bits, False), (M64 & -4096, False)):
        world = World(VS, second_mode=mode)
        world.satp = 0
        if works:
            world.second(gpa, DATA)
        world.start()
        world.load(gpa)
        if works:
            assert world.cpu[at.TRAPS] == 0
        else:
            assert world.trapped()[:3] == (t.LOAD_GUEST_PAGE, gpa, gpa & M64)


def test_either_stage_may_be_bare() -> None:
    world = World(VS)
    world.first(VA, DATA, RWXUAD & ~U)
    world.cpu[at.HGATP] = 0
    hart = world.start()
    hart.bus.write(DATA, 8, 5)
    world.load(VA)
    assert (hart.xs[11], world.cpu[at.TRAPS]) == (5, 0)


def test_the_address_behind_a_page_that_an_access_crosses_is_the_one_that_faults() -> None:
    world = World(VS)
    world.first(VA, GPA, RWXUAD & ~U)
    world.first(VA + 0x1000, GPA + 0x5000, RWXUAD & ~U)
    world.second(GPA, DATA)
    world.start()
    world.load(VA + 0xFFC)
    raw = world.hart.bus.read(BASE, 4)
    assert world.trapped() == (t.LOAD_GUEST_PAGE, VA + 0x1000, GPA + 0x5000, raw & ~(31 << 15) | 4 << 15)


def test_translations_belong_to_a_vmid_and_an_asid_until_a_fence() -> None:
    world = World(VS)
    world.first(VA, GPA, RWXUAD & ~U)
    place = world.second(GPA, DATA)
    hart = world.start()
    hart.bus.write(DATA, 8, 1)
    hart.bus.write(DATA + 0x1000, 8, 2)

    def value() -> int:
        world.load(VA)
        assert world.cpu[at.VIRT]
        return int(hart.xs[11])

    def hypervisor(do: Callable[[], None]) -> None:
        hart.cross(0)
        hart.enter(st.S)
        do()
        hart.cross(1)

    def vmid(n: int) -> None:
        gatp = world.cpu[at.HGATP] & ~(st.VMID_MASK << st.VMID_SHIFT) | n << st.VMID_SHIFT
        hart.csr(N["hgatp"], "w", gatp, read=False, write=True)

    assert value() == 1
    hart.bus.write(place, 8, entry(DATA + 0x1000, RWXUAD))
    assert value() == 1  # as remembered
    hypervisor(lambda: vmid(2))
    assert value() == 2  # nothing is remembered for another guest
    hypervisor(lambda: vmid(1))
    assert value() == 1
    hypervisor(lambda: hart.hfence_gvma(0, 2, any_address=True, any_vmid=False))
    assert value() == 1  # of the other guest
    hypervisor(lambda: hart.hfence_gvma(0, 1, any_address=True, any_vmid=False))
    assert value() == 2
    world.first(VA, GPA + 0x1000, RWXUAD & ~U)
    world.second(GPA + 0x1000, DATA)
    assert value() == 2
    hypervisor(lambda: hart.hfence_vvma(VA, 0, any_address=False, any_asid=True))
    assert value() == 1


def test_a_guests_sfence_is_for_its_own_stage() -> None:
    world = World(VS)
    world.first(VA, GPA, RWXUAD & ~U)
    world.second(GPA, DATA)
    world.second(GPA + 0x1000, DATA + 0x1000)
    hart = world.start()
    hart.bus.write(DATA + 0x1000, 8, 2)
    world.load(VA)
    world.first(VA, GPA + 0x1000, RWXUAD & ~U)
    one(hart, ("sfence.vma", {"rs1": 10, "rs2": 0}))
    world.load(VA)
    assert hart.xs[11] == 2


# ---- a hypervisor's loads and stores


def test_hlv_and_hsv_use_the_guests_translation_and_mode() -> None:
    world = World(VS)
    world.first(VA, GPA, RWXUAD & ~U)
    world.second(GPA, DATA)
    hart = world.start()
    cpu = world.cpu
    hart.cross(0)
    hart.enter(st.S)
    cpu[at.HSTATUS] |= st.SPVP
    hart.bus.write(DATA, 8, 0x8877_6655_4433_2281)
    expected = {
        "hlv.b": M64 - 0x7E, "hlv.bu": 0x81, "hlv.h": 0x2281, "hlv.hu": 0x2281, "hlv.w": 0x4433_2281, "hlv.wu": 0x4433_2281,
        "hlv.d": 0x8877_6655_4433_2281, "hlvx.hu": 0x2281, "hlvx.wu": 0x4433_2281,
    }  # fmt: skip
    for name, value in expected.items():
        world.load(VA, name)
        assert hart.xs[11] == value, name
    hart.xs[11] = 0x1122
    one(hart, ("hsv.h", {"rs1": 10, "rs2": 11}))
    assert hart.bus.read(DATA, 8) == 0x8877_6655_4433_1122
    assert cpu[at.TRAPS] == 0
    cpu[at.HSTATUS] &= ~st.SPVP  # as the guest's user mode, which may not
    world.load(VA, "hlv.w")
    assert (cpu[at.SCAUSE], cpu[at.STVAL]) == (t.LOAD_PAGE, VA)
    assert cpu[at.HSTATUS] & (st.SPV | st.H_GVA) == st.H_GVA


def test_hlvx_needs_execution_instead_of_reading() -> None:
    for flags, works in ((V | X | A | D, True), (V | R | W | A | D, False)):
        world = World(VS)
        world.first(VA, GPA, flags)
        world.second(GPA, DATA)
        hart = world.start()
        hart.cross(0)
        hart.enter(st.S)
        world.cpu[at.HSTATUS] |= st.SPVP
        world.load(VA, "hlvx.wu")
        assert (world.cpu[at.TRAPS] == 0) == works
        before = world.cpu[at.TRAPS]
        hart.enter(st.S)
        world.load(VA, "hlv.w")
        assert (world.cpu[at.TRAPS] == before) != works


def test_a_fault_of_hlv_tells_the_guests_address() -> None:
    world = World(VS)
    world.first(VA, GPA, RWXUAD & ~U)
    hart = world.start()
    hart.cross(0)
    hart.enter(st.S)
    world.cpu[at.HSTATUS] |= st.SPVP
    world.load(VA + 8, "hlv.w")
    raw = hart.bus.read(BASE, 4)
    assert world.trapped() == (t.LOAD_GUEST_PAGE, VA + 8, GPA + 8, raw & ~(31 << 15))
    assert world.cpu[at.HSTATUS] & (st.SPV | st.SPVP | st.H_GVA) == st.H_GVA | st.SPVP


def test_machine_mode_borrows_a_guests_translation_by_mpv() -> None:
    world = World(VS)
    world.first(VA, GPA, RWXUAD & ~U)
    world.second(GPA, DATA)
    hart = world.start()
    hart.bus.write(DATA, 8, 9)
    hart.cross(0)
    hart.enter(st.M)
    hart.csr(N["mstatus"], "w", st.MPRV | st.MPV | st.S << st.MPP_SHIFT, read=False, write=True)
    world.load(VA)
    assert (hart.xs[11], world.cpu[at.TRAPS]) == (9, 0)
    hart.csr(N["mstatus"], "c", st.MPV, read=False, write=True)
    world.load(VA)
    assert (world.cpu[at.MCAUSE], world.cpu[at.MSTATUS] & st.GVA) == (t.LOAD_ACCESS, 0)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (0x0085_B503, 0x0000_3503),  # ld a0, 8(a1)
        (0x00A5_B423, 0x00A0_3023),  # sd a0, 8(a1)
        (0x658C, 0x0000_3581),  # c.ld a1, 8(a1): of the expansion, bit 1 is clear
        (0xE58C, 0x00B0_3021),  # c.sd a1, 8(a1)
        (0x00B6_352F, 0x00B0_352F),  # amoadd.d a0, a1, (a2)
        (0x0000_0013, 0), (0x0000_0000, 0),
    ],
)  # fmt: skip
def test_transformed_instruction(raw: int, expected: int) -> None:
    offset = 0 if raw in (0x00B6_352F,) else 8
    assert transform(raw, lambda n: 0x1000, 0x1000 + offset) == expected


def test_execution_through_both_stages_is_permitted_only_where_both_permit() -> None:
    world = World(VU)
    world.first(VA, GPA)
    world.second(GPA, DATA, RWXUAD & ~X)
    hart = world.start()
    with pytest.raises(t.Trap) as raised:
        hart.translate(VA, EXEC, 2)
    assert raised.value.cause == t.FETCH_GUEST_PAGE


def test_calls_within_a_guest_stay_within_it(tier: str) -> None:  # noqa: F811
    """Three hundred calls from VU- to VS-mode and back; native tiers do them by themselves."""
    world = World(VU)
    hart, cpu = world.hart, world.cpu
    cpu[at.HEDELEG] = 1 << t.ECALL_U
    world.second(G_HANDLER, G_HANDLER)
    world.first(G_HANDLER, G_HANDLER, RWXUAD & ~U)
    put(hart, ("csrrs", {"rd": 6, "csr": N["sepc"]}), ("addi", {"rd": 6, "rs1": 6, "imm": 4}), ("csrrw", {"csr": N["sepc"], "rs1": 6}),
        ("addi", {"rd": 7, "rs1": 7, "imm": 1}), ("sret", {}), at_=G_HANDLER)  # fmt: skip
    put(hart, ("ecall", {}), ("jal", {"imm": -4}))
    run(world.start(), 2100, BASE)
    assert (hart.xs[7], cpu[at.TRAPS], cpu[at.VIRT], cpu[at.SCAUSE], cpu[at.INSTRET]) == (300, 300, 1, t.ECALL_U, 1800)
    assert cpu[at.PC] == BASE
    if tier == "native":
        assert hart.steps == {}, hart.steps  # type: ignore[attr-defined]


def test_translations_made_anew_in_a_guest_are_not_the_hypervisors() -> None:
    """As after a checkpoint: both have the same satp, none."""
    world = World(VS)
    world.satp = 0
    world.second(DATA, DATA + 0x1000)
    hart = world.start()
    hart.bus.write(DATA, 8, 1)
    hart.bus.write(DATA + 0x1000, 8, 2)
    hart.set_up_contexts()
    assert hart.load(DATA, 8) == 2
    hart.cross(0)
    assert hart.load(DATA, 8) == 1
