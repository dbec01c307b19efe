"""The native decoder: from an instruction's bits to its record, generated from the encodings.

`decode(raw, record)` switches on the bits that tell most (opcode and funct3), tries the few candidates left, the most specific
first, and fills the record in. What is no instruction gets the handler that steps: the reference tier raises the exception.
"""

from __future__ import annotations

from trapline.machine.riscv.isa import decode as reference
from trapline.machine.riscv.isa.declare import OPS, Field, Op
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.text import OWN, Code, Value

_OFFSETS = {"imm": 8, "csr": 8, "rd": 12, "rs1": 13, "rs2": 14}  # beside a csr, imm is where rs1 would be


def writes_x(op: Op) -> bool:
    """Whether rd names an integer register, so that 0 must become the dummy."""
    shown = op.operands.split(",")[0].strip()
    return any(each.name == "rd" for each in op.fields) and shown == "rd"


def decoder() -> str:
    code = Code()
    raw = Value(code, "%raw")
    code.lines.append("entry:")
    wide, narrow, nothing = code.label(), code.label(), code.label()
    is_wide = code.let(f"icmp eq i64 {code.binary('and', raw, 3).name}, 3")
    code.line(f"br i1 {is_wide}, label %{wide}, label %{narrow}")
    code.place(wide)
    key = code.binary("or", code.binary("and", raw, 0x7F), code.binary("and", code.binary("lshr", raw, 5), 0x380))
    _switch(code, key, {(k & 0x7F) | (k >> 5 & 0x380): reference.candidates(k) for k in _keys(reference.KEY_32, 4)}, nothing)
    code.place(narrow)
    key = code.binary("or", code.binary("and", raw, 3), code.binary("and", code.binary("lshr", raw, 11), 0x1C))
    _switch(code, key, {(k & 3) | (k >> 11 & 0x1C): reference.candidates(k) for k in _keys(reference.KEY_16, 2)}, nothing)
    code.place(nothing)
    code.line(f"store ptr @leave_step, ptr %record{OWN}")
    code.line("ret void")
    return code.function("define internal void @decode(i64 %raw, ptr %record) nounwind noinline")


def _keys(mask: int, length: int) -> list[int]:
    """Every value of the bits that choose the candidates of an instruction of so many bytes."""
    keys = [0]
    for bit in range(16):
        if mask >> bit & 1:
            keys += [key | 1 << bit for key in keys]
    return [key for key in keys if reference.length(key) == length]


def _switch(code: Code, key: Value, lists: dict[int, tuple[Op, ...]], nothing: str) -> None:
    """Jump by the key to the test of its candidates; keys with the same candidates share one."""
    labels: dict[tuple[Op, ...] | tuple[str, ...], str] = {}
    cases: list[str] = []
    names: dict[tuple[str, ...], tuple[Op, ...]] = {}
    for value, ops in sorted(lists.items()):
        ident = tuple(str(OPS.index(op)) for op in ops)
        if not ident:
            continue
        if ident not in labels:
            labels[ident], names[ident] = code.label(), ops
        cases.append(f"i64 {value}, label %{labels[ident]}")
    code.line(f"switch i64 {key.name}, label %{nothing} [ {' '.join(cases)} ]")
    for ident, ops in names.items():
        code.place(labels[ident])
        for op in ops:
            _candidate(code, op)
        code.line(f"br label %{nothing}")


def _candidate(code: Code, op: Op) -> None:
    """If the bits are this op's, fill the record in and return; else fall through."""
    raw = Value(code, "%raw")
    matches = code.let(f"icmp eq i64 {code.binary('and', raw, op.mask).name}, {op.match}")
    for each in op.fields:
        if each.nonzero:
            matches = code.let(f"and i1 {matches}, {code.let(f'icmp ne i64 {_operand(code, each).name}, 0')}")
    yes, no = code.label(), code.label()
    code.line(f"br i1 {matches}, label %{yes}, label %{no}")
    code.place(yes)
    fields = {each.name: each for each in op.fields}
    for name, offset in _OFFSETS.items():
        if name in fields:
            if name == "imm" and "csr" in fields:
                offset = _OFFSETS["rs1"]
            value = _operand(code, fields[name])
            if name == "rd" and writes_x(op):
                value = code.value(f"select i1 {code.let(f'icmp eq i64 {value.name}, 0')}, i64 {at.DUMMY}, i64 {value.name}")
            _put(code, offset, value, 32 if offset == 8 else 8)
    if "rs3" in fields or "rm" in fields:
        third = _operand(code, fields["rs3"]) if "rs3" in fields else Value(code, "0")
        mode = _operand(code, fields["rm"]) if "rm" in fields else Value(code, "0")
        _put(code, 15, code.binary("or", third, code.binary("shl", mode, 5)), 8)
    code.line(f"store ptr @op_{OPS.index(op)}, ptr %record{OWN}")
    code.line("ret void")
    code.place(no)


def _put(code: Code, offset: int, value: Value, bits: int) -> None:
    narrow = code.let(f"trunc i64 {value.name} to i{bits}")
    pointer = code.let(f"getelementptr i8, ptr %record, i64 {offset}")
    code.line(f"store i{bits} {narrow}, ptr {pointer}{OWN}")


def _operand(code: Code, field: Field) -> Value:
    """`Field.get`, as instructions."""
    value: Value | None = None
    for source, mask, target in field.pieces:
        piece = code.binary("and", code.binary("lshr", Value(code, "%raw"), source), mask)
        piece = code.binary("shl", piece, target) if target else piece
        value = piece if value is None else code.binary("or", value, piece)
    assert value is not None
    if field.sign_bit:
        value = code.binary("sub", code.binary("xor", value, field.sign_bit), field.sign_bit)
    return code.binary("add", value, field.bias) if field.bias else value
