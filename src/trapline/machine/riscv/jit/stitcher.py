"""The stitcher: native code that makes baseline code of a block, by copying stencils and filling in their holes.

In a nutshell: `stitch` goes through the records of a page from a warm one on, as far as instructions that have been executed
and have a stencil follow one another, to the first jump that nothing before it jumps over. A second pass adds up what their
code takes, and notes where each one's will be: jumps forward within the block lead there at once. The third copies it, a head
before it, the ways out behind it, and puts the head's address into the first record. Where a block ends at an instruction that
is the interpreter's, another is begun behind that. It works from the tables that baseline.py made, and allocates nothing else.

Invariants:
- a record's handler tells its op: the address of an interpreter's function, and nothing else, leads to a stencil;
- nothing is written if it does not all fit;
- copying goes beyond a stencil's end, by less than 16 bytes: so the ways out begin so far behind the rest;
- the record keeps its interpreter's handler in the page's table PLAIN, where `plain` finds it.
"""

from __future__ import annotations

from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.stencil_copy import fill_in, pieces
from trapline.machine.riscv.jit.text import ATTRIBUTES, HANDLER, OWN, PARAMETERS, Code, Value, dispatch, tail

_TEXT = """\
define internal void @stitch(ptr %cx, i64 %record) nounwind noinline {
entry:
  br label %each
each:
  %from = phi i64 [ %record, %entry ], [ %behind, %each ]
  %n = phi i64 [ 0, %entry ], [ %n.next, %each ]
  %behind = call i64 @block(ptr %cx, i64 %from)
  %n.next = add i64 %n, 1
  %on = icmp ne i64 %behind, 0
  %few = icmp ult i64 %n.next, $MAX_BLOCKS
  %again = and i1 %on, %few
  br i1 %again, label %each, label %done
done:
  ret void
}

define internal i64 @block(ptr %cx, i64 %record) nounwind noinline {
entry:
  %page = and i64 %record, -65536
  %stop = add i64 %page, $RECORDS
  %stencilsp = getelementptr i64, ptr %cx, i64 $STENCILS
  %stencils = load ptr, ptr %stencilsp
  %bail = getelementptr [16 x i8], ptr %stencils, i64 2
  %end = getelementptr [16 x i8], ptr %stencils, i64 3
  %bail.length = call i64 @code_length(ptr %cx, i64 2)
  %end.length = call i64 @code_length(ptr %cx, i64 3)
  %places = getelementptr i64, ptr %cx, i64 $OFFSETS
  br label %clear
clear:
  %cleared = phi i64 [ 0, %entry ], [ %cleared.next, %clear ]
  %clearp = getelementptr i64, ptr %places, i64 %cleared
  store <4 x i64> zeroinitializer, ptr %clearp, align 8
  %cleared.next = add i64 %cleared, 4
  %clearing = icmp ult i64 %cleared.next, $HALFWORDS
  br i1 %clearing, label %clear, label %scan
scan:
  %r = phi i64 [ %record, %clear ], [ %r.next, %taken ]
  %n = phi i64 [ 0, %clear ], [ %n.next, %taken ]
  %furthest = phi i64 [ 0, %clear ], [ %furthest.next, %taken ]
  %within = icmp ult i64 %r, %stop
  %short = icmp ult i64 %n, $MAX_BLOCK
  %on = and i1 %within, %short
  br i1 %on, label %look, label %open
look:
  %s = call ptr @pick(ptr %cx, i64 %r, i64 -1)
  %none = icmp eq ptr %s, null
  br i1 %none, label %open, label %take
take:
  %rp = inttoptr i64 %r to ptr
  %r.in.page = sub i64 %r, %page
  %r.index = lshr i64 %r.in.page, 4
  %r.placep = getelementptr i64, ptr %places, i64 %r.index
  %r.place = load i64, ptr %r.placep
  %r.marked = or i64 %r.place, 1
  store i64 %r.marked, ptr %r.placep
  %flagsp = getelementptr i8, ptr %s, i64 12
  %flags = load i32, ptr %flagsp
  %n.next = add i64 %n, 1
  %half.bit = and i32 %flags, $SHORT
  %half = icmp ne i32 %half.bit, 0
  %step = select i1 %half, i64 16, i64 32
  %r.next = add i64 %r, %step
  %direct.bit = and i32 %flags, $DIRECT
  %direct = icmp ne i32 %direct.bit, 0
  %linkless = call i1 @linkless(ptr %s, ptr %rp)
  %immp = getelementptr i8, ptr %rp, i64 8
  %imm32 = load i32, ptr %immp
  %imm = sext i32 %imm32 to i64
  %distance = shl i64 %imm, 3
  %aim = add i64 %r.in.page, %distance
  %in.page.1 = icmp ult i64 %aim, $RECORDS
  %forward = icmp sgt i64 %imm, 0
  %jump.1 = and i1 %direct, %linkless
  %jump.2 = and i1 %in.page.1, %forward
  %jumps = and i1 %jump.1, %jump.2
  br i1 %jumps, label %mark, label %taken
mark:
  %aim.index = lshr i64 %aim, 4
  %aim.placep = getelementptr i64, ptr %places, i64 %aim.index
  %aim.place = load i64, ptr %aim.placep
  %aim.marked = or i64 %aim.place, 2
  store i64 %aim.marked, ptr %aim.placep
  %aim.record = add i64 %page, %aim
  %further = icmp ugt i64 %aim.record, %furthest
  %furthest.new = select i1 %further, i64 %aim.record, i64 %furthest
  br label %taken
taken:
  %furthest.next = phi i64 [ %furthest, %take ], [ %furthest.new, %mark ]
  %ends.bit = and i32 %flags, $ENDS
  %ends = icmp ne i32 %ends.bit, 0
  %nothing.ahead = icmp ult i64 %furthest.next, %r.next
  %last.one = and i1 %ends, %nothing.ahead
  br i1 %last.one, label %scanned, label %scan
open:
  %some = icmp ne i64 %n, 0
  br i1 %some, label %scanned, label %nothing
nothing:
  %beyond = call i64 @over(ptr %cx, i64 %record)
  %stays = icmp eq i64 %beyond, %record
  %elsewhere = select i1 %stays, i64 0, i64 %beyond
  ret i64 %elsewhere
scanned:
  %count = phi i64 [ %n, %open ], [ %n.next, %taken ]
  %goes.on = phi i64 [ %end.length, %open ], [ 0, %taken ]
  br label %measure
measure:
  %m.p = phi i64 [ 0, %scanned ], [ %m.p.next, %measured ]
  %m.r = phi i64 [ %record, %scanned ], [ %m.r.next, %measured ]
  %hot.all = phi i64 [ 0, %scanned ], [ %hot.next, %measured ]
  %cold.all = phi i64 [ 0, %scanned ], [ %cold.next, %measured ]
  %kinds.all = phi i32 [ 0, %scanned ], [ %kinds.next, %measured ]
  %m.last = phi i64 [ -1, %scanned ], [ %m.last.next, %measured ]
  %m.all = icmp eq i64 %m.p, %count
  br i1 %m.all, label %planned, label %measured
measured:
  %m.in.page = sub i64 %m.r, %page
  %m.index = lshr i64 %m.in.page, 4
  %m.placep = getelementptr i64, ptr %places, i64 %m.index
  %m.place = load i64, ptr %m.placep
  %m.marks = and i64 %m.place, 3
  %m.label = icmp eq i64 %m.marks, 3
  %m.known = select i1 %m.label, i64 -1, i64 %m.last
  %m.s = call ptr @pick(ptr %cx, i64 %m.r, i64 %m.known)
  %m.last.next = call i64 @after(ptr %m.s, i64 %m.r, i64 %m.known)
  %m.offset = shl i64 %hot.all, 32
  %m.number = shl i64 %m.p, 2
  %m.both = or i64 %m.offset, %m.number
  %m.word = or i64 %m.both, %m.marks
  store i64 %m.word, ptr %m.placep
  %lengthp = getelementptr i8, ptr %m.s, i64 4
  %length16 = load i16, ptr %lengthp
  %length = zext i16 %length16 to i64
  %m.flagsp = getelementptr i8, ptr %m.s, i64 12
  %m.flags = load i32, ptr %m.flagsp
  %hot.next = add i64 %hot.all, %length
  %bails.bit = and i32 %m.flags, $BAILS
  %bails = icmp ne i32 %bails.bit, 0
  %out = select i1 %bails, i64 %bail.length, i64 0
  %cold.next = add i64 %cold.all, %out
  %kinds.next = or i32 %kinds.all, %m.flags
  %m.half.bit = and i32 %m.flags, $SHORT
  %m.half = icmp ne i32 %m.half.bit, 0
  %m.step = select i1 %m.half, i64 16, i64 32
  %m.r.next = add i64 %m.r, %m.step
  %m.p.next = add i64 %m.p, 1
  br label %measure
planned:
  %fp.bit = and i32 %kinds.all, $FP
  %fp = icmp ne i32 %fp.bit, 0
  %head.number = zext i1 %fp to i64
  %head = getelementptr [16 x i8], ptr %stencils, i64 %head.number
  %head.length = call i64 @code_length(ptr %cx, i64 %head.number)
  %body.length = add i64 %head.length, %hot.all
  %written = add i64 %body.length, %goes.on
  %inner = add i64 %written, 16
  %total = add i64 %inner, %cold.all
  %cursorp = getelementptr i64, ptr %cx, i64 $CURSOR
  %cursor = load i64, ptr %cursorp
  %limitp = getelementptr i64, ptr %cx, i64 $LIMIT
  %limit = load i64, ptr %limitp
  %after = add i64 %cursor, %total
  %needed = add i64 %after, $SLACK
  %fits = icmp ule i64 %needed, %limit
  br i1 %fits, label %emit, label %full
full:
  %fullp = getelementptr i64, ptr %cx, i64 $FULL
  store i64 1, ptr %fullp
  br label %give.up
give.up:
  ret i64 0
emit:
  %shiftp = getelementptr i64, ptr %cx, i64 $SHIFT
  %shift = load i64, ptr %shiftp
  %countp = getelementptr i64, ptr %cx, i64 $count.word
  store i64 %count, ptr %countp
  call void @paste(ptr %cx, ptr %head, i64 %cursor)
  %start = add i64 %cursor, %head.length
  %cold.start = add i64 %cursor, %inner
  %restp = getelementptr i64, ptr %cx, i64 $rest.word
  %targetp = getelementptr i64, ptr %cx, i64 $target.word
  %bailp = getelementptr i64, ptr %cx, i64 $BAIL
  br label %lay
lay:
  %p = phi i64 [ 0, %emit ], [ %p.next, %laid ]
  %q = phi i64 [ %record, %emit ], [ %q.next, %laid ]
  %to = phi i64 [ %start, %emit ], [ %to.next, %laid ]
  %c = phi i64 [ %cold.start, %emit ], [ %c.next, %laid ]
  %l = phi i64 [ -1, %emit ], [ %l.next, %laid ]
  %all = icmp eq i64 %p, %count
  br i1 %all, label %close, label %one
one:
  %q.in.page = sub i64 %q, %page
  %q.index = lshr i64 %q.in.page, 4
  %q.placep = getelementptr i64, ptr %places, i64 %q.index
  %q.place = load i64, ptr %q.placep
  %q.marks = and i64 %q.place, 3
  %q.label = icmp eq i64 %q.marks, 3
  %known = select i1 %q.label, i64 -1, i64 %l
  %t = call ptr @pick(ptr %cx, i64 %q, i64 %known)
  %l.next = call i64 @after(ptr %t, i64 %q, i64 %known)
  %rest = sub i64 %count, %p
  %rest.after = sub i64 %rest, 1
  %start.executed = add i64 %start, %shift
  call void @operands(ptr %cx, i64 %q, i64 %rest.after)
  call void @inner_target(ptr %cx, i64 %start.executed, i64 %p)
  %c.executed = add i64 %c, %shift
  store i64 %c.executed, ptr %bailp
  call void @paste(ptr %cx, ptr %t, i64 %to)
  %t.lengthp = getelementptr i8, ptr %t, i64 4
  %t.length16 = load i16, ptr %t.lengthp
  %t.length = zext i16 %t.length16 to i64
  %to.next = add i64 %to, %t.length
  %t.flagsp = getelementptr i8, ptr %t, i64 12
  %t.flags = load i32, ptr %t.flagsp
  %t.half.bit = and i32 %t.flags, $SHORT
  %t.half = icmp ne i32 %t.half.bit, 0
  %t.step = select i1 %t.half, i64 16, i64 32
  %q.next = add i64 %q, %t.step
  %p.next = add i64 %p, 1
  %t.bails.bit = and i32 %t.flags, $BAILS
  %t.bails = icmp ne i32 %t.bails.bit, 0
  br i1 %t.bails, label %way.out, label %laid
way.out:
  store i64 %q.in.page, ptr %targetp
  store i64 %rest, ptr %restp
  call void @paste(ptr %cx, ptr %bail, i64 %c)
  %c.after = add i64 %c, %bail.length
  br label %laid
laid:
  %c.next = phi i64 [ %c, %one ], [ %c.after, %way.out ]
  br label %lay
close:
  %closed = icmp eq i64 %goes.on, 0
  br i1 %closed, label %install, label %go.on
go.on:
  %behind = sub i64 %q, %page
  store i64 %behind, ptr %targetp
  call void @paste(ptr %cx, ptr %end, i64 %to)
  br label %install
install:
  %in.page = sub i64 %record, %page
  %plain.at = lshr i64 %in.page, 1
  %plain.in.page = add i64 %plain.at, $PLAIN
  %plain = add i64 %page, %plain.in.page
  %plainp = inttoptr i64 %plain to ptr
  %recordp = inttoptr i64 %record to ptr
  %handler = load i64, ptr %recordp
  store i64 %handler, ptr %plainp
  %entry.at = add i64 %cursor, %shift
  store i64 %entry.at, ptr %recordp
  %rounded = add i64 %after, 15
  %cursor.next = and i64 %rounded, -16
  store i64 %cursor.next, ptr %cursorp
  %blocksp = getelementptr i64, ptr %cx, i64 $BLOCKS
  %blocks = load i64, ptr %blocksp
  %blocks.next = add i64 %blocks, 1
  store i64 %blocks.next, ptr %blocksp
  %instructionsp = getelementptr i64, ptr %cx, i64 $INSTRUCTIONS
  %instructions = load i64, ptr %instructionsp
  %instructions.next = add i64 %instructions, %count
  store i64 %instructions.next, ptr %instructionsp
  %over = call i64 @over(ptr %cx, i64 %q)
  %next.block = select i1 %closed, i64 0, i64 %over
  ret i64 %next.block
}
"""


