"""Control and status registers: each by number, with what it reads and what a write leaves in it (volume II).

A CSR that is not in the table does not exist: using it is an illegal instruction, as is using one from too low a mode,
writing a read-only one, and what `gates` forbid (counters that are not enabled, satp under mstatus.TVM, ...); what a
virtual mode may not use, but HS-mode could, is a virtual instruction. While V is 1, supervisor registers are the
guest's, which are in the same places then (transitions.exchange). Writes
legalise their value (WARL): an unsupported field keeps its old value, a reserved bit stays zero.

Like instructions, registers are written over an abstract machine `m`: the hart, whose values are ints, or an emitter
of native code. Native tiers do by themselves those that are declared `native`, because they keep to `m`'s vocabulary (see
transitions.py) and never branch on a value; the rest, written over `hart`, is the reference tier's.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import pmp
from trapline.machine.riscv import status as st

if TYPE_CHECKING:
    from trapline.machine.riscv.hart import Hart

Read = Callable[[Any], Any]
Write = Callable[[Any, Any], None]
Gate = Callable[[Any], Any]


class Csr(NamedTuple):
    """One register."""

    name: str
    read: Read
    write: Write | None  #: None: writes are legal and ignored
    gate: Gate | None  #: whether it may be used now, beyond its number's rule
    base: Read | None  #: what setting and clearing bits starts from, if that is not what is read
    quiet: bool  #: writing it cannot make an interrupt due
    guest: Gate | None  #: whether a virtual mode may use it, beyond `gate`
    native: bool  #: its functions keep to the abstract machine's vocabulary


TABLE: dict[int, Csr] = {}
EVENTS: dict[int, str] = {
    1: "TLB misses", 2: "TLB hits", 3: "walk references", 4: "traps taken", 5: "references of two-stage walks",
}  # fmt: skip
HYPERVISOR = 2  #: in place of a mode, in a register's number: HS-mode, and M-mode


def access(hart: Hart, number: int, how: str, value: int, *, read: bool, write: bool) -> int:
    """One CSR instruction. Raises the illegal-instruction trap."""
    csr = TABLE.get(number)
    if csr is None or (write and number >> 10 == 3):
        raise hart.illegal()
    _check(hart, csr, number >> 8 & 3)
    old = csr.read(hart) if read or how != "w" else 0
    if write and csr.write is not None:
        base = old if csr.base is None else csr.base(hart)
        csr.write(hart, value if how == "w" else base | value if how == "s" else base & ~value)
    return old


def _check(hart: Hart, csr: Csr, owner: int) -> None:
    """Raise unless it may be used now. owner: the lowest mode that may, 2 standing for HS-mode."""
    priv, virtual = hart.cpu[at.PRIV], hart.cpu[at.VIRT]
    lacking = priv < owner and not (owner == HYPERVISOR and priv == st.S)
    if (lacking and (owner == st.M or not virtual)) or (csr.gate is not None and not csr.gate(hart)):
        raise hart.illegal()
    if virtual and (lacking or owner == HYPERVISOR or (csr.guest is not None and not csr.guest(hart))):
        raise hart.refused()


def _add(
    number: int, name: str, read: Read, write: Write | None = None, gate: Gate | None = None, *, base: Read | None = None,
    quiet: bool = False, guest: Gate | None = None, native: bool = False,
) -> None:  # fmt: skip
    TABLE[number] = Csr(name, read, write, gate, base, quiet, guest, native)


def _word(number: int, name: str, index: int, mask: int = st.MASK, *, quiet: bool = False) -> None:
    """A register that is one word of the CPU struct, of which `mask` can be written."""

    def write(m: Any, value: Any) -> None:
        m.set_word(index, value & mask)

    _add(number, name, lambda m: m.word(index), write, quiet=quiet, native=True)


# ---- floating point


def _fp_on(m: Any) -> Any:
    """A guest needs its own FS and its hypervisor's."""
    lent = m.eq(m.word(at.VIRT), 0) | m.ne(m.word(at.VSSTATUS) & st.FS, 0)
    return m.ne(m.word(at.MSTATUS) & st.FS, 0) & lent


