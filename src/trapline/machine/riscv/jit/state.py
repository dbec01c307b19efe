"""Where native code finds things: byte offsets in the CPU struct, and the layout of a code page.

A *code page* is the decoded form of one page of guest code: 64 KiB of the arena, so that any address in it leads to its start.
    0x0000  2048 records of 16 bytes, one for each half-word of the page, and two more that go on in the next page
    0x8020  the host address of the page's bytes
    0x8028  of the instruction that begins in the page's last half-word, as it was decoded last: its bits, its handler
    0x8800  2048 counters of 32 bits: how often a jump led to the record
    0xb800  2048 handlers: the interpreter's for the record, where translated code has taken its place; else 0
A *record* is { handler: 8 bytes, imm: i32, rd, rs1, rs2: u8, rs3 | rm << 5: u8 }. An instruction is executed by jumping to the
handler with the record's address. Records start as `undecoded`, whose handler decodes; a hot record's handler is a region.

Invariant: pc == (record's address >> 3) + delta, where delta is the page's virtual address minus (code page's address >> 3).
"""

from __future__ import annotations

from trapline.machine.riscv import layout

PAGE_BYTES = 0x10000
RECORD = 16
SOURCE, SPLIT_BITS, SPLIT_HANDLER = 0x8020, 0x8028, 0x8030
LAST = 4094  #: offset of a page's last half-word
COUNTERS = 0x8800
PLAIN = 0xB800
HALFWORDS = 2048
TLB_PAGES = layout.FAST_ENTRIES
DUMMY = layout.SINK - layout.X  #: not a register: where writes of x0 go, as an index from x

HOT = 3000  #: jumps to one place before a region is made of it
WARM = 10  #: jumps to one place before baseline code is made of it

# Why native code left (`REASON`). TRAP: a trap for the kernel outside, with budget left for it, described. LOOK: an interrupt
# may have to be taken. ATTENTION: a deadline has moved.
BUDGET, STEP, FETCH, HOT_SPOT, TRAP, LOOK, ATTENTION = 0, 1, 2, 3, 4, 5, 6
REASONS = ("budget", "step", "fetch", "hot", "trap", "interrupt", "deadline")  #: in words

_NATIVE = layout.NATIVE
X, PC, F = 8 * layout.X, 8 * layout.PC, 8 * layout.F
FRM, BUDGET_LEFT = 8 * layout.FRM, 8 * layout.BUDGET
RESERVED, RESERVATION, RESERVATION_SIZE = 8 * layout.RESERVED, 8 * layout.RESERVATION, 8 * layout.RESERVATION_SIZE
RESERVED_VALUE = 8 * layout.RESERVED_VALUE
RAM_HOST, RAM_BASE = 8 * layout.RAM_HOST, 8 * layout.RAM_BASE
TLB = 8 * layout.TLB  #: the byte offset of the context in force (see layout.py), and of its arrays in it:
READ, WRITE, CODE = 8 * layout.READ, 8 * layout.WRITE, 8 * layout.CODE
#: Words of the CPU struct's native part.
REASON_WORD, MXCSR_WORD, FP_WORD, HANDLERS_WORD = _NATIVE, _NATIVE + 1, _NATIVE + 2, _NATIVE + 3
MISSED_WORD, STALE_WORD, WALKS_WORD, CODE_TABLE_WORD, MISSES_WORD = (_NATIVE + n for n in range(4, 9))
REASON, MXCSR = 8 * REASON_WORD, 8 * MXCSR_WORD
FP_READY = 8 * FP_WORD  #: not 0: floating point may run natively (mstatus.FS is dirty, and the host has frm's rounding mode)
HANDLERS = 8 * HANDLERS_WORD  #: address of the table of the interpreter's handlers
MISSED = 8 * MISSED_WORD  #: the virtual address that an array had no entry for
STALE = 8 * STALE_WORD  #: not 0: native code has executed an sfence.vma, which the reference tier's TLB must catch up with
CODE_TABLE = 8 * CODE_TABLE_WORD  #: address of the table of code pages: one word for each page of RAM, 0 where there is none
WALKS, MISSES = 8 * WALKS_WORD, 8 * MISSES_WORD  #: entries that native walks have read, and how many there were
STITCHER_WORD, WARM_WORD, HOT_WORD = _NATIVE + 40, _NATIVE + 41, _NATIVE + 42
STITCHER = 8 * STITCHER_WORD  #: address of what the baseline tier works with; 0: there is none
WARM_JUMPS, HOT_JUMPS = 8 * WARM_WORD, 8 * HOT_WORD  #: how many jumps make a place warm, and hot; 0: no number does
# For code that is shared (emit.py): not 0: somebody wants the hart to look around; when it must look by itself, in ns of the
# machine's time (0: never); what the host's clock showed when that was 0; the address of clock_gettime(2) and
# sched_yield(2), and a timespec.
KICK_WORD, ALARM_WORD, CLOCK_ORIGIN_WORD, CLOCK_WORD, YIELD_WORD, TIMESPEC_WORD = (_NATIVE + n for n in range(43, 49))
KICK, ALARM, CLOCK_ORIGIN, CLOCK, YIELD, TIMESPEC = (8 * n for n in range(KICK_WORD, TIMESPEC_WORD + 1))
# Posted stores: sb instructions to the virtual address POSTED_AT, in the mode, with the status and in the space of the next
# three words, which only add a byte to the POSTED_COUNT bytes at POSTED; there may be POSTED_ROOM (0: nothing is posted).
(POSTED_AT_WORD, POSTED_PRIV_WORD, POSTED_STATUS_WORD, POSTED_SATP_WORD, POSTED_COUNT_WORD, POSTED_ROOM_WORD, POSTED_WORD) = (
    _NATIVE + n for n in range(51, 58)
)
POSTED_AT, POSTED_PRIV, POSTED_STATUS, POSTED_SATP, POSTED_COUNT, POSTED_ROOM, POSTED = (
    8 * n for n in range(POSTED_AT_WORD, POSTED_WORD + 1)
)
MOST_POSTED = 8 * 7  #: bytes
FFLAGS, MSTATUS = 8 * layout.FFLAGS, 8 * layout.MSTATUS
TRAP_CAUSE, TRAP_VALUE = 8 * layout.TRAP_CAUSE, 8 * layout.TRAP_VALUE
SATP, PRIV, RAM_SIZE = 8 * layout.SATP, 8 * layout.PRIV, 8 * layout.RAM_SIZE
