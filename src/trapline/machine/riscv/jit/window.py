"""Windows: what regions know of guest memory beyond single pages, so that most accesses need no look-up.

In a nutshell: consecutive pages that lie consecutively in RAM are one *run*: one number turns any of their addresses into the
host's. A window is the run that was accessed last from one place of the program (groups.py; the stack pointer has one for all
places): an access first compares its address with the window's bounds, and asks here when it is outside.

    length   bytes from `low` on, less seven: where an access of up to eight bytes may start; 0 for an empty window
    low      virtual address of its start
    host     what to add to a virtual address to get the host's

They belong to a context (machine/riscv/layout.py), as the translation arrays do:

    window_read(context, ram, address, bytes, index)   see `window`; and window_write
    windows_reset(context)                             empty windows and runs, and say that they are of use

Invariants:
- windows of loads hold readable pages, those of stores writable ones, and none is used for both;
- a window holds only pages that were in the context's array of readable (writable) pages since something was last taken out of
  it: whoever takes something out sets the context's word `known` to 0, and a region that finds it so empties all windows first;
- a place that wanders between runs gets its window moved only every fourth time: that costs a look-up and little more.
"""

from __future__ import annotations

from trapline.machine.riscv import layout
from trapline.machine.riscv.jit import state as at

LENGTH, LOW, HOST, MISSES = (8 * (layout.WINDOWS + n * layout.WINDOW_COUNT) for n in range(4))
KNOWN = 8 * layout.KNOWN
NONE = 1  #: instead of what leads to the host's address: there is nothing
CALL = "call preserve_mostcc"
_RUN_BYTES = 24  #: { low, bytes, host }
_RUNS_OF_KIND = layout.RUN_COUNT * _RUN_BYTES
_RUNS = 8 * layout.RUNS  #: those of readable pages, then those of writable ones
_NEXT_RUN = _RUNS + 2 * _RUNS_OF_KIND  #: of each kind, which one makes room next
_SCAN = 64  #: pages that are looked at in each direction for how far a run goes


_PARAMETERS = "ptr %context, ptr %ram, i64 %address, i64 %bytes, i64 %index"
_HEADER = "define preserve_mostcc {} nounwind strictfp noinline cold {{"

_FIND = """\
  %number = lshr i64 %address, 8
  %slot = and i64 %number, {slots}
  %array = getelementptr i8, ptr %context, i64 {array}
  %entry = getelementptr i8, ptr %array, i64 %slot
  %half = getelementptr i8, ptr %entry, i64 8
  %page = and i64 %address, -4096
  %tag = load i64, ptr %entry
  %hit = icmp eq i64 %tag, %page
  br i1 %hit, label %found, label %never
never:
  ret i64 {none}
found:
  %offset = load i64, ptr %half
  %start = ptrtoint ptr %ram to i64
  %host = add i64 %start, %offset
"""

_SHORT = """\
  %p.window = getelementptr i64, ptr %context, i64 %index
  %p.misses = getelementptr i8, ptr %p.window, i64 {misses}
  %misses = load i64, ptr %p.misses
  %missed = add i64 %misses, 1
  store i64 %missed, ptr %p.misses
  %turn = and i64 %missed, 3
  %due = icmp eq i64 %turn, 0
  %p.now = getelementptr i8, ptr %p.window, i64 {length}
  %now = load i64, ptr %p.now
  %empty = icmp eq i64 %now, 0
  %in.page = and i64 %address, 4095
  %end = add i64 %in.page, %bytes
  %beyond = icmp ugt i64 %end, 4096
  %useless = or i1 %empty, %beyond
  %move = or i1 %due, %useless
  br i1 %move, label %long, label %this.page
this.page:
  ret i64 %host
long:
  %moved = tail call preserve_mostcc i64 @move_{kind}(ptr %context, ptr %ram, i64 %address, i64 %bytes, i64 %index)
  ret i64 %moved
}}
"""

_SEARCH = """\
  br label %search
search:
  %runs = getelementptr i8, ptr %context, i64 {runs}
  br label %look
look:
  %n = phi i64 [ 0, %search ], [ %n.next, %other ]
  %n.offset = mul i64 %n, {run_bytes}
  %run = getelementptr i8, ptr %runs, i64 %n.offset
  %p.run.bytes = getelementptr i8, ptr %run, i64 8
  %p.run.host = getelementptr i8, ptr %run, i64 16
  %run.low = load i64, ptr %run
  %run.bytes = load i64, ptr %p.run.bytes
  %run.host = load i64, ptr %p.run.host
  %distance = sub i64 %address, %run.low
  %inside = icmp ult i64 %distance, %run.bytes
  %same = icmp eq i64 %run.host, %host
  %known = and i1 %inside, %same
  br i1 %known, label %set, label %other
other:
  %n.next = add i64 %n, 1
  %last = icmp eq i64 %n.next, {run_count}
  br i1 %last, label %scan, label %look
"""