def _flags(m: Any) -> Any:
    m.gather_flags()
    return m.word(at.FFLAGS)


def _write_fcsr(m: Any, value: Any) -> None:
    m.set_word(at.FFLAGS, value & 31)
    m.set_word(at.FRM, m.srl(value, 5) & 7)
    m.set_word(at.MSTATUS, m.word(at.MSTATUS) | st.FS)
    m.set_word(at.VSSTATUS, m.word(at.VSSTATUS) | m.select(m.word(at.VIRT), st.FS, 0))
    m.floats_changed()


def _write_flags(m: Any, value: Any) -> None:
    _write_fcsr(m, m.sll(m.word(at.FRM), 5) | value & 31)


def _write_frm(m: Any, value: Any) -> None:
    _write_fcsr(m, m.sll(value & 7, 5) | _flags(m))


_add(0x001, "fflags", _flags, _write_flags, _fp_on, quiet=True, native=True)
_add(0x002, "frm", lambda m: m.word(at.FRM), _write_frm, _fp_on, quiet=True, native=True)
_add(0x003, "fcsr", lambda m: m.sll(m.word(at.FRM), 5) | _flags(m), _write_fcsr, _fp_on, quiet=True, native=True)

# ---- the shadow stack pointer (Zicfiss)


def _ssp_open(hart: Hart) -> bool:
    cpu = hart.cpu
    priv, lent = cpu[at.PRIV], cpu[at.MENVCFG]
    if priv == st.U and not cpu[at.VIRT]:
        lent &= cpu[at.SENVCFG]
    return priv == st.M or bool(lent & st.SSE)


def _ssp_open_to_guest(hart: Hart) -> bool:
    cpu = hart.cpu
    lent = cpu[at.HENVCFG] if cpu[at.PRIV] == st.S else cpu[at.HENVCFG] & cpu[at.SENVCFG]
    return bool(lent & st.SSE)


_add(0x011, "ssp", lambda h: h.cpu[at.SSP], lambda h, v: h.set_word(at.SSP, v & ~7), _ssp_open, guest=_ssp_open_to_guest)

# ---- status


def _read_status(m: Any) -> Any:
    status = m.word(at.MSTATUS)
    return m.select(m.eq(status & st.FS, st.FS), status | st.SD, status)


def _write_status(m: Any, value: Any, mask: int) -> None:
    old = m.word(at.MSTATUS)
    no_such_mode = m.eq(value & st.MPP, 2 << st.MPP_SHIFT)
    writable = m.select(no_such_mode, mask & ~st.MPP, mask)
    new = old & ~writable | value & writable
    m.set_word(at.MSTATUS, new)
    m.status_changed(old ^ new)


_add(0x300, "mstatus", _read_status, lambda m, v: _write_status(m, v, st.MSTATUS_WRITABLE), native=True)
_add(
    0x100, "sstatus", lambda m: _read_status(m) & st.SSTATUS, lambda m, v: _write_status(m, v, st.SSTATUS_WRITABLE), native=True
)
_add(0x301, "misa", lambda m: st.MISA, native=True)
for _number, _name in ((0xF11, "mvendorid"), (0xF12, "marchid"), (0xF13, "mimpid"), (0xF15, "mconfigptr")):
    _add(_number, _name, lambda m: 0, native=True)
_add(0xF14, "mhartid", lambda m: m.word(at.HARTID), native=True)

# ---- traps

_DELEGABLE, _DELEGABLE_TWICE = 0xF4_B7FF, 0x4_B1FF
_S_INTERRUPTS, _INTERRUPTS = st.SSIP | st.STIP | st.SEIP, 0xAAA | st.H_INTERRUPTS


def _vector(index: int) -> Write:
    def write(m: Any, value: Any) -> None:
        mode = m.select(m.ltu(value & 3, 2), value & 1, m.word(index) & 1)
        m.set_word(index, value & ~3 | mode)

    return write


def _write_mip(m: Any, value: Any) -> None:
    timer = m.select(m.ne(m.word(at.MENVCFG) & st.STCE, 0), 0, st.STIP)
    mask = timer | st.SSIP | st.SEIP | st.VSSIP
    m.set_word(at.MIP, m.word(at.MIP) & (st.VSTIP | st.VSEIP) | value & mask)


