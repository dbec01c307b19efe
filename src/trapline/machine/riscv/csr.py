"""Control and status registers: each by number, with what it reads and what a write leaves in it (volume II).

A CSR that is not in the table does not exist: using it is an illegal instruction, as is using one from too low a mode,
writing a read-only one, and what `gates` forbid (counters that are not enabled, satp under mstatus.TVM, ...). Writes
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
    native: bool  #: its functions keep to the abstract machine's vocabulary


TABLE: dict[int, Csr] = {}
EVENTS: dict[int, str] = {1: "TLB misses", 2: "TLB hits", 3: "walk references", 4: "traps taken"}


def access(hart: Hart, number: int, how: str, value: int, *, read: bool, write: bool) -> int:
    """One CSR instruction. Raises the illegal-instruction trap."""
    csr = TABLE.get(number)
    if csr is None or hart.cpu[at.PRIV] < number >> 8 & 3 or (write and number >> 10 == 3):
        raise hart.illegal()
    if csr.gate is not None and not csr.gate(hart):
        raise hart.illegal()
    old = csr.read(hart) if read or how != "w" else 0
    if write and csr.write is not None:
        base = old if csr.base is None else csr.base(hart)
        csr.write(hart, value if how == "w" else base | value if how == "s" else base & ~value)
    return old


def _add(
    number: int, name: str, read: Read, write: Write | None = None, gate: Gate | None = None, *, base: Read | None = None,
    quiet: bool = False, native: bool = False,
) -> None:  # fmt: skip
    TABLE[number] = Csr(name, read, write, gate, base, quiet, native)


def _word(number: int, name: str, index: int, mask: int = st.MASK, *, quiet: bool = False) -> None:
    """A register that is one word of the CPU struct, of which `mask` can be written."""

    def write(m: Any, value: Any) -> None:
        m.set_word(index, value & mask)

    _add(number, name, lambda m: m.word(index), write, quiet=quiet, native=True)


# ---- floating point


def _fp_on(m: Any) -> Any:
    return m.ne(m.word(at.MSTATUS) & st.FS, 0)


def _flags(m: Any) -> Any:
    m.gather_flags()
    return m.word(at.FFLAGS)


def _write_fcsr(m: Any, value: Any) -> None:
    m.set_word(at.FFLAGS, value & 31)
    m.set_word(at.FRM, m.srl(value, 5) & 7)
    m.set_word(at.MSTATUS, m.word(at.MSTATUS) | st.FS)
    m.floats_changed()


def _write_flags(m: Any, value: Any) -> None:
    _write_fcsr(m, m.sll(m.word(at.FRM), 5) | value & 31)


def _write_frm(m: Any, value: Any) -> None:
    _write_fcsr(m, m.sll(value & 7, 5) | _flags(m))


_add(0x001, "fflags", _flags, _write_flags, _fp_on, quiet=True, native=True)
_add(0x002, "frm", lambda m: m.word(at.FRM), _write_frm, _fp_on, quiet=True, native=True)
_add(0x003, "fcsr", lambda m: m.sll(m.word(at.FRM), 5) | _flags(m), _write_fcsr, _fp_on, quiet=True, native=True)

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
_SSTATUS_WRITABLE = st.SSTATUS & st.MSTATUS_WRITABLE
_add(
    0x100, "sstatus", lambda m: _read_status(m) & st.SSTATUS, lambda m, v: _write_status(m, v, _SSTATUS_WRITABLE), native=True
)
_add(0x301, "misa", lambda m: st.MISA, native=True)
for _number, _name in ((0xF11, "mvendorid"), (0xF12, "marchid"), (0xF13, "mimpid"), (0xF15, "mconfigptr")):
    _add(_number, _name, lambda m: 0, native=True)
_add(0xF14, "mhartid", lambda m: m.word(at.HARTID), native=True)

# ---- traps

_DELEGABLE, _S_INTERRUPTS, _INTERRUPTS = 0xB3FF, st.SSIP | st.STIP | st.SEIP, 0xAAA


def _vector(index: int) -> Write:
    def write(m: Any, value: Any) -> None:
        mode = m.select(m.ltu(value & 3, 2), value & 1, m.word(index) & 1)
        m.set_word(index, value & ~3 | mode)

    return write


def _write_mip(m: Any, value: Any) -> None:
    timer = m.select(m.ne(m.word(at.MENVCFG) & st.STCE, 0), 0, st.STIP)
    m.set_word(at.MIP, value & (timer | st.SSIP | st.SEIP))


def _write_sip(m: Any, value: Any) -> None:
    mask = m.word(at.MIDELEG) & st.SSIP
    m.set_word(at.MIP, m.word(at.MIP) & ~mask | value & mask)


def _write_sie(m: Any, value: Any) -> None:
    mask = m.word(at.MIDELEG)
    m.set_word(at.MIE, m.word(at.MIE) & ~mask | value & mask)


def _raised_by_software(m: Any) -> Any:
    """Lines that devices assert are not written back."""
    return m.word(at.MIP)


_word(0x302, "medeleg", at.MEDELEG, _DELEGABLE)
_word(0x303, "mideleg", at.MIDELEG, _S_INTERRUPTS)
_word(0x304, "mie", at.MIE, _INTERRUPTS)
_add(0x104, "sie", lambda m: m.word(at.MIE) & m.word(at.MIDELEG), _write_sie, native=True)
_add(0x344, "mip", lambda m: m.interrupts(), _write_mip, base=_raised_by_software, native=True)
_add(0x144, "sip", lambda m: m.interrupts() & m.word(at.MIDELEG), _write_sip, base=_raised_by_software, native=True)
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


def _write_menvcfg(hart: Hart, value: int) -> None:
    hart.cpu[at.MENVCFG] = _environment(value, st.FIOM | st.CBIE | st.CBCFE | st.CBZE | st.ADUE | st.PBMTE | st.STCE)
    hart.shoot_down(None, None)


def _write_senvcfg(hart: Hart, value: int) -> None:
    hart.cpu[at.SENVCFG] = _environment(value, st.FIOM | st.CBIE | st.CBCFE | st.CBZE)


def _write_satp(m: Any, value: Any) -> None:
    """An unsupported mode makes the whole write do nothing."""
    mode = m.srl(value, st.MODE_SHIFT)
    known = m.eq(mode, st.BARE) | (m.geu(mode, st.SV39_MODE) & m.geu(st.SV57_MODE, mode))
    m.change_space(m.select(known, value, m.word(at.SATP)))


def _not_trapped(m: Any) -> Any:
    return m.ne(m.word(at.PRIV), st.S) | m.eq(m.word(at.MSTATUS) & st.TVM, 0)


_add(0x30A, "menvcfg", lambda m: m.word(at.MENVCFG), _write_menvcfg)
_add(0x10A, "senvcfg", lambda m: m.word(at.SENVCFG), _write_senvcfg)
_add(0x180, "satp", lambda m: m.word(at.SATP), _write_satp, _not_trapped, quiet=True, native=True)


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
    new = (old | value) & (st.MML | st.MMWP) | value & st.RLB
    if not old & st.RLB and any(hart.cpu[at.PMPCFG + n] & pmp.LOCK for n in range(at.PMP_ENTRIES)):
        new &= ~st.RLB
    hart.cpu[at.MSECCFG] = new
    _protection_changed(hart)


for _n in (0, 2):
    _add(0x3A0 + _n, f"pmpcfg{_n}", *_pmpcfg(4 * _n))
for _n in range(at.PMP_ENTRIES):
    _add(0x3B0 + _n, f"pmpaddr{_n}", *_pmpaddr(_n))
_add(0x747, "mseccfg", lambda h: h.cpu[at.MSECCFG], _write_mseccfg)

# ---- counters: a running counter is a source plus an offset; an inhibited one is its offset


def _events(hart: Hart, n: int) -> int:
    """What counter n, which counts events, counts, since reset."""
    return (0, hart.tlb_misses(), hart.tlb.hits, hart.walk_steps(), hart.traps_taken)[hart.cpu[at.HPMEVENT + n - 3]]


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
        priv = m.word(at.PRIV)
        supervisor = m.eq(priv, st.M) | m.eq(m.srl(m.word(at.MCOUNTEREN), n) & 1, 1)
        user = m.ltu(st.U, priv) | m.eq(m.srl(m.word(at.SCOUNTEREN), n) & 1, 1)
        return supervisor & user

    return gate


def _hpm_event(n: int) -> Write:
    def write(hart: Hart, value: int) -> None:
        kept = _counter(n)(hart)
        hart.cpu[at.HPMEVENT + n - 3] = value if value in EVENTS else 0
        _set_counter(hart, n, kept)

    return write


def _declare_counter(n: int, name: str) -> None:
    _add(0xB00 + n, f"m{name}", _counter(n), lambda h, v: _set_counter(h, n, v))
    _add(0xC00 + n, name, _counter(n), None, _enabled(n), native=n < 3)


_declare_counter(0, "cycle")
_declare_counter(2, "instret")
for _n in range(3, 32):
    _declare_counter(_n, f"hpmcounter{_n}")
    _add(0x320 + _n, f"mhpmevent{_n}", lambda h, n=_n: h.cpu[at.HPMEVENT + n - 3], _hpm_event(_n))  # type: ignore[misc]
_add(0xC01, "time", lambda m: m.now(), None, _enabled(1), native=True)
_word(0x306, "mcounteren", at.MCOUNTEREN, 0xFFFF_FFFF)
_word(0x106, "scounteren", at.SCOUNTEREN, 0xFFFF_FFFF)
_add(0x320, "mcountinhibit", lambda h: h.cpu[at.MCOUNTINHIBIT], _write_inhibit)


def _timer_on(m: Any) -> Any:
    lent = m.ne(m.word(at.MENVCFG) & st.STCE, 0) & m.ne(m.word(at.MCOUNTEREN) & 2, 0)
    return m.eq(m.word(at.PRIV), st.M) | lent


def _write_stimecmp(m: Any, value: Any) -> None:
    m.set_word(at.STIMECMP, value)
    m.call_attention()


_add(0x14D, "stimecmp", lambda m: m.word(at.STIMECMP), _write_stimecmp, _timer_on, native=True)

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
