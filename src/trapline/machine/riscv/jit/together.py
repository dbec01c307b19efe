"""What shared code (emit.py) has besides: harts that run at the same time, each on a thread of the host's.

    run_among(cpu)   as `run`, a slice of the budget at a time: between two, look whether somebody has kicked the hart, or its
                     alarm has come. Then it leaves for LOOK, with budget left. And let others have the host's CPU: guests wait
                     for one another in loops, and who they wait for may not be running.
    clock(cpu)       ns since the machine's time began, by the host's monotonic clock
    swap_4, swap_8(where, old, new)   compare and exchange for Python: what was there

A budget is in a host register while code runs, so nobody else can take it away: hence slices. `instret` is INSTRET + GRANTED
less the budget left: so GRANTED is less, during a slice, by what the slice does not have.
"""

from __future__ import annotations

from trapline.machine.riscv import layout
from trapline.machine.riscv.jit import state as at

SLICE = 100_000  #: instructions: 15 to 200 us
_CLOCK_MONOTONIC = 1

_TEXT = """\
define void @run_among(ptr %cpu) nounwind strictfp {{
  %p.budget = getelementptr i8, ptr %cpu, i64 {budget}
  %p.granted = getelementptr i8, ptr %cpu, i64 {granted}
  %p.reason = getelementptr i8, ptr %cpu, i64 {reason}
  %p.kick = getelementptr i8, ptr %cpu, i64 {kick}
  %p.alarm = getelementptr i8, ptr %cpu, i64 {alarm}
  %all = load i64, ptr %p.budget
  br label %next
next:
  %left = phi i64 [ %all, %0 ], [ %total, %quiet ]
  %kicked = load atomic i64, ptr %p.kick acquire, align 8
  %calm = icmp eq i64 %kicked, 0
  br i1 %calm, label %on, label %look
on:
  %slice = call i64 @llvm.smin.i64(i64 %left, i64 {slice})
  %rest = sub i64 %left, %slice
  %granted = load i64, ptr %p.granted
  %less = sub i64 %granted, %rest
  store i64 %less, ptr %p.granted
  store i64 %slice, ptr %p.budget
  call void @run(ptr %cpu)
  %unused = load i64, ptr %p.budget
  %total = add i64 %unused, %rest
  store i64 %total, ptr %p.budget
  store i64 %granted, ptr %p.granted
  %reason = load i64, ptr %p.reason
  %spent = icmp eq i64 %reason, {spent}
  %more = icmp sgt i64 %total, 0
  %again = and i1 %spent, %more
  br i1 %again, label %between, label %out
between:
  %alarm = load i64, ptr %p.alarm
  %none = icmp eq i64 %alarm, 0
  br i1 %none, label %quiet, label %ask
ask:
  %now = call i64 @clock(ptr %cpu)
  %come = icmp uge i64 %now, %alarm
  br i1 %come, label %look, label %quiet
quiet:
  %p.yield = getelementptr i8, ptr %cpu, i64 {yield_}
  %yield = load ptr, ptr %p.yield
  %yielded = call i32 %yield()
  br label %next
look:
  store i64 {look}, ptr %p.reason
  ret void
out:
  ret void
}}
declare i64 @llvm.smin.i64(i64, i64)
define internal i64 @clock(ptr %cpu) nounwind noinline {{
  %p.get = getelementptr i8, ptr %cpu, i64 {clock}
  %p.s = getelementptr i8, ptr %cpu, i64 {timespec}
  %p.ns = getelementptr i8, ptr %p.s, i64 8
  %p.origin = getelementptr i8, ptr %cpu, i64 {origin}
  %get = load ptr, ptr %p.get
  %failed = call i32 %get(i32 {monotonic}, ptr %p.s)
  %s = load i64, ptr %p.s
  %ns = load i64, ptr %p.ns
  %origin = load i64, ptr %p.origin
  %whole = mul i64 %s, 1000000000
  %both = add i64 %whole, %ns
  %since = sub i64 %both, %origin
  ret i64 %since
}}
"""

_SWAP = """\
define i{bits} @swap_{size}(ptr %where, i{bits} %old, i{bits} %new) nounwind {{
  %pair = cmpxchg ptr %where, i{bits} %old, i{bits} %new seq_cst seq_cst, align {size}
  %found = extractvalue {{ i{bits}, i1 }} %pair, 0
  ret i{bits} %found
}}
"""


def routines() -> str:
    """The functions."""
    return _TEXT.format(
        budget=at.BUDGET_LEFT, granted=8 * layout.GRANTED, reason=at.REASON, kick=at.KICK, alarm=at.ALARM, slice=SLICE,
        spent=at.BUDGET, look=at.LOOK, clock=at.CLOCK, timespec=at.TIMESPEC, origin=at.CLOCK_ORIGIN, yield_=at.YIELD,
        monotonic=_CLOCK_MONOTONIC,
    ) + "".join(_SWAP.format(size=size, bits=8 * size) for size in (4, 8))  # fmt: skip