def _seen(m: Any, interrupts: Any) -> Any:
    """The bits of mip or mie that are sip's or sie's; a guest sees its own one place lower."""
    return m.select(m.word(at.VIRT), _guests(m, interrupts), interrupts & m.word(at.MIDELEG) & _S_INTERRUPTS)


def _guests(m: Any, interrupts: Any) -> Any:
    """As a guest sees them, and its hypervisor by vsip and vsie."""
    return m.srl(interrupts & m.word(at.HIDELEG) & st.VS_INTERRUPTS, 1)


def _write_seen(m: Any, index: int, value: Any, mask: int) -> None:
    """Write what `_seen` shows. mask: of what is writable there."""
    virtual = m.word(at.VIRT)
    writable = m.select(virtual, m.word(at.HIDELEG) & mask << 1, m.word(at.MIDELEG) & mask)
    m.set_word(index, m.word(index) & ~writable | m.select(virtual, m.sll(value, 1), value) & writable)


def _write_guests(m: Any, index: int, value: Any, mask: int) -> None:
    writable = m.word(at.HIDELEG) & mask << 1
    m.set_word(index, m.word(index) & ~writable | m.sll(value, 1) & writable)


def _field(index: int, mask: int) -> Write:
    """Write some bits of a word."""
    return lambda m, value: m.set_word(index, m.word(index) & ~mask | value & mask)


def _raised_by_software(m: Any) -> Any:
    """Lines that devices assert are not written back."""
    return m.word(at.MIP)


_word(0x302, "medeleg", at.MEDELEG, _DELEGABLE)
_add(0x303, "mideleg", lambda m: m.word(at.MIDELEG), _field(at.MIDELEG, _S_INTERRUPTS), native=True)
_word(0x304, "mie", at.MIE, _INTERRUPTS)
_add(0x104, "sie", lambda m: _seen(m, m.word(at.MIE)), lambda m, v: _write_seen(m, at.MIE, v, _S_INTERRUPTS), native=True)
_add(0x344, "mip", lambda m: m.interrupts(), _write_mip, base=_raised_by_software, native=True)
_add(
    0x144, "sip", lambda m: _seen(m, m.interrupts()), lambda m, v: _write_seen(m, at.MIP, v, st.SSIP),
    base=lambda m: _seen(m, m.word(at.MIP)), native=True,
)  # fmt: skip
_add(0x305, "mtvec", lambda m: m.word(at.MTVEC), _vector(at.MTVEC), quiet=True, native=True)
_add(0x105, "stvec", lambda m: m.word(at.STVEC), _vector(at.STVEC), quiet=True, native=True)
for _number, _name, _index, _mask in (
    (0x340, "mscratch", at.MSCRATCH, st.MASK), (0x341, "mepc", at.MEPC, st.MASK - 1), (0x342, "mcause", at.MCAUSE, st.MASK),
    (0x343, "mtval", at.MTVAL, st.MASK), (0x140, "sscratch", at.SSCRATCH, st.MASK), (0x141, "sepc", at.SEPC, st.MASK - 1),
    (0x142, "scause", at.SCAUSE, st.MASK), (0x143, "stval", at.STVAL, st.MASK),
):  # fmt: skip
    _word(_number, _name, _index, _mask, quiet=True)

# ---- environment, translation, protection


def _environment(value: int, mask: int) -> int:
    value &= mask
    return value & ~st.CBIE if value & st.CBIE == 2 << 4 else value  # 2 is reserved


_LENT = st.FIOM | st.LPE | st.CBIE | st.CBCFE | st.CBZE


def _write_menvcfg(hart: Hart, value: int) -> None:
    hart.cpu[at.MENVCFG] = _environment(value, _LENT | st.SSE | st.ADUE | st.PBMTE | st.STCE)
    hart.settle()
    hart.shoot_down(None, None)


def _write_senvcfg(hart: Hart, value: int) -> None:
    hart.cpu[at.SENVCFG] = _environment(value, _LENT | _shadow_stacks(hart))
    hart.settle()


