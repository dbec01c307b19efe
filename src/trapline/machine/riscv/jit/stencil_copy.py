"""One stencil at a time, as native code: which one an instruction gets, and its copy with the holes filled in.

    pick(context, record, last) -> stencil or null   last: the register that %last holds, -1 for none
    after(stencil, record, last) -> last             what %last holds behind it
    linkless(stencil, record) -> i1                  of a direct jump: it keeps no return address
    over(context, record) -> record                  where a block may begin behind one that has ended before `record`
    code_length(context, number)                     bytes of stencil `number`'s code
    operands(context, record, rest)                  what holes hold, for the instruction at `record`
    inner_target(context, start, number)             ... for its jump within the block, of which it is instruction `number`
    paste(context, stencil, to)                      copy a stencil to the address `to`, which is writable

`context` is the array of words that baseline.py describes.
"""

from __future__ import annotations

from trapline.machine.riscv.jit import baseline as bl
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.floats import DYN, RTZ

MAX_BLOCK = 200  #: instructions of one block
MAX_BLOCKS = 16  #: made at once, one behind the other
SLACK = 64  #: bytes that copying may write beyond what it was asked to

_TEXT = """\
define internal ptr @pick(ptr %cx, i64 %record, i64 %last) nounwind noinline {
entry:
  %rp = inttoptr i64 %record to ptr
  %handler = load i64, ptr %rp, align 8
  %imagep = getelementptr i64, ptr %cx, i64 $IMAGE
  %image = load i64, ptr %imagep
  %sizep = getelementptr i64, ptr %cx, i64 $IMAGE_SIZE
  %size = load i64, ptr %sizep
  %at = sub i64 %handler, %image
  %inside = icmp ult i64 %at, %size
  br i1 %inside, label %look, label %none
look:
  %slotsp = getelementptr i64, ptr %cx, i64 $SLOTS
  %slots = load ptr, ptr %slotsp
  %index = lshr i64 %at, 4
  %slotp = getelementptr i16, ptr %slots, i64 %index
  %slot16 = load i16, ptr %slotp
  %slot = zext i16 %slot16 to i64
  %empty = icmp eq i64 %slot, 0
  %passed = icmp eq i16 %slot16, $PASSED
  %nothing = or i1 %empty, %passed
  br i1 %nothing, label %none, label %found
none:
  ret ptr null
found:
  %stencilsp = getelementptr i64, ptr %cx, i64 $STENCILS
  %stencils = load ptr, ptr %stencilsp
  %first = getelementptr [16 x i8], ptr %stencils, i64 %slot
  %flagsp = getelementptr i8, ptr %first, i64 12
  %flags = load i32, ptr %flagsp
  %rounds.bit = and i32 %flags, $ROUNDS
  %rounds = icmp ne i32 %rounds.bit, 0
  %direct.bit = and i32 %flags, $DIRECT
  %direct = icmp ne i32 %direct.bit, 0
  %modep = getelementptr i8, ptr %rp, i64 15
  %mode8 = load i8, ptr %modep
  %rm = lshr i8 %mode8, 5
  %dynamic = icmp eq i8 %rm, $DYN
  %to.zero = icmp eq i8 %rm, $RTZ
  %other = select i1 %to.zero, i64 1, i64 2
  %by.rm = select i1 %dynamic, i64 0, i64 %other
  %immp = getelementptr i8, ptr %rp, i64 8
  %imm32 = load i32, ptr %immp
  %imm = sext i32 %imm32 to i64
  %in.page = and i64 %record, 65535
  %offset = lshr i64 %in.page, 3
  %target = add i64 %offset, %imm
  %far = icmp uge i64 %target, 4096
  %in.reach = select i1 %far, i64 0, i64 %target
  %place.index = lshr i64 %in.reach, 1
  %place.word = add i64 %place.index, $OFFSETS
  %placep = getelementptr i64, ptr %cx, i64 %place.word
  %place = load i64, ptr %placep
  %marks = and i64 %place, 3
  %labelled = icmp eq i64 %marks, 3
  %ahead = icmp ugt i64 %in.reach, %offset
  %linkless = call i1 @linkless(ptr %first, ptr %rp)
  %inside.1 = and i1 %labelled, %ahead
  %inside.2 = and i1 %inside.1, %linkless
  %near.or.inside = select i1 %inside.2, i64 2, i64 0
  %by.target = select i1 %far, i64 1, i64 %near.or.inside
  %if.direct = select i1 %direct, i64 %by.target, i64 0
  %mode = select i1 %rounds, i64 %by.rm, i64 %if.direct
  %uses.1.bit = and i32 %flags, $USES_1
  %uses.1 = icmp ne i32 %uses.1.bit, 0
  %uses.2.bit = and i32 %flags, $USES_2
  %uses.2 = icmp ne i32 %uses.2.bit, 0
  %rs1p = getelementptr i8, ptr %rp, i64 13
  %rs1.8 = load i8, ptr %rs1p
  %rs1.own = zext i8 %rs1.8 to i64
  %rs1.high = lshr i32 %flags, $IMPLIED_RS1
  %rs1.bits = and i32 %rs1.high, 31
  %rs1.implied = zext i32 %rs1.bits to i64
  %no.implied = icmp eq i64 %rs1.implied, 0
  %rs1 = select i1 %no.implied, i64 %rs1.own, i64 %rs1.implied
  %same.1 = icmp eq i64 %rs1, %last
  %cached.1 = and i1 %same.1, %uses.1
  %rs2p = getelementptr i8, ptr %rp, i64 14
  %rs2.8 = load i8, ptr %rs2p
  %rs2 = zext i8 %rs2.8 to i64
  %same.2 = icmp eq i64 %rs2, %last
  %cached.2 = and i1 %same.2, %uses.2
  %one.bit = zext i1 %uses.1 to i64
  %two.bit = zext i1 %uses.2 to i64
  %bits = add i64 %one.bit, %two.bit
  %modes = shl i64 %mode, %bits
  %first.cached = zext i1 %cached.1 to i64
  %second.cached = zext i1 %cached.2 to i64
  %second = shl i64 %second.cached, %one.bit
  %cached = or i64 %first.cached, %second
  %variant = or i64 %modes, %cached
  %chosen = getelementptr [16 x i8], ptr %first, i64 %variant
  ret ptr %chosen
}

define internal i1 @linkless(ptr %stencil, ptr %rp) nounwind noinline {
  %flagsp = getelementptr i8, ptr %stencil, i64 12
  %flags = load i32, ptr %flagsp
  %writes.bit = and i32 %flags, $WRITES
  %silent = icmp eq i32 %writes.bit, 0
  %rdp = getelementptr i8, ptr %rp, i64 12
  %rd = load i8, ptr %rdp
  %dummy = icmp eq i8 %rd, $DUMMY
  %linkless = or i1 %silent, %dummy
  ret i1 %linkless
}

define internal i64 @after(ptr %stencil, i64 %record, i64 %last) nounwind noinline {
  %flagsp = getelementptr i8, ptr %stencil, i64 12
  %flags = load i32, ptr %flagsp
  %writes.bit = and i32 %flags, $WRITES
  %writes = icmp ne i32 %writes.bit, 0
  %high = lshr i32 %flags, $IMPLIED_RD
  %bits = and i32 %high, 31
  %implied = zext i32 %bits to i64
  %no.implied = icmp eq i64 %implied, 0
  %rp = inttoptr i64 %record to ptr
  %rdp = getelementptr i8, ptr %rp, i64 12
  %rd8 = load i8, ptr %rdp
  %own = zext i8 %rd8 to i64
  %rd = select i1 %no.implied, i64 %own, i64 %implied
  %new = select i1 %writes, i64 %rd, i64 %last
  ret i64 %new
}

define internal void @paste(ptr %cx, ptr %stencil, i64 %to) nounwind noinline {
entry:
  %at32 = load i32, ptr %stencil
  %at = zext i32 %at32 to i64
  %lengthp = getelementptr i8, ptr %stencil, i64 4
  %length16 = load i16, ptr %lengthp
  %length = zext i16 %length16 to i64
  %countp = getelementptr i8, ptr %stencil, i64 6
  %count16 = load i16, ptr %countp
  %count = zext i16 %count16 to i64
  %firstp = getelementptr i8, ptr %stencil, i64 8
  %first32 = load i32, ptr %firstp
  %first = zext i32 %first32 to i64
  %codep = getelementptr i64, ptr %cx, i64 $CODE
  %code = load ptr, ptr %codep
  %from = getelementptr i8, ptr %code, i64 %at
  %shiftp = getelementptr i64, ptr %cx, i64 $SHIFT
  %shift = load i64, ptr %shiftp
  %top = inttoptr i64 %to to ptr
  %here = add i64 %to, %shift
  %next = add i64 %here, %length
  %nextp = getelementptr i64, ptr %cx, i64 $NEXT
  store i64 %next, ptr %nextp
  %holesp = getelementptr i64, ptr %cx, i64 $HOLES
  %holes = load ptr, ptr %holesp
  br label %copy
copy:
  %done = phi i64 [ 0, %entry ], [ %done.next, %copy ]
  %source = getelementptr i8, ptr %from, i64 %done
  %sink = getelementptr i8, ptr %top, i64 %done
  %some = load <2 x i64>, ptr %source, align 1
  store <2 x i64> %some, ptr %sink, align 1
  %done.next = add i64 %done, 16
  %more = icmp ult i64 %done.next, %length
  br i1 %more, label %copy, label %fill
fill:
  %n = phi i64 [ 0, %copy ], [ %n.next, %filled ]
  %left = icmp ult i64 %n, %count
  br i1 %left, label %hole, label %end
hole:
  %index = add i64 %first, %n
  %holep = getelementptr [8 x i8], ptr %holes, i64 %index
  %off16 = load i16, ptr %holep
  %off = zext i16 %off16 to i64
  %whichp = getelementptr i8, ptr %holep, i64 2
  %which8 = load i8, ptr %whichp
  %which = zext i8 %which8 to i64
  %kindp = getelementptr i8, ptr %holep, i64 3
  %kind = load i8, ptr %kindp
  %addendp = getelementptr i8, ptr %holep, i64 4
  %addend32 = load i32, ptr %addendp
  %addend = sext i32 %addend32 to i64
  %which.word = add i64 %which, $HELD
  %valuep = getelementptr i64, ptr %cx, i64 %which.word
  %value0 = load i64, ptr %valuep
  %value = add i64 %value0, %addend
  %wherep = getelementptr i8, ptr %top, i64 %off
  switch i8 %kind, label %absolute [ i8 $WIDE, label %wide  i8 $RELATIVE, label %relative  i8 $NARROW, label %narrow ]
absolute:
  %absolute32 = trunc i64 %value to i32
  store i32 %absolute32, ptr %wherep, align 1
  br label %filled
wide:
  store i64 %value, ptr %wherep, align 1
  br label %filled
relative:
  %where = add i64 %here, %off
  %distance = sub i64 %value, %where
  %distance32 = trunc i64 %distance to i32
  store i32 %distance32, ptr %wherep, align 1
  br label %filled
narrow:
  %narrow8 = trunc i64 %value to i8
  store i8 %narrow8, ptr %wherep, align 1
  br label %filled
filled:
  %n.next = add i64 %n, 1
  br label %fill
end:
  ret void
}

define internal i64 @over(ptr %cx, i64 %record) nounwind noinline {
entry:
  %rp = inttoptr i64 %record to ptr
  %handler = load i64, ptr %rp, align 8
  %imagep = getelementptr i64, ptr %cx, i64 $IMAGE
  %image = load i64, ptr %imagep
  %sizep = getelementptr i64, ptr %cx, i64 $IMAGE_SIZE
  %size = load i64, ptr %sizep
  %at = sub i64 %handler, %image
  %inside = icmp ult i64 %at, %size
  br i1 %inside, label %look, label %same
look:
  %slotsp = getelementptr i64, ptr %cx, i64 $SLOTS
  %slots = load ptr, ptr %slotsp
  %index = lshr i64 %at, 4
  %slotp = getelementptr i16, ptr %slots, i64 %index
  %slot = load i16, ptr %slotp
  %passed = icmp eq i16 %slot, $PASSED
  br i1 %passed, label %further, label %same
further:
  %in.page = and i64 %record, 65535
  %next.in.page = add i64 %in.page, 32
  %next = add i64 %record, 32
  %within = icmp ult i64 %next.in.page, $RECORDS
  %answer = select i1 %within, i64 %next, i64 0
  ret i64 %answer
same:
  ret i64 %record
}

define internal i64 @code_length(ptr %cx, i64 %number) nounwind noinline {
  %stencilsp = getelementptr i64, ptr %cx, i64 $STENCILS
  %stencils = load ptr, ptr %stencilsp
  %stencil = getelementptr [16 x i8], ptr %stencils, i64 %number
  %lengthp = getelementptr i8, ptr %stencil, i64 4
  %length16 = load i16, ptr %lengthp
  %length = zext i16 %length16 to i64
  ret i64 %length
}

define internal void @operands(ptr %cx, i64 %record, i64 %rest) nounwind noinline {
  %rp = inttoptr i64 %record to ptr
  %values = getelementptr i64, ptr %cx, i64 $HELD
$REGISTERS
  %lastp = getelementptr i8, ptr %rp, i64 15
  %last8 = load i8, ptr %lastp
  %last = zext i8 %last8 to i64
  %third = and i64 %last, 31
  %third.at = shl i64 %third, 3
  %rs3p = getelementptr i64, ptr %values, i64 $rs3
  store i64 %third.at, ptr %rs3p
  %mode = lshr i64 %last, 5
  %rmp = getelementptr i64, ptr %values, i64 $rm
  store i64 %mode, ptr %rmp
  %immp = getelementptr i8, ptr %rp, i64 8
  %imm32 = load i32, ptr %immp
  %imm = sext i32 %imm32 to i64
  %imm.holep = getelementptr i64, ptr %values, i64 $imm
  store i64 %imm, ptr %imm.holep
  %in.page = and i64 %record, 65535
  %offset = lshr i64 %in.page, 3
  %offsetp = getelementptr i64, ptr %values, i64 $offset
  store i64 %offset, ptr %offsetp
  %restp = getelementptr i64, ptr %values, i64 $rest
  store i64 %rest, ptr %restp
  %to = add i64 %offset, %imm
  %target = shl i64 %to, 3
  %targetp = getelementptr i64, ptr %values, i64 $target
  store i64 %target, ptr %targetp
  %counter.at = shl i64 %to, 1
  %counter = add i64 %counter.at, $COUNTERS
  %counterp = getelementptr i64, ptr %values, i64 $counter
  store i64 %counter, ptr %counterp
  ret void
}

define internal void @inner_target(ptr %cx, i64 %start, i64 %p) nounwind noinline {
entry:
  %targetp = getelementptr i64, ptr %cx, i64 $target.word
  %target = load i64, ptr %targetp
  %near = icmp ult i64 %target, $RECORDS
  br i1 %near, label %look, label %out
look:
  %index = lshr i64 %target, 4
  %word = add i64 %index, $OFFSETS
  %placep = getelementptr i64, ptr %cx, i64 %word
  %place = load i64, ptr %placep
  %offset = lshr i64 %place, 32
  %address = add i64 %start, %offset
  %insidep = getelementptr i64, ptr %cx, i64 $INSIDE
  store i64 %address, ptr %insidep
  %low = and i64 %place, 4294967295
  %number = lshr i64 %low, 2
  %over = sub i64 %number, %p
  %skipped = sub i64 %over, 1
  %skippedp = getelementptr i64, ptr %cx, i64 $skipped.word
  store i64 %skipped, ptr %skippedp
  br label %out
out:
  ret void
}
"""
_REGISTER = """\
  %{name}p = getelementptr i8, ptr %rp, i64 {offset}
  %{name}8 = load i8, ptr %{name}p
  %{name} = zext i8 %{name}8 to i64
  %{name}.at = shl i64 %{name}, 3
  %{name}.holep = getelementptr i64, ptr %values, i64 {hole}
  store i64 %{name}.at, ptr %{name}.holep"""


