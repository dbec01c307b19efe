"""The CPU struct: all state of one hart that translated code may touch, in one flat buffer of 64-bit words.

One table says where everything is. Python sees the buffer as `memoryview.cast("Q")` and uses the word indices below; native
code takes its address and uses 8 * index. A checkpoint of a hart is a copy of the buffer.

The translation arrays are the hart's innermost cache: direct-mapped pairs of words, pair number = page number modulo
FAST_ENTRIES. word 0: the page's virtual address, or EMPTY; word 1: what to add to a virtual address (modulo 2**64) to get
its byte offset in RAM. An access of `size` bytes hits if (va & (~0xfff | size - 1)) == word 0: a misaligned access never
does. A page is in the array of writable pages only if its leaf is dirty.

A *context* is one set of them (readable, writable, code), with a log of what was put into it; the word `tlb` says which
one is in force, as its byte offset in the struct. There is one for machine mode, one for what machine mode borrows by
mstatus.MPRV, and for each of the last BANKS values of satp (a *bank*) one for user mode, one for supervisor mode, and
one for supervisor mode with SUM. So changing modes or SUM, or going back to an address space, changes a word.

Invariant: a context holds nothing that is not plain RAM, accessible in its mode by tables and protection as they were at
the last fence for it.
"""

from __future__ import annotations

FAST_ENTRIES = 1024
EMPTY = 0xFFF  #: no access has this tag: sizes reach 8
PMP_ENTRIES = 16
TRIGGERS = 4
WINDOW_COUNT, RUN_COUNT = 256, 8
COUNTERS = 29  #: mhpmcounter3 to mhpmcounter31
BANKS = 4  #: values of satp for which translations are kept

# A context: words from its start.
READ, WRITE, CODE = 0, 2 * FAST_ENTRIES, 4 * FAST_ENTRIES  #: code, for native tiers: a page's address, its decoded form's
FILLS = 6 * FAST_ENTRIES  #: entries made since it was emptied
LOW, HIGH = FILLS + 1, FILLS + 2  #: from the first to the last page of larger ones that it holds pages of
LOG = FILLS + 3  #: the first LOGGED of these entries, as byte offsets in the context
LOGGED = 61
KNOWN = LOG + LOGGED  #: 0: the windows and runs behind it are of no use any more, whatever they hold; see jit/window.py
WINDOWS = KNOWN + 1
RUNS = WINDOWS + 4 * WINDOW_COUNT
CONTEXT_WORDS = RUNS + 6 * RUN_COUNT + 2
MACHINE_CONTEXT, BORROWED, FIRST_OF_BANKS = 0, 1, 2
USER, SUPERVISOR, SUM = 0, 1, 2  #: within a bank
CONTEXTS_OF_BANK = 3
CONTEXTS = FIRST_OF_BANKS + CONTEXTS_OF_BANK * BANKS

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
    ("traps", 1),  # taken since the start, interrupts included
    ("hosted", 1),  # 1 if every trap ends the run, for a kernel outside the machine
    ("granted", 1),  # budget when `instret` was last brought up to date
    ("time_origin", 1),  # virtual time plus the budget left, while that is what makes time; else 0
    ("user_window", 2), ("machine_window", 2),  # [start, end) of RAM where protection permits all: below M-mode, in M-mode
    # innermost translation caches
    ("tlb", 1), ("bank", 1), ("next_bank", 1), ("bank_satp", BANKS),  # context and bank in force; bank to reuse next
    # left to native tiers: addresses of helpers, translation tables, scratch
    ("native", 64),
    ("contexts", CONTEXTS * CONTEXT_WORDS),
    ("virt", 1),  # V: 1 in the virtual modes, VS and VU
    ("careful", 1),  # native tiers leave traps and returns to the reference tier: IN_GUEST, those that change V; WITH_CFI, all
    ("hstatus", 1), ("hedeleg", 1), ("hideleg", 1), ("hcounteren", 1), ("henvcfg", 1), ("htimedelta", 1),
    ("htval", 1), ("htinst", 1), ("hgatp", 1), ("mtval2", 1), ("mtinst", 1), ("vstimecmp", 1),
    # The other privileged registers: the guest's while V is 0, and those of HS-mode while V is 1, when the guest's are in
    # the words of stvec to satp and in mstatus.
    ("vsstatus", 1), ("vstvec", 1), ("vsscratch", 1), ("vsepc", 1), ("vscause", 1), ("vstval", 1), ("vsatp", 1),
    ("elp", 1), ("landing", 1),  # 1: a landing pad must come next; indirect jumps need them in this mode (Zicfilp)
    ("ssp", 1), ("shadow", 1),  # the shadow stack pointer; 1: there is a shadow stack in this mode (Zicfiss)
    ("reserved_value", 1),  # what lr has read, for harts that run at the same time
)  # fmt: skip


IN_GUEST, WITH_CFI = 1, 2  #: bits of `careful`


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
RESERVED, RESERVATION, RESERVATION_SIZE, RESERVED_VALUE = (
    OFFSETS[n] for n in ("reserved", "reservation", "reservation_size", "reserved_value")
)
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
TRAPS, HOSTED, GRANTED, TIME_ORIGIN = (OFFSETS[n] for n in ("traps", "hosted", "granted", "time_origin"))
USER_WINDOW, MACHINE_WINDOW = OFFSETS["user_window"], OFFSETS["machine_window"]
TLB, BANK, NEXT_BANK, BANK_SATP, FIRST_CONTEXT = (OFFSETS[n] for n in ("tlb", "bank", "next_bank", "bank_satp", "contexts"))
SINK, NATIVE = OFFSETS["sink"], OFFSETS["native"]
VIRT, CAREFUL, HSTATUS, HEDELEG, HIDELEG, HCOUNTEREN, HENVCFG, HTIMEDELTA, HTVAL, HTINST, HGATP, MTVAL2, MTINST, VSTIMECMP = (
    OFFSETS[n]
    for n in (
        "virt", "careful", "hstatus", "hedeleg", "hideleg", "hcounteren", "henvcfg", "htimedelta", "htval", "htinst", "hgatp",
        "mtval2", "mtinst", "vstimecmp",
    )
)  # fmt: skip
VSSTATUS, VSTVEC, VSSCRATCH, VSEPC, VSCAUSE, VSTVAL, VSATP = (
    OFFSETS[n] for n in ("vsstatus", "vstvec", "vsscratch", "vsepc", "vscause", "vstval", "vsatp")
)
ELP, LANDING, SSP, SHADOW = (OFFSETS[n] for n in ("elp", "landing", "ssp", "shadow"))
#: Registers that change places when V does (mstatus and vsstatus change some fields).
SWAPPED = ((STVEC, VSTVEC), (SSCRATCH, VSSCRATCH), (SEPC, VSEPC), (SCAUSE, VSCAUSE), (STVAL, VSTVAL), (SATP, VSATP))