def _shadow_stacks(hart: Hart) -> int:
    """The bit SSE of senvcfg, if it is more than a read-only zero."""
    cpu = hart.cpu
    return cpu[at.MENVCFG] & st.SSE & (cpu[at.HENVCFG] if cpu[at.VIRT] else st.SSE)


def _write_satp(m: Any, value: Any) -> None:
    """An unsupported mode makes the whole write do nothing."""
    mode = m.srl(value, st.MODE_SHIFT)
    known = m.eq(mode, st.BARE) | (m.geu(mode, st.SV39_MODE) & m.geu(st.SV57_MODE, mode))
    m.change_space(m.select(known, value, m.word(at.SATP)))


def _not_trapped(m: Any) -> Any:
    return m.ne(m.word(at.PRIV), st.S) | m.word(at.VIRT) | m.eq(m.word(at.MSTATUS) & st.TVM, 0)


def _not_trapped_guest(m: Any) -> Any:
    return m.eq(m.word(at.HSTATUS) & st.VTVM, 0)


_add(0x30A, "menvcfg", lambda m: m.word(at.MENVCFG), _write_menvcfg)
_add(0x10A, "senvcfg", lambda h: h.cpu[at.SENVCFG] & (~st.SSE | _shadow_stacks(h)), _write_senvcfg)
_add(0x180, "satp", lambda m: m.word(at.SATP), _write_satp, _not_trapped, quiet=True, guest=_not_trapped_guest, native=True)


def _protection_changed(hart: Hart) -> None:
    hart.pmp.update()
    hart.tlb.flush()
    hart.forget_pages()


def _locked(hart: Hart, n: int) -> bool:
    return bool(hart.cpu[at.PMPCFG + n] & pmp.LOCK) and not hart.cpu[at.MSECCFG] & st.RLB


def _legal_pmpcfg(hart: Hart, n: int, value: int) -> int:
    """What entry n becomes when this byte is written."""
    old: int = hart.cpu[at.PMPCFG + n]
    value &= pmp.WRITABLE
    secure = hart.cpu[at.MSECCFG]
    if _locked(hart, n):
        return old
    if not secure & st.MML:
        return old if value & pmp.W and not value & pmp.R else value
    executable = value & pmp.LOCK and (value & pmp.X or value & (pmp.R | pmp.W) == pmp.W)
    all_rights = value & (pmp.R | pmp.W | pmp.X) == pmp.R | pmp.W | pmp.X
    if executable and not all_rights and not secure & st.RLB:
        return old  # no new code for M-mode once MML is set
    return value


def _pmpcfg(first: int) -> tuple[Read, Write]:
    def read(hart: Hart) -> int:
        return sum(hart.cpu[at.PMPCFG + first + n] << 8 * n for n in range(8))

    def write(hart: Hart, value: int) -> None:
        for n in range(first, first + 8):
            hart.cpu[at.PMPCFG + n] = _legal_pmpcfg(hart, n, value >> 8 * (n - first) & 0xFF)
        _protection_changed(hart)

    return read, write


def _pmpaddr(n: int) -> tuple[Read, Write]:
    def write(hart: Hart, value: int) -> None:
        above = n + 1 < at.PMP_ENTRIES and _locked(hart, n + 1)
        if not _locked(hart, n) and not (above and hart.cpu[at.PMPCFG + n + 1] & pmp.MODE == pmp.TOR):
            hart.cpu[at.PMPADDR + n] = value & pmp.ADDRESS_MASK
            _protection_changed(hart)

    return lambda hart: hart.cpu[at.PMPADDR + n], write


def _write_mseccfg(hart: Hart, value: int) -> None:
    """MML and MMWP stick; RLB cannot be set (again) once an entry is locked."""
    old = hart.cpu[at.MSECCFG]
    new = (old | value) & (st.MML | st.MMWP) | value & (st.RLB | st.MLPE)
    if not old & st.RLB and any(hart.cpu[at.PMPCFG + n] & pmp.LOCK for n in range(at.PMP_ENTRIES)):
        new &= ~st.RLB
    hart.cpu[at.MSECCFG] = new
    hart.settle()
    _protection_changed(hart)


