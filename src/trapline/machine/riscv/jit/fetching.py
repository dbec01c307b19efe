"""From one instruction to the next, native: jumps, pages of code that must be found first, instructions not decoded yet.

    goto, enter     execute from the virtual address in %ip on; goto: a jump led there, and is counted
    map_jump, map   the same, where the array of code has no entry for the page: a walk, then the table of code pages
    undecoded       the handler of a record that nobody has decoded
    split           the handler of the instruction that begins in a page's last half-word
    page_end        the handler of the records behind a page's last

Invariant: an entry of the array of code leads to a code page that was decoded from what is in the guest's page now.
"""

from __future__ import annotations

from trapline.machine.contract import EXEC
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.emit import context
from trapline.machine.riscv.jit.refill import ask, choose, trap
from trapline.machine.riscv.jit.text import (
    ATTRIBUTES,
    HANDLER,
    LIKELY,
    OWN,
    PARAMETERS,
    UNLIKELY,
    Code,
    Operand,
    Value,
    dispatch,
    tail,
    text,
)
from trapline.machine.riscv.trap import CAUSES, PAGE


def pc_of(code: Code, ip: str) -> Value:
    return code.value(f"add i64 {code.let(f'lshr i64 {ip}, 3')}, %delta")


def transfer(code: Code, target: Operand, pc: Operand, budget: str) -> None:
    """Jump to `target`: within the page at once, else through `goto`."""
    crossed = code.binary("lshr", code.binary("xor", target, pc), 12)
    near, far = code.label(), code.label()
    code.line(f"br i1 {code.let(f'icmp eq i64 {crossed.name}, 0')}, label %{near}, label %{far}{LIKELY}")
    code.place(far)
    tail(code, "@goto", text(target), budget)
    code.place(near)
    ip = code.binary("shl", code.binary("sub", target, Value(code, "%delta")), 3)
    _arrive(code, ip, budget, "%delta")


def _arrive(code: Code, ip: Value, budget: str, delta: str) -> None:
    """Execute the record at `ip`, which a jump led to; see to it that it is translated when it has become warm, or hot."""
    offset = code.binary("and", code.binary("lshr", ip, 2), 0x1FFC)
    page = code.binary("and", ip, -at.PAGE_BYTES)
    counter = code.pointer(code.binary("add", code.binary("add", page, offset), at.COUNTERS))
    count = code.let(f"add i32 {code.let(f'load i32, ptr {counter}{OWN}')}, 1")
    code.line(f"store i32 {count}, ptr {counter}{OWN}")
    for word, where in ((at.WARM_JUMPS, "bake"), (at.HOT_JUMPS, "leave_hot")):
        reached, go = code.label(), code.label()
        threshold = code.let(f"load i32, ptr {code.let(f'getelementptr i8, ptr %cpu, i64 {word}')}{OWN}")
        code.line(f"br i1 {code.let(f'icmp eq i32 {count}, {threshold}')}, label %{reached}, label %{go}{UNLIKELY}")
        code.place(reached)
        tail(code, f"@{where}", ip.name, budget, delta)
        code.place(go)
    dispatch(code, ip.name, budget, delta)


def _goto(name: str, *, jump: bool) -> str:
    """Execute from the virtual address in %ip on, whatever page it is in; jump: it was a jump that led there."""
    code = Code()
    pc = Value(code, "%ip")
    page = code.binary("and", pc, -4096)
    index = code.binary("and", code.binary("lshr", pc, 8), (at.TLB_PAGES - 1) << 4)
    entry = code.let(f"getelementptr i8, ptr {context(code)}, i64 {code.binary('add', index, at.CODE).name}")
    tag = code.let(f"load i64, ptr {entry}{OWN}")
    hit, miss = code.label(), code.label()
    code.line(f"br i1 {code.let(f'icmp eq i64 {tag}, {page.name}')}, label %{hit}, label %{miss}{LIKELY}")
    code.place(miss)
    tail(code, "@map_jump" if jump else "@map")
    code.place(hit)
    half = code.let(f"getelementptr i8, ptr {entry}, i64 8")
    base = code.value(f"load i64, ptr {half}{OWN}")
    delta = code.binary("sub", page, code.binary("lshr", base, 3))
    ip = code.binary("add", base, code.binary("shl", code.binary("and", pc, 4095), 3))
    if jump:
        _arrive(code, ip, "%budget", delta.name)
    else:
        dispatch(code, ip.name, "%budget", delta.name)
    return code.function(f"{HANDLER} @{name}({PARAMETERS}) {ATTRIBUTES}")