_SCAN_FROM = """\
{name}:
  %{name}.page = phi i64 [ %page, %{before} ], [ %{name}.next, %{name}.go ]
  %{name}.count = phi i64 [ 0, %{before} ], [ %{name}.counted, %{name}.go ]
  %{name}.next = add i64 %{name}.page, {step}
  %{name}.counted = add i64 %{name}.count, 1
  %{name}.number = lshr i64 %{name}.next, 8
  %{name}.slot = and i64 %{name}.number, {slots}
  %{name}.entry = getelementptr i8, ptr %array, i64 %{name}.slot
  %{name}.half = getelementptr i8, ptr %{name}.entry, i64 8
  %{name}.tag = load i64, ptr %{name}.entry
  %{name}.offset = load i64, ptr %{name}.half
  %{name}.present = icmp eq i64 %{name}.tag, %{name}.next
  %{name}.same = icmp eq i64 %{name}.offset, %offset
  %{name}.both = and i1 %{name}.present, %{name}.same
  %{name}.few = icmp ult i64 %{name}.count, {scan}
  %{name}.more = and i1 %{name}.both, %{name}.few
  br i1 %{name}.more, label %{name}.go, label %{after}
{name}.go:
  br label %{name}
"""

_REMEMBER = """\
remember:
  %end = add i64 %up.page, 4096
  %new.bytes = sub i64 %end, %down.page
  %p.next = getelementptr i8, ptr %context, i64 {next_run}
  %next = load i64, ptr %p.next
  %after = add i64 %next, 1
  store i64 %after, ptr %p.next
  %turn.n = and i64 %next, {run_mask}
  %new.offset = mul i64 %turn.n, {run_bytes}
  %new = getelementptr i8, ptr %runs, i64 %new.offset
  %p.new.bytes = getelementptr i8, ptr %new, i64 8
  %p.new.host = getelementptr i8, ptr %new, i64 16
  store i64 %down.page, ptr %new
  store i64 %new.bytes, ptr %p.new.bytes
  store i64 %host, ptr %p.new.host
  br label %set
set:
  %window.low = phi i64 [ %run.low, %look ], [ %down.page, %remember ]
  %window.bytes = phi i64 [ %run.bytes, %look ], [ %new.bytes, %remember ]
  %p.length = getelementptr i64, ptr %context, i64 %index
  %p.window.length = getelementptr i8, ptr %p.length, i64 {length}
  %p.window.low = getelementptr i8, ptr %p.length, i64 {low}
  %p.window.host = getelementptr i8, ptr %p.length, i64 {window_host}
  %window.length = sub i64 %window.bytes, 7
  store i64 %window.length, ptr %p.window.length
  store i64 %window.low, ptr %p.window.low
  store i64 %host, ptr %p.window.host
  %from = sub i64 %address, %window.low
  %to = add i64 %from, %bytes
  %fits = icmp ule i64 %to, %window.bytes
  %result = select i1 %fits, i64 %host, i64 {none}
  ret i64 %result
}}
"""


def window(*, write: bool) -> str:
    """The function that looks up `bytes` bytes from `address` on, and moves window `index` there.

    What to add for the host's address; NONE if they are not in one run, or the page is not in the array.
    """
    kind = "write" if write else "read"
    slots = (at.TLB_PAGES - 1) << 4
    find = _FIND.format(slots=slots, array=at.WRITE if write else at.READ, none=NONE)
    text = _HEADER.format(f"i64 @window_{kind}({_PARAMETERS})") + "\n" + find
    text += _SHORT.format(misses=MISSES, length=LENGTH, kind=kind)
    text += _HEADER.format(f"i64 @move_{kind}({_PARAMETERS})") + "\n" + find
    text += _SEARCH.format(runs=_RUNS + _RUNS_OF_KIND * write, run_bytes=_RUN_BYTES, run_count=layout.RUN_COUNT)
    text += "scan:\n  br label %up\n"
    text += _SCAN_FROM.format(name="up", before="scan", after="turn.round", step=4096, slots=slots, scan=_SCAN)
    text += "turn.round:\n  br label %down\n"
    text += _SCAN_FROM.format(name="down", before="turn.round", after="remember", step=-4096, slots=slots, scan=_SCAN)
    return text + _REMEMBER.format(
        next_run=_NEXT_RUN + 8 * write, run_mask=layout.RUN_COUNT - 1, run_bytes=_RUN_BYTES, none=NONE, length=LENGTH,
        low=LOW, window_host=HOST,
    )  # fmt: skip


def reset() -> str:
    """The function that empties a context's windows and runs, and says that they are of use."""
    lines = [_HEADER.format("void @windows_reset(ptr %context)")]
    for n in range(layout.WINDOW_COUNT // 8):
        lines.append(f"  %w{n} = getelementptr i8, ptr %context, i64 {LENGTH + 64 * n}")
        lines.append(f"  store <8 x i64> zeroinitializer, ptr %w{n}, align 8")
    for n in range(2 * layout.RUN_COUNT):
        lines.append(f"  %r{n} = getelementptr i8, ptr %context, i64 {_RUNS + n * _RUN_BYTES + 8}")
        lines.append(f"  store i64 0, ptr %r{n}")
    lines.append(f"  %known = getelementptr i8, ptr %context, i64 {KNOWN}")
    return "\n".join([*lines, "  store i64 1, ptr %known", "  ret void", "}", ""])