for _n in (0, 2):
    _add(0x3A0 + _n, f"pmpcfg{_n}", *_pmpcfg(4 * _n))
for _n in range(at.PMP_ENTRIES):
    _add(0x3B0 + _n, f"pmpaddr{_n}", *_pmpaddr(_n))
_add(0x747, "mseccfg", lambda h: h.cpu[at.MSECCFG], _write_mseccfg)

# ---- counters: a running counter is a source plus an offset; an inhibited one is its offset


def _events(hart: Hart, n: int) -> int:
    """What counter n, which counts events, counts, since reset."""
    counted = (0, hart.tlb_misses(), hart.tlb.hits, hart.walk_steps(), hart.traps_taken, hart.tlb.nested_steps)
    return counted[hart.cpu[at.HPMEVENT + n - 3]]


def _source(hart: Hart, n: int) -> int:
    """What counter n counts, since reset; the CPI of this machine is 1."""
    return hart.instret() if n < 3 else _events(hart, n)


def _offset_at(n: int) -> int:
    return {0: at.CYCLE_OFFSET, 2: at.INSTRET_OFFSET}.get(n, at.HPMCOUNTER + n - 3)


def _counter(n: int) -> Read:
    """An inhibited counter is its offset."""
    offset = _offset_at(n)

    def read(m: Any) -> Any:
        counted = m.instret() if n < 3 else _events(m, n)
        return m.select(m.srl(m.word(at.MCOUNTINHIBIT), n) & 1, m.word(offset), counted + m.word(offset)) & st.MASK

    return read


def _set_counter(hart: Hart, n: int, value: int) -> None:
    """The next instruction reads `value`: the writing one is not counted."""
    inhibited = hart.cpu[at.MCOUNTINHIBIT] >> n & 1
    hart.cpu[_offset_at(n)] = value if inhibited else (value - _source(hart, n) - (n < 3)) & st.MASK


def _write_inhibit(hart: Hart, value: int) -> None:
    value &= 0xFFFF_FFFD
    changed = [n for n in range(32) if (value ^ hart.cpu[at.MCOUNTINHIBIT]) >> n & 1]
    values = [_counter(n)(hart) for n in changed]
    hart.cpu[at.MCOUNTINHIBIT] = value
    for n, kept in zip(changed, values, strict=True):
        hart.cpu[_offset_at(n)] = kept if value >> n & 1 else (kept - _source(hart, n)) & st.MASK


def _enabled(n: int) -> Gate:
    """A counter's view for lower modes: mcounteren lets S-mode see it, scounteren too lets U-mode."""

    def gate(m: Any) -> Any:
        supervisor = m.eq(m.word(at.PRIV), st.M) | m.eq(m.srl(m.word(at.MCOUNTEREN), n) & 1, 1)
        return supervisor & (m.word(at.VIRT) | _enabled_for_users(m, n))

    return gate


def _enabled_for_users(m: Any, n: int) -> Any:
    return m.ltu(st.U, m.word(at.PRIV)) | m.eq(m.srl(m.word(at.SCOUNTEREN), n) & 1, 1)


def _enabled_for_guests(n: int) -> Gate:
    """hcounteren lets VS-mode see it, scounteren too lets VU-mode."""
    return lambda m: m.eq(m.srl(m.word(at.HCOUNTEREN), n) & 1, 1) & _enabled_for_users(m, n)


def _hpm_event(n: int) -> Write:
    def write(hart: Hart, value: int) -> None:
        kept = _counter(n)(hart)
        hart.cpu[at.HPMEVENT + n - 3] = value if value in EVENTS else 0
        _set_counter(hart, n, kept)

    return write


def _declare_counter(n: int, name: str) -> None:
    _add(0xB00 + n, f"m{name}", _counter(n), lambda h, v: _set_counter(h, n, v))
    _add(0xC00 + n, name, _counter(n), None, _enabled(n), guest=_enabled_for_guests(n), native=n < 3)


_declare_counter(0, "cycle")
_declare_counter(2, "instret")
for _n in range(3, 32):
    _declare_counter(_n, f"hpmcounter{_n}")
    _add(0x320 + _n, f"mhpmevent{_n}", lambda h, n=_n: h.cpu[at.HPMEVENT + n - 3], _hpm_event(_n))  # type: ignore[misc]


