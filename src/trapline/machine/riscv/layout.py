"""The CPU struct: all state of one hart that translated code may touch, in one flat buffer of 64-bit words.

One table says where everything is. Python sees the buffer as `memoryview.cast("Q")` and uses the word indices below; native
code takes its address and uses 8 * index. A checkpoint of a hart is a copy of the buffer.

The translation arrays (`tlb_read`, `tlb_write`, `tlb_fetch`) are the hart's innermost cache: direct-mapped pairs of
words, pair number = page number modulo FAST_ENTRIES. word 0: the page's virtual address, or EMPTY word 1: what to add to
a virtual address (modulo 2**64) to get its byte offset in RAM An access of `size` bytes hits if (va & (~0xfff | size -
1)) == word 0: a misaligned access never does. A page is in `tlb_write` only if its leaf is dirty. They hold nothing that
is not plain RAM, readable (writable, executable) by the present mode: whoever changes the mode, satp, the permissions or
the tables empties them.
"""

from __future__ import annotations

FAST_ENTRIES = 1024
EMPTY = 0xFFF  #: no access has this tag: sizes reach 8
PMP_ENTRIES = 16
TRIGGERS = 4
COUNTERS = 29  #: mhpmcounter3 to mhpmcounter31

#: (name, words). The order is an interface: append only.
FIELDS: tuple[tuple[str, int], ...] = (
    ("x", 32), ("pc", 1), ("f", 32), ("frm", 1), ("fflags", 1),
    ("priv", 1),  # 0 user, 1 supervisor, 3 machine
    ("budget", 1),  # instructions still to run before control returns
    ("instret", 1),  # instructions retired since reset, whatever minstret says
    ("reserved", 1),  # 1 while a reservation is held
    ("reservation", 1),  # its physical address
    ("reservation_size", 1),
    ("trap_cause", 1), ("trap_value", 1),  # of the trap that made the run end
    ("ram_host", 1),  # host address of RAM, for native code
    ("ram_base", 1), ("ram_size", 1),  # physical
    ("hartid", 1),
    ("sink", 1),  # where native code writes x0
    # control and status registers, as they are stored
    ("mstatus", 1), ("medeleg", 1), ("mideleg", 1), ("mie", 1), ("mip", 1), ("mtvec", 1), ("mscratch", 1), ("mepc", 1),
    ("mcause", 1), ("mtval", 1), ("mcounteren", 1), ("mcountinhibit", 1), ("menvcfg", 1), ("mseccfg", 1),
    ("stvec", 1), ("sscratch", 1), ("sepc", 1), ("scause", 1), ("stval", 1), ("scounteren", 1), ("senvcfg", 1), ("satp", 1),
    ("stimecmp", 1),
    ("lines", 1),  # interrupts that devices assert, as bits of mip
    ("cycle_offset", 1), ("instret_offset", 1),  # mcycle = instructions + offset
    ("pmpcfg", PMP_ENTRIES), ("pmpaddr", PMP_ENTRIES),
    ("tselect", 1), ("tcontrol", 1), ("tdata1", TRIGGERS), ("tdata2", TRIGGERS),
    ("hpmcounter", COUNTERS), ("hpmevent", COUNTERS),
    # innermost translation caches
    ("tlb_read", 2 * FAST_ENTRIES), ("tlb_write", 2 * FAST_ENTRIES), ("tlb_fetch", 2 * FAST_ENTRIES),
    ("tlb_code", 2 * FAST_ENTRIES),  # native tiers: a page's address, and where its decoded form is
    # left to native tiers: addresses of helpers, translation tables, scratch
    ("native", 64),
)  # fmt: skip


def _places() -> tuple[dict[str, int], int]:
    places, at = {}, 0
    for name, words in FIELDS:
        places[name] = at
        at += words
    return places, at


OFFSETS, WORDS = _places()  #: name -> index of its first word; words in all
SIZE = 8 * WORDS  #: bytes

X, PC, F, FRM, FFLAGS, PRIV, BUDGET, INSTRET = (
    OFFSETS[n] for n in ("x", "pc", "f", "frm", "fflags", "priv", "budget", "instret")
)
RESERVED, RESERVATION, RESERVATION_SIZE = (OFFSETS[n] for n in ("reserved", "reservation", "reservation_size"))
TRAP_CAUSE, TRAP_VALUE, HARTID = (OFFSETS[n] for n in ("trap_cause", "trap_value", "hartid"))
RAM_HOST, RAM_BASE, RAM_SIZE = (OFFSETS[n] for n in ("ram_host", "ram_base", "ram_size"))
MSTATUS, MEDELEG, MIDELEG, MIE, MIP, MTVEC, MSCRATCH, MEPC, MCAUSE, MTVAL = (
    OFFSETS[n]
    for n in ("mstatus", "medeleg", "mideleg", "mie", "mip", "mtvec", "mscratch", "mepc", "mcause", "mtval")
)
MCOUNTEREN, MCOUNTINHIBIT, MENVCFG, MSECCFG = (
    OFFSETS[n] for n in ("mcounteren", "mcountinhibit", "menvcfg", "mseccfg")
)
STVEC, SSCRATCH, SEPC, SCAUSE, STVAL, SCOUNTEREN, SENVCFG, SATP, STIMECMP, LINES = (
    OFFSETS[n]
    for n in (
        "stvec", "sscratch", "sepc", "scause", "stval", "scounteren", "senvcfg", "satp", "stimecmp", "lines",
    )
)  # fmt: skip
CYCLE_OFFSET, INSTRET_OFFSET, PMPCFG, PMPADDR = (
    OFFSETS[n] for n in ("cycle_offset", "instret_offset", "pmpcfg", "pmpaddr")
)
TSELECT, TCONTROL, TDATA1, TDATA2, HPMCOUNTER, HPMEVENT = (
    OFFSETS[n] for n in ("tselect", "tcontrol", "tdata1", "tdata2", "hpmcounter", "hpmevent")
)
TLB_READ, TLB_WRITE, TLB_FETCH, TLB_CODE = (OFFSETS[n] for n in ("tlb_read", "tlb_write", "tlb_fetch", "tlb_code"))
SINK, NATIVE = OFFSETS["sink"], OFFSETS["native"]
