"""The translation arrays' upkeep as native code: what machine/riscv/contexts.py does, word for word.

    clear(context)                empty one context
    forget_all(cpu)               empty them all
    select(cpu)                   put the context of the present mode, status and bank in force
    change_space(cpu, satp)       write satp, and go to its bank
    forget(cpu, page, asid, how)  sfence.vma; how: 1, of this page only; 2, in this address space only
    fill(cpu, array, page, value, shift)   make an entry in the context in force; array: its byte offset in the context
"""

from __future__ import annotations

from trapline.machine.riscv import layout
from trapline.machine.riscv import status as st
from trapline.machine.riscv.jit import state as at

_CONTEXT = 8 * layout.CONTEXT_WORDS
_FIRST = 8 * layout.FIRST_CONTEXT
_BANK = layout.CONTEXTS_OF_BANK * _CONTEXT

_TEXT = """\
define internal void @clear(ptr %context) nounwind noinline {{
  %p.known = getelementptr i8, ptr %context, i64 {known}
  store i64 0, ptr %p.known
  %p.fills = getelementptr i8, ptr %context, i64 {fills}
  %p.low = getelementptr i8, ptr %context, i64 {low}
  %p.high = getelementptr i8, ptr %context, i64 {high}
  %p.log = getelementptr i8, ptr %context, i64 {log}
  %fills = load i64, ptr %p.fills
  %none = icmp eq i64 %fills, 0
  br i1 %none, label %done, label %some
some:
  %few = icmp ule i64 %fills, {logged}
  br i1 %few, label %each, label %all
each:
  %i = phi i64 [ 0, %some ], [ %i.next, %each ]
  %p.offset = getelementptr i64, ptr %p.log, i64 %i
  %offset = load i64, ptr %p.offset
  %entry = getelementptr i8, ptr %context, i64 %offset
  store i64 {empty}, ptr %entry
  %i.next = add i64 %i, 1
  %i.more = icmp ult i64 %i.next, %fills
  br i1 %i.more, label %each, label %reset
all:
  %j = phi i64 [ 0, %some ], [ %j.next, %all ]
  %line = getelementptr i8, ptr %context, i64 %j
  store <8 x i64> <{empties}>, ptr %line, align 8
  %j.next = add i64 %j, 64
  %j.more = icmp ult i64 %j.next, {fills}
  br i1 %j.more, label %all, label %reset
reset:
  store i64 0, ptr %p.fills
  store i64 -1, ptr %p.low
  store i64 0, ptr %p.high
  br label %done
done:
  ret void
}}
define internal void @forget_all(ptr %cpu) nounwind noinline {{
  br label %each
each:
  %i = phi i64 [ {first}, %0 ], [ %i.next, %each ]
  %context = getelementptr i8, ptr %cpu, i64 %i
  call void @clear(ptr %context)
  %i.next = add i64 %i, {context}
  %more = icmp ult i64 %i.next, {end}
  br i1 %more, label %each, label %done
done:
  ret void
}}
define internal void @select(ptr %cpu) nounwind noinline {{
  %p.priv = getelementptr i8, ptr %cpu, i64 {priv}
  %p.status = getelementptr i8, ptr %cpu, i64 {mstatus}
  %p.bank = getelementptr i8, ptr %cpu, i64 {bank}
  %p.tlb = getelementptr i8, ptr %cpu, i64 {tlb}
  %priv = load i64, ptr %p.priv
  %status = load i64, ptr %p.status
  %bank = load i64, ptr %p.bank
  %machine = icmp eq i64 %priv, {m}
  br i1 %machine, label %own, label %lower
own:
  %mprv = and i64 %status, {mprv}
  %borrows = icmp ne i64 %mprv, 0
  br i1 %borrows, label %borrow, label %plain
borrow:
  %context = getelementptr i8, ptr %cpu, i64 {borrowed}
  call void @clear(ptr %context)
  store i64 {borrowed}, ptr %p.tlb
  ret void
plain:
  store i64 {machine}, ptr %p.tlb
  ret void
lower:
  %sum = and i64 %status, {sum}
  %with = icmp ne i64 %sum, 0
  %user = icmp eq i64 %priv, 0
  %kind = select i1 %with, i64 {with_sum}, i64 {without_sum}
  %which = select i1 %user, i64 0, i64 %kind
  %start = mul i64 %bank, {of_bank}
  %place = add i64 %start, %which
  %offset = add i64 %place, {banks}
  store i64 %offset, ptr %p.tlb
  ret void
}}
define internal void @clear_bank(ptr %cpu, i64 %bank) nounwind noinline {{
  %start = mul i64 %bank, {of_bank}
  %offset = add i64 %start, {banks}
  %c0 = getelementptr i8, ptr %cpu, i64 %offset
  %c1 = getelementptr i8, ptr %c0, i64 {context}
  %c2 = getelementptr i8, ptr %c1, i64 {context}
  call void @clear(ptr %c0)
  call void @clear(ptr %c1)
  call void @clear(ptr %c2)
  ret void
}}
define internal void @change_space(ptr %cpu, i64 %satp) nounwind noinline {{
  %p.satp = getelementptr i8, ptr %cpu, i64 {satp}
  %p.keys = getelementptr i8, ptr %cpu, i64 {bank_satp}
  %p.bank = getelementptr i8, ptr %cpu, i64 {bank}
  store i64 %satp, ptr %p.satp
  br label %look
look:
  %i = phi i64 [ 0, %0 ], [ %i.next, %other ]
  %p.key = getelementptr i64, ptr %p.keys, i64 %i
  %key = load i64, ptr %p.key
  %found = icmp eq i64 %key, %satp
  br i1 %found, label %done, label %other
other:
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, {count}
  br i1 %more, label %look, label %replace
replace:
  %p.next = getelementptr i8, ptr %cpu, i64 {next_bank}
  %next = load i64, ptr %p.next
  %after = add i64 %next, 1
  %wrapped = urem i64 %after, {count}
  store i64 %wrapped, ptr %p.next
  call void @clear_bank(ptr %cpu, i64 %next)
  %p.new = getelementptr i64, ptr %p.keys, i64 %next
  store i64 %satp, ptr %p.new
  br label %done
done:
  %bank = phi i64 [ %i, %look ], [ %next, %replace ]
  store i64 %bank, ptr %p.bank
  call void @select(ptr %cpu)
  ret void
}}
define internal void @clear_page(ptr %context, i64 %page) nounwind noinline {{
  %p.low = getelementptr i8, ptr %context, i64 {low}
  %p.high = getelementptr i8, ptr %context, i64 {high}
  %low = load i64, ptr %p.low
  %high = load i64, ptr %p.high
  %above = icmp uge i64 %page, %low
  %below = icmp ule i64 %page, %high
  %large = and i1 %above, %below
  br i1 %large, label %whole, label %one
whole:
  call void @clear(ptr %context)
  ret void
one:
  %p.known = getelementptr i8, ptr %context, i64 {known}
  store i64 0, ptr %p.known
  %number = lshr i64 %page, 8
  %slot = and i64 %number, {slots}
  br label %each
each:
  %i = phi i64 [ 0, %one ], [ %i.next, %next ]
  %at = add i64 %i, %slot
  %entry = getelementptr i8, ptr %context, i64 %at
  %tag = load i64, ptr %entry
  %same = icmp eq i64 %tag, %page
  br i1 %same, label %drop, label %next
drop:
  store i64 {empty}, ptr %entry
  br label %next
next:
  %i.next = add i64 %i, {array}
  %more = icmp ult i64 %i.next, {fills}
  br i1 %more, label %each, label %done
done:
  ret void
}}
define internal void @forget(ptr %cpu, i64 %page, i64 %asid, i64 %how) nounwind noinline {{
  %p.stale = getelementptr i8, ptr %cpu, i64 {stale}
  store i64 1, ptr %p.stale
  %borrowed = getelementptr i8, ptr %cpu, i64 {borrowed}
  call void @clear(ptr %borrowed)
  %one.page = trunc i64 %how to i1
  %how.space = lshr i64 %how, 1
  %one.space = trunc i64 %how.space to i1
  %p.keys = getelementptr i8, ptr %cpu, i64 {bank_satp}
  br label %each
each:
  %i = phi i64 [ 0, %0 ], [ %i.next, %next ]
  %p.key = getelementptr i64, ptr %p.keys, i64 %i
  %key = load i64, ptr %p.key
  %shifted = lshr i64 %key, {asid_shift}
  %theirs = and i64 %shifted, {asid_mask}
  %differs = icmp ne i64 %theirs, %asid
  %skip = and i1 %one.space, %differs
  br i1 %skip, label %next, label %bank
bank:
  br i1 %one.page, label %page.only, label %whole
whole:
  call void @clear_bank(ptr %cpu, i64 %i)
  br label %next
page.only:
  %start = mul i64 %i, {of_bank}
  %offset = add i64 %start, {banks}
  %c0 = getelementptr i8, ptr %cpu, i64 %offset
  %c1 = getelementptr i8, ptr %c0, i64 {context}
  %c2 = getelementptr i8, ptr %c1, i64 {context}
  call void @clear_page(ptr %c0, i64 %page)
  call void @clear_page(ptr %c1, i64 %page)
  call void @clear_page(ptr %c2, i64 %page)
  br label %next
next:
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, {count}
  br i1 %more, label %each, label %done
done:
  ret void
}}
define internal void @fill(ptr %cpu, i64 %array, i64 %page, i64 %value, i64 %shift) nounwind noinline {{
  %p.tlb = getelementptr i8, ptr %cpu, i64 {tlb}
  %tlb = load i64, ptr %p.tlb
  %context = getelementptr i8, ptr %cpu, i64 %tlb
  %number = lshr i64 %page, 8
  %slot = and i64 %number, {slots}
  %offset = add i64 %slot, %array
  %entry = getelementptr i8, ptr %context, i64 %offset
  %half = getelementptr i8, ptr %entry, i64 8
  store i64 %page, ptr %entry
  store i64 %value, ptr %half
  %p.fills = getelementptr i8, ptr %context, i64 {fills}
  %fills = load i64, ptr %p.fills
  %room = icmp ult i64 %fills, {logged}
  br i1 %room, label %log, label %logged
log:
  %p.log = getelementptr i8, ptr %context, i64 {log}
  %p.place = getelementptr i64, ptr %p.log, i64 %fills
  store i64 %offset, ptr %p.place
  br label %logged
logged:
  %more = add i64 %fills, 1
  store i64 %more, ptr %p.fills
  %small = icmp eq i64 %shift, 12
  br i1 %small, label %done, label %large
large:
  %size = shl i64 1, %shift
  %mask = sub i64 0, %size
  %first = and i64 %page, %mask
  %room.in = sub i64 %size, 4096
  %last = or i64 %first, %room.in
  %p.low = getelementptr i8, ptr %context, i64 {low}
  %p.high = getelementptr i8, ptr %context, i64 {high}
  %low = load i64, ptr %p.low
  %high = load i64, ptr %p.high
  %lower = icmp ult i64 %first, %low
  %low.now = select i1 %lower, i64 %first, i64 %low
  %higher = icmp ugt i64 %last, %high
  %high.now = select i1 %higher, i64 %last, i64 %high
  store i64 %low.now, ptr %p.low
  store i64 %high.now, ptr %p.high
  br label %done
done:
  ret void
}}
"""