def _read_time(m: Any) -> Any:
    return m.now() + m.select(m.word(at.VIRT), m.word(at.HTIMEDELTA), 0) & st.MASK


_add(0xC01, "time", _read_time, None, _enabled(1), guest=_enabled_for_guests(1), native=True)
_word(0x306, "mcounteren", at.MCOUNTEREN, 0xFFFF_FFFF)
_word(0x106, "scounteren", at.SCOUNTEREN, 0xFFFF_FFFF)
_add(0x320, "mcountinhibit", lambda h: h.cpu[at.MCOUNTINHIBIT], _write_inhibit)


def _timer_on(m: Any) -> Any:
    lent = m.ne(m.word(at.MENVCFG) & st.STCE, 0) & m.ne(m.word(at.MCOUNTEREN) & 2, 0)
    return m.eq(m.word(at.PRIV), st.M) | lent


def _timer_on_guest(m: Any) -> Any:
    return m.ne(m.word(at.HENVCFG) & st.STCE, 0) & m.ne(m.word(at.HCOUNTEREN) & 2, 0)


def _read_stimecmp(m: Any) -> Any:
    return m.select(m.word(at.VIRT), m.word(at.VSTIMECMP), m.word(at.STIMECMP))


def _write_stimecmp(m: Any, value: Any) -> None:
    virtual = m.word(at.VIRT)
    m.set_word(at.STIMECMP, m.select(virtual, m.word(at.STIMECMP), value))
    m.set_word(at.VSTIMECMP, m.select(virtual, value, m.word(at.VSTIMECMP)))
    m.call_attention()


_add(0x14D, "stimecmp", _read_stimecmp, _write_stimecmp, _timer_on, guest=_timer_on_guest, native=True)


def _attentive(index: int) -> Write:
    """Write what decides when a timer is due."""

    def write(m: Any, value: Any) -> None:
        m.set_word(index, value)
        m.call_attention()

    return write


# ---- a hypervisor's: how guests run, and the guest's registers while V is 0


def _write_henvcfg(hart: Hart, value: int) -> None:
    lent = hart.cpu[at.MENVCFG] & (st.SSE | st.ADUE | st.PBMTE | st.STCE)
    hart.cpu[at.HENVCFG] = _environment(value, _LENT | lent)
    hart.settle()
    hart.shoot_down_stage(None)
    hart.call_attention()


def _read_henvcfg(hart: Hart) -> int:
    """What menvcfg denies reads as zero."""
    cpu = hart.cpu
    return cpu[at.HENVCFG] & (cpu[at.MENVCFG] | ~(st.SSE | st.ADUE | st.PBMTE | st.STCE))


def _write_hgatp(hart: Hart, value: int) -> None:
    """An unsupported mode leaves the mode as it was. The root is four pages, aligned."""
    mode = value >> st.MODE_SHIFT
    if mode and mode not in (st.SV39_MODE, st.SV48_MODE, st.SV57_MODE):
        mode = hart.cpu[at.HGATP] >> st.MODE_SHIFT
    vmid = value >> st.VMID_SHIFT & st.VMID_MASK
    hart.cpu[at.HGATP] = mode << st.MODE_SHIFT | vmid << st.VMID_SHIFT | value & st.PPN_MASK & ~3
    hart.forget_borrowed()


def _write_vsatp(hart: Hart, value: int) -> None:
    mode = value >> st.MODE_SHIFT
    if mode == st.BARE or st.SV39_MODE <= mode <= st.SV57_MODE:
        hart.cpu[at.VSATP] = value
        hart.forget_borrowed()


def _write_vsstatus(hart: Hart, value: int) -> None:
    hart.cpu[at.VSSTATUS] = value & st.SSTATUS_WRITABLE
    hart.forget_pages()


def _read_vsstatus(hart: Hart) -> int:
    status = hart.cpu[at.VSSTATUS] | st.UXL_64
    return status | st.SD if status & st.FS == st.FS else status