def _map(name: str, goto: str) -> str:
    """Map the page of the virtual address in %ip for execution, then go there: if its code page is known, and still right."""
    code = Code()
    code.lines.append("entry:")
    spent, go = code.label(), code.label()
    code.line(f"br i1 {code.let('icmp sgt i64 %budget, 0')}, label %{go}, label %{spent}")
    code.place(spent)
    tail(code, "@leave_budget_at")
    code.place(go)
    pc = Value(code, "%ip")
    fault = _enter_code(code, pc, goto, "@leave_fetch")
    code.place(fault)
    trap(code, pc, CAUSES[EXEC, PAGE], pc)
    return code.function(f"{HANDLER} @{name}({PARAMETERS}) {ATTRIBUTES} noinline cold")


def _map_beyond() -> str:
    """Map the page behind the one of %ip, then execute the instruction there that goes on in it."""
    code = Code()
    code.lines.append("entry:")
    fault = _enter_code(code, code.binary("add", pc_of(code, "%ip"), 2), "@split", "@leave_step")
    code.place(fault)
    tail(code, "@leave_step")
    return code.function(f"{HANDLER} @map_beyond({PARAMETERS}) {ATTRIBUTES} noinline cold")


def _enter_code(code: Code, pc: Value, then: str, otherwise: str) -> str:
    """Make the entry of the page of `pc` in the array of code and end at the handler `then`; if it has no code page that is
    right, at `otherwise`. The label of a page fault is still to be placed.
    """
    found, offset, shift = ask(code, pc, EXEC)
    here, fault, give_up = choose(code, found)
    code.place(here)
    table = code.let(f"load ptr, ptr {code.let(f'getelementptr i8, ptr %cpu, i64 {at.CODE_TABLE}')}{OWN}")
    word = code.let(f"getelementptr i64, ptr {table}, i64 {code.binary('lshr', offset, 12).name}")
    base = code.value(f"load i64, ptr {word}{OWN}")
    known, right = code.label(), code.label()
    code.line(f"br i1 {code.let(f'icmp ne i64 {base.name}, 0')}, label %{known}, label %{give_up}")
    code.place(known)
    same = code.let(f"call i1 @same_code(ptr %ram, i64 {offset.name}, i64 {base.name})")
    code.line(f"br i1 {same}, label %{right}, label %{give_up}{LIKELY}")
    code.place(right)
    page = pc & -4096
    code.line(f"call void @fill(ptr %cpu, i64 {at.CODE}, i64 {page.name}, i64 {base.name}, i64 {shift.name})")
    tail(code, then)
    code.place(give_up)
    tail(code, otherwise)
    return fault


#: Whether a guest page, at an offset in RAM, still is what its code page was decoded from.
_SAME_CODE = """\
define internal i1 @same_code(ptr %ram, i64 %offset, i64 %base) nounwind noinline {{
  %page = getelementptr i8, ptr %ram, i64 %offset
  %code = inttoptr i64 %base to ptr
  %p.source = getelementptr i8, ptr %code, i64 {source}
  %copy = load ptr, ptr %p.source
  br label %each
each:
  %i = phi i64 [ 0, %0 ], [ %i.next, %next ]
  %p.a = getelementptr i8, ptr %page, i64 %i
  %p.b = getelementptr i8, ptr %copy, i64 %i
  %a = load <16 x i64>, ptr %p.a, align 8
  %b = load <16 x i64>, ptr %p.b, align 8
  %x = xor <16 x i64> %a, %b
  %any = call i64 @llvm.vector.reduce.or.v16i64(<16 x i64> %x)
  %same = icmp eq i64 %any, 0
  br i1 %same, label %next, label %done
next:
  %i.next = add i64 %i, 128
  %more = icmp ult i64 %i.next, 4096
  br i1 %more, label %each, label %done
done:
  %answer = phi i1 [ false, %each ], [ true, %next ]
  ret i1 %answer
}}
declare i64 @llvm.vector.reduce.or.v16i64(<16 x i64>)
"""


def _page_end() -> str:
    """The record beyond a page: go on in the next one."""
    code = Code()
    tail(code, "@enter", pc_of(code, "%ip").name)
    return code.function(f"{HANDLER} @page_end({PARAMETERS}) {ATTRIBUTES}")