def stitcher() -> str:
    """The function `stitch(context, record)`, and those it calls."""
    return pieces() + fill_in(_TEXT)


def handlers() -> str:
    """`bake`: make baseline code of the block at %ip, and execute it. `plain`: execute what is at %ip in the interpreter."""
    return f"{_bake()}\n{_plain()}"


def _bake() -> str:
    code = Code()
    context = code.let(f"load ptr, ptr {code.let(f'getelementptr i8, ptr %cpu, i64 {at.STITCHER}')}{OWN}")
    some, go = code.label(), code.label()
    code.line(f"br i1 {code.let(f'icmp eq ptr {context}, null')}, label %{go}, label %{some}")
    code.place(some)
    code.line(f"call void @stitch(ptr {context}, i64 %ip)")
    code.line(f"br label %{go}")
    code.place(go)
    dispatch(code, "%ip", "%budget")
    return code.function(f"{HANDLER} @bake({PARAMETERS}) {ATTRIBUTES} noinline cold")


def _plain() -> str:
    code = Code()
    ip = Value(code, "%ip")
    page = code.binary("and", ip, -at.PAGE_BYTES)
    place = page + code.binary("lshr", code.binary("and", ip, at.PAGE_BYTES - 1), 1)
    kept = code.let(f"load ptr, ptr {code.pointer(place + at.PLAIN)}{OWN}")
    own, other = code.label(), code.label()
    code.line(f"br i1 {code.let(f'icmp eq ptr {kept}, null')}, label %{own}, label %{other}")
    code.place(own)
    dispatch(code, "%ip", "%budget")
    code.place(other)
    tail(code, kept)
    return code.function(f"{HANDLER} @plain({PARAMETERS}) {ATTRIBUTES} noinline")