_add(0x600, "hstatus", lambda h: h.cpu[at.HSTATUS] | st.VSXL_64, lambda h, v: h.set_word(at.HSTATUS, v & st.HSTATUS_WRITABLE))
_word(0x602, "hedeleg", at.HEDELEG, _DELEGABLE_TWICE, quiet=True)
_word(0x603, "hideleg", at.HIDELEG, st.VS_INTERRUPTS)
_add(0x604, "hie", lambda m: m.word(at.MIE) & st.H_INTERRUPTS, _field(at.MIE, st.H_INTERRUPTS), native=True)
_add(0x605, "htimedelta", lambda m: m.word(at.HTIMEDELTA), _attentive(at.HTIMEDELTA), native=True)
_word(0x606, "hcounteren", at.HCOUNTEREN, 0xFFFF_FFFF)
_add(0x607, "hgeie", lambda m: 0, lambda m, v: None, native=True)
_add(0x60A, "henvcfg", _read_henvcfg, _write_henvcfg)
_word(0x643, "htval", at.HTVAL, quiet=True)
_add(
    0x644, "hip", lambda m: m.interrupts() & st.H_INTERRUPTS, _field(at.MIP, st.VSSIP), base=_raised_by_software, native=True
)
_add(0x645, "hvip", lambda m: m.word(at.MIP) & st.VS_INTERRUPTS, _field(at.MIP, st.VS_INTERRUPTS), native=True)
_word(0x64A, "htinst", at.HTINST, quiet=True)
_add(0x680, "hgatp", lambda h: h.cpu[at.HGATP], _write_hgatp, _not_trapped)
_add(0xE12, "hgeip", lambda m: 0, native=True)
_word(0x34A, "mtinst", at.MTINST, quiet=True)
_word(0x34B, "mtval2", at.MTVAL2, quiet=True)
_add(0x200, "vsstatus", _read_vsstatus, _write_vsstatus)
_add(
    0x204, "vsie", lambda m: _guests(m, m.word(at.MIE)), lambda m, v: _write_guests(m, at.MIE, v, _S_INTERRUPTS), native=True
)
_add(0x205, "vstvec", lambda m: m.word(at.VSTVEC), _vector(at.VSTVEC), quiet=True, native=True)
for _number, _name, _index, _mask in (
    (0x240, "vsscratch", at.VSSCRATCH, st.MASK), (0x241, "vsepc", at.VSEPC, st.MASK - 1),
    (0x242, "vscause", at.VSCAUSE, st.MASK), (0x243, "vstval", at.VSTVAL, st.MASK),
):  # fmt: skip
    _word(_number, _name, _index, _mask, quiet=True)
_add(
    0x244, "vsip", lambda m: _guests(m, m.interrupts()), lambda m, v: _write_guests(m, at.MIP, v, st.SSIP),
    base=lambda m: _guests(m, m.word(at.MIP)), native=True,
)  # fmt: skip
_add(0x24D, "vstimecmp", lambda m: m.word(at.VSTIMECMP), _attentive(at.VSTIMECMP), _timer_on, native=True)
_add(0x280, "vsatp", lambda h: h.cpu[at.VSATP], _write_vsatp)

# ---- triggers (Sdtrig): what they do is in triggers.py


def _write_tselect(hart: Hart, value: int) -> None:
    if value < at.TRIGGERS:
        hart.cpu[at.TSELECT] = value


_add(0x7A0, "tselect", lambda h: h.cpu[at.TSELECT], _write_tselect)
_add(0x7A1, "tdata1", lambda h: h.cpu[at.TDATA1 + h.cpu[at.TSELECT]], lambda h, v: h.set_trigger(v))
_add(0x7A2, "tdata2", lambda h: h.cpu[at.TDATA2 + h.cpu[at.TSELECT]], lambda h, v: h.set_trigger_address(v))
_add(0x7A3, "tdata3", lambda h: 0)
_add(0x7A4, "tinfo", lambda h: 1 << 24 | 1 << 15 | 1 << 6)
_word(0x7A5, "tcontrol", at.TCONTROL, st.MTE | st.MPTE)

NUMBERS: dict[str, int] = {csr.name: number for number, csr in TABLE.items()}