def routines() -> str:
    """The functions."""
    return _TEXT.format(
        fills=8 * layout.FILLS, low=8 * layout.LOW, high=8 * layout.HIGH, log=8 * layout.LOG, logged=layout.LOGGED,
        known=8 * layout.KNOWN,
        empty=layout.EMPTY, empties=", ".join([f"i64 {layout.EMPTY}"] * 8), context=_CONTEXT, of_bank=_BANK, first=_FIRST,
        end=_FIRST + layout.CONTEXTS * _CONTEXT, machine=_FIRST + layout.MACHINE_CONTEXT * _CONTEXT,
        borrowed=_FIRST + layout.BORROWED * _CONTEXT, banks=_FIRST + layout.FIRST_OF_BANKS * _CONTEXT,
        with_sum=layout.SUM * _CONTEXT, without_sum=layout.SUPERVISOR * _CONTEXT, count=layout.BANKS,
        array=8 * layout.WRITE, slots=(layout.FAST_ENTRIES - 1) << 4, m=st.M, mprv=st.MPRV, sum=st.SUM,
        asid_shift=st.ASID_SHIFT, asid_mask=st.ASID_MASK, priv=at.PRIV, mstatus=at.MSTATUS, satp=at.SATP, tlb=at.TLB,
        stale=at.STALE, bank=8 * layout.BANK, next_bank=8 * layout.NEXT_BANK, bank_satp=8 * layout.BANK_SATP,
    )  # fmt: skip
