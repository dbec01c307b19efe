"""Between the modes: how traps are entered and left, written once over abstract values, as instructions are.

`m` is a hart (values are ints) or an emitter of native code. Besides the vocabulary of instructions it has

    word(n), set_word(n, value)     a word of the CPU struct (layout.py)
    interrupts()                    mip as it is now
    arrive(pc, priv)                go on at `pc` in mode `priv`; nothing comes after it
    either(condition, yes, no)      do one of the two; nothing comes after it

They know of V, the virtual modes, what a register can say: whoever crosses between a guest and its hypervisor (trap.py,
privileged.py) exchanges their registers (`exchange`) before or after. Native tiers leave that to the reference tier;
they do traps and returns within a guest, as within a hypervisor. The expected landing pad (Zicfilp) is the reference tier's
too: here none is expected.

Source: volume II, "Machine Status", "Machine Trap Delegation", "Machine Trap-Vector Base-Address", "Trap-Return
Instructions", and of "Hypervisor Extension" what has the same titles; tcontrol is the debug specification's, "Native Triggers".
"""

from __future__ import annotations

from functools import partial
from trapline.typed import Any

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st


def enabled(m: Any) -> Any:
    """The interrupts that the hart must take now, as bits of mip: those for M-mode if there are any, else those for HS-mode,
    else those for VS-mode."""
    ready, delegated = m.interrupts() & m.word(at.MIE), m.word(at.MIDELEG)
    priv, status, virtual = m.word(at.PRIV), m.word(at.MSTATUS), m.word(at.VIRT)
    to_guest = delegated & m.word(at.HIDELEG)
    machine = m.select(m.ltu(priv, st.M) | m.ne(status & st.MIE, 0), ready & ~delegated, 0)
    # mstatus.SIE is the guest's while V is 1: nothing shuts out the hypervisor's then
    open_here = m.eq(priv, st.U) | (m.eq(priv, st.S) & m.ne(status & st.SIE, 0))
    supervisor = m.select(open_here | virtual, ready & delegated & ~to_guest, 0)
    guest = m.select(open_here & virtual, ready & to_guest, 0)
    return m.select(m.ne(machine, 0), machine, m.select(m.ne(supervisor, 0), supervisor, guest))


def take(m: Any, cause: Any, value: Any, pc: Any, *, interrupt: bool = False) -> None:
    """Enter the handler of a trap whose instruction is at `pc`: in S-mode if delegated and from below M, else in M-mode.

    V is 0, and what the trap says of a guest is nothing.

    cause: without the bit that says `interrupt`.
    """
    delegation = m.word(at.MIDELEG if interrupt else at.MEDELEG)
    delegated = m.ltu(m.word(at.PRIV), st.M) & m.eq(m.srl(delegation, cause) & 1, 1)
    m.set_word(at.RESERVED, 0)
    m.set_word(at.TRAPS, m.word(at.TRAPS) + 1)
    m.either(
        delegated,
        partial(_enter_supervisor, m, cause, value, pc, interrupt),
        partial(_enter_machine, m, cause, value, pc, interrupt),
    )


def _enter_supervisor(m: Any, cause: Any, value: Any, pc: Any, interrupt: bool) -> None:
    m.set_word(at.HSTATUS, m.word(at.HSTATUS) & ~(st.SPV | st.H_GVA))
    m.set_word(at.HTVAL, 0)
    m.set_word(at.HTINST, 0)
    enter_supervisor(m, cause, value, pc, interrupt)


def take_in_guest(m: Any, cause: Any, value: Any, pc: Any, *, interrupt: bool = False) -> None:
    """Enter the guest's own handler: V is 1, and stays so."""
    m.set_word(at.RESERVED, 0)
    m.set_word(at.TRAPS, m.word(at.TRAPS) + 1)
    enter_supervisor(m, cause, value, pc, interrupt)


def enter_supervisor(m: Any, cause: Any, value: Any, pc: Any, interrupt: bool) -> None:
    """Enter the handler in the supervisor mode whose registers are in place: HS, or VS while V is 1."""
    status = m.word(at.MSTATUS)
    before = m.sll(status & st.SIE, 4) | m.sll(m.word(at.PRIV), 8)  # SPIE and SPP
    m.set_word(at.MSTATUS, status & ~(st.SIE | st.SPIE | st.SPP | st.SPELP) | before)
    _describe(m, at.SEPC, cause, value, pc, interrupt)
    m.arrive(_handler(m, m.word(at.STVEC), cause, interrupt), st.S)


def _enter_machine(m: Any, cause: Any, value: Any, pc: Any, interrupt: bool) -> None:
    status, control = m.word(at.MSTATUS), m.word(at.TCONTROL)
    before = m.sll(status & st.MIE, 4) | m.sll(m.word(at.PRIV), st.MPP_SHIFT)  # MPIE and MPP
    m.set_word(at.MSTATUS, status & ~(st.MIE | st.MPIE | st.MPP | st.MPV | st.GVA | st.MPELP) | before)
    m.set_word(at.MTVAL2, 0)
    m.set_word(at.MTINST, 0)
    m.set_word(at.TCONTROL, m.sll(control & st.MTE, 4))  # MPTE
    _describe(m, at.MEPC, cause, value, pc, interrupt)
    m.arrive(_handler(m, m.word(at.MTVEC), cause, interrupt), st.M)


def _describe(m: Any, epc: int, cause: Any, value: Any, pc: Any, interrupt: bool) -> None:
    """Fill in epc, cause and tval, which are neighbours."""
    m.set_word(epc, pc)
    m.set_word(epc + 1, cause | 1 << 63 if interrupt else cause)
    m.set_word(epc + 2, value)


def _handler(m: Any, vector: Any, cause: Any, interrupt: bool) -> Any:
    base = vector & ~3
    return base + m.select(m.eq(vector & 1, 1), m.sll(cause, 2), 0) if interrupt else base


def return_from_machine(m: Any) -> None:
    """mret, for whoever may: the caller has looked at mstatus.MPV."""
    status, control = m.word(at.MSTATUS), m.word(at.TCONTROL)
    to = m.srl(status & st.MPP, st.MPP_SHIFT)
    after = status & ~(st.MIE | st.MPP | st.MPV | st.MPELP) | st.MPIE | m.srl(status & st.MPIE, 4)
    m.set_word(at.MSTATUS, m.select(m.eq(to, st.M), after, after & ~st.MPRV))
    m.set_word(at.TCONTROL, control | m.srl(control & st.MPTE, 4))
    m.arrive(m.word(at.MEPC), to)


def return_from_supervisor(m: Any) -> None:
    """sret, for whoever may, in HS- or VS-mode: the caller has looked at hstatus.SPV, which is the former's."""
    status = m.word(at.MSTATUS)
    after = status & ~(st.SIE | st.SPP | st.MPRV | st.SPELP) | st.SPIE | m.srl(status & st.SPIE, 4)
    m.set_word(at.MSTATUS, after)
    m.arrive(m.word(at.SEPC), m.srl(status & st.SPP, 8))


def exchange(m: Any) -> None:
    """Put the guest's supervisor registers into the places of the hypervisor's, or back: V becomes 1, or 0."""
    for own, other in at.SWAPPED:
        here = m.word(own)
        m.set_word(own, m.word(other))
        m.set_word(other, here)
    here, there = m.word(at.MSTATUS), m.word(at.VSSTATUS)
    m.set_word(at.MSTATUS, here & ~st.SSTATUS_WRITABLE | there & st.SSTATUS_WRITABLE)
    m.set_word(at.VSSTATUS, here & st.SSTATUS_WRITABLE)