def names() -> dict[str, object]:
    """What stands for the $NAMEs of the text."""
    words = (
        "CURSOR", "LIMIT", "SHIFT", "IMAGE", "IMAGE_SIZE", "SLOTS", "STENCILS", "HOLES", "CODE", "BLOCKS", "INSTRUCTIONS",
        "FULL", "OFFSETS",
    )  # fmt: skip
    flags = (
        "ENDS", "BAILS", "FP", "SHORT", "DIRECT", "ROUNDS", "WRITES", "USES_1", "USES_2", "IMPLIED_RD", "IMPLIED_RS1",
    )  # fmt: skip
    names: dict[str, object] = {each: getattr(bl, each) for each in (*words, *flags, "WIDE", "RELATIVE", "NARROW")}
    names |= {each: number for number, each in enumerate(bl.VALUES)}
    names |= {f"{each}.word": bl.HELD + number for number, each in enumerate(bl.VALUES)}
    names |= {each.upper(): bl.HELD + len(bl.VALUES) + bl.EXITS.index(each) for each in ("next", "inside", "bail")}
    registers = "\n".join(
        _REGISTER.format(name=name, offset=offset, hole=bl.VALUES.index(name))
        for name, offset in (("rd", 12), ("rs1", 13), ("rs2", 14))
    )
    return names | {
        "HELD": bl.HELD, "DYN": DYN, "RTZ": RTZ, "COUNTERS": at.COUNTERS, "PLAIN": at.PLAIN, "DUMMY": at.DUMMY,
        "HALFWORDS": at.HALFWORDS, "RECORDS": at.HALFWORDS * at.RECORD, "REGISTERS": registers,
        "MAX_BLOCK": MAX_BLOCK, "MAX_BLOCKS": MAX_BLOCKS, "SLACK": SLACK, "PASSED": bl.PASSED - (1 << 16),
    }  # fmt: skip


def fill_in(text: str) -> str:
    """The text with what its $NAMEs stand for."""
    for name, value in sorted(names().items(), key=lambda each: -len(each[0])):
        text = text.replace(f"${name}", str(value))
    return text


def pieces() -> str:
    """The functions above."""
    return fill_in(_TEXT)