def _undecoded() -> str:
    """Decode the instruction at this record, then execute it."""
    code = Code()
    ip = Value(code, "%ip")
    page = code.binary("and", ip, -at.PAGE_BYTES)
    source = code.value(f"load i64, ptr {code.pointer(code.binary('add', page, at.SOURCE))}{OWN}")
    offset = code.binary("and", code.binary("lshr", ip, 3), 4095)
    pointer = code.pointer(source + offset)
    low = code.value(f"zext i16 {code.let(f'load i16, ptr {pointer}, align 2')} to i64")
    long = code.let(f"icmp eq i64 {code.binary('and', low, 3).name}, 3")
    last = code.let(f"icmp eq i64 {offset.name}, {at.LAST}")
    split, check, wide, known = (code.label() for _ in range(4))
    code.line(f"br i1 {long}, label %{check}, label %{known}")
    code.place(check)
    code.line(f"br i1 {last}, label %{split}, label %{wide}{UNLIKELY}")
    code.place(split)
    code.line(f"store ptr @split, ptr {code.pointer(ip)}{OWN}")
    tail(code, "@split")
    code.place(wide)
    raw32 = code.let(f"zext i32 {code.let(f'load i32, ptr {pointer}, align 2')} to i64")
    code.line(f"br label %{known}")
    code.place(known)
    raw = code.let(f"phi i64 [ {low.name}, %entry ], [ {raw32}, %{wide} ]")
    code.line(f"call void @decode(i64 {raw}, ptr {code.pointer(ip)})")
    dispatch(code, "%ip", "%budget")
    code.lines.insert(0, "entry:")
    return code.function(f"{HANDLER} @undecoded({PARAMETERS}) {ATTRIBUTES}")


def _split() -> str:
    """Execute the instruction that begins in a page's last half-word, with the half-word that comes next now.

    What comes next depends on what is mapped there. So the record keeps this handler, and remembers what it decoded last.
    """
    code = Code()
    code.lines.append("entry:")
    ip = Value(code, "%ip")
    beyond = code.binary("add", pc_of(code, "%ip"), 2)
    number = code.binary("and", code.binary("lshr", beyond, 8), (at.TLB_PAGES - 1) << 4)
    entry = code.let(f"getelementptr i8, ptr {context(code)}, i64 {code.binary('add', number, at.CODE).name}")
    tag = code.let(f"load i64, ptr {entry}{OWN}")
    mapped, miss, same, decode = (code.label() for _ in range(4))
    code.line(f"br i1 {code.let(f'icmp eq i64 {tag}, {beyond.name}')}, label %{mapped}, label %{miss}{LIKELY}")
    code.place(miss)
    tail(code, "@map_beyond")
    code.place(mapped)
    next_base = code.value(f"load i64, ptr {code.let(f'getelementptr i8, ptr {entry}, i64 8')}{OWN}")
    page = code.binary("and", ip, -at.PAGE_BYTES)
    halves = []
    for base, offset in ((page, at.LAST), (next_base, 0)):
        source = code.value(f"load i64, ptr {code.pointer(base + at.SOURCE)}{OWN}")
        pointer = code.pointer(source + offset)
        halves.append(code.value(f"zext i16 {code.let(f'load i16, ptr {pointer}, align 2')} to i64"))
    raw = halves[0] | code.binary("shl", halves[1], 16)
    bits, real = code.pointer(page + at.SPLIT_BITS), code.pointer(page + at.SPLIT_HANDLER)
    known = code.let(f"load i64, ptr {bits}{OWN}")
    code.line(f"br i1 {code.let(f'icmp eq i64 {known}, {raw.name}')}, label %{same}, label %{decode}{LIKELY}")
    code.place(decode)
    record = code.pointer(ip)
    code.line(f"call void @decode(i64 {raw.name}, ptr {record})")
    handler = code.let(f"load ptr, ptr {record}{OWN}")
    code.line(f"store ptr {handler}, ptr {real}{OWN}")
    code.line(f"store i64 {raw.name}, ptr {bits}{OWN}")
    code.line(f"store ptr @split, ptr {record}{OWN}")
    code.line(f"br label %{same}")
    code.place(same)
    tail(code, code.let(f"load ptr, ptr {real}{OWN}"))
    return code.function(f"{HANDLER} @split({PARAMETERS}) {ATTRIBUTES} noinline cold")


def handlers_of_fetching() -> list[str]:
    """All of them."""
    return [
        _goto("goto", jump=True), _goto("enter", jump=False), _map("map_jump", "@goto"), _map("map", "@enter"),
        _SAME_CODE.format(source=at.SOURCE), _map_beyond(), _page_end(), _undecoded(), _split(),
    ]  # fmt: skip
