"""RISC-V assembly as text, for programs that are longer than a few instructions: lines into a `Riscv`.

    code = assemble("start: li a0, 42\n       ecall\n", base=0x8000_0000)
    code.link(), code.labels["start"]

A line is `label:`, an instruction as objdump writes it, a usual short form of one (li, la, mv, j, call, ret, beqz, csrr, ...),
`.quad`, `.word`, `.byte`, `.space BYTES` or `.align BYTES`; `#` begins a comment. A number may be a sum, of `names` too.
`la` and `.quad` take a label, branches reach 4 KiB, jumps and `call` 1 MiB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from trapline.typed import NamedTuple

from trapline.labs.code.riscv import Riscv
from trapline.machine.riscv.csr import NUMBERS
from trapline.machine.riscv.disasm import F_NAMES, X_NAMES
from trapline.machine.riscv.isa.declare import Op
from trapline.machine.riscv.isa.decode import BY_NAME

X = {name: n for n, name in enumerate(X_NAMES)} | {f"x{n}": n for n in range(32)} | {"fp": 8}
_F = {name: n for n, name in enumerate(F_NAMES)} | {f"f{n}": n for n in range(32)}
_WORD = re.compile(r"[a-z]+\d?")
_TERM = re.compile(r"\s*([+-]?)\s*(\w+)")
_SIZES = {".quad": 8, ".word": 4, ".byte": 1}
_DYNAMIC = 7  #: rounding as fcsr says
#: short form -> what it stands for; $1 is its first operand
_SHORT = {
    "nop": "addi zero, zero, 0", "mv": "addi $1, $2, 0", "not": "xori $1, $2, -1", "neg": "sub $1, zero, $2",
    "seqz": "sltiu $1, $2, 1", "snez": "sltu $1, zero, $2", "j": "jal zero, $1", "jr": "jalr zero, 0($1)",
    "ret": "jalr zero, 0(ra)", "call": "jal ra, $1", "beqz": "beq $1, zero, $2", "bnez": "bne $1, zero, $2",
    "bltz": "blt $1, zero, $2", "bgez": "bge $1, zero, $2", "blez": "bge zero, $1, $2", "bgtz": "blt zero, $1, $2",
    "bgt": "blt $2, $1, $3", "ble": "bge $2, $1, $3", "bgtu": "bltu $2, $1, $3", "bleu": "bgeu $2, $1, $3",
    "csrr": "csrrs $1, $2, zero", "csrw": "csrrw zero, $1, $2", "csrs": "csrrs zero, $1, $2",
    "csrc": "csrrc zero, $1, $2", "csrwi": "csrrwi zero, $1, $2", "csrsi": "csrrsi zero, $1, $2",
    "csrci": "csrrci zero, $1, $2",
}  # fmt: skip
_BARE = {"fence": "iorw, iorw", "sfence.vma": "zero, zero", "hfence.gvma": "zero, zero", "hfence.vvma": "zero, zero"}


class AssemblyError(ValueError):
    """A line that cannot be assembled."""


class _Names(NamedTuple):
    """What a text may name."""

    numbers: Mapping[str, int]

    def value(self, text: str) -> int:
        """A sum."""
        total, at = 0, 0
        while at < len(text):
            match = _TERM.match(text, at)
            if match is None:
                raise ValueError(f"{text!r} is no number")
            term = match[2]
            value = int(term, 0) if term[0].isdigit() else self.numbers[term]
            total += -value if match[1] == "-" else value
            at = match.end()
        return total


def assemble(text: str, base: int, names: Mapping[str, int] | None = None) -> Riscv:
    """Code for address `base`; its `link` raises KeyError for a label that is nowhere. Raises AssemblyError."""
    code, known = Riscv(base), _Names(names or {})
    for number, line in enumerate(text.split("\n"), 1):
        rest = line.partition("#")[0].strip()
        try:
            while match := re.match(r"(\w+):\s*", rest):
                code.label(match[1])
                rest = rest[match.end() :]
            if rest:
                _line(code, rest, known)
        except (ValueError, KeyError, IndexError) as error:
            raise AssemblyError(f"line {number}: {line.strip()}: {error}") from None
    return code


def _line(code: Riscv, line: str, names: _Names) -> None:
    name, _, rest = line.partition(" ")
    operands = [each.strip() for each in rest.split(",")] if rest.strip() else []
    if name[0] == ".":
        _directive(code, name, operands, names)
    elif name == "li":
        code.li(X[operands[0]], names.value(operands[1]))
    elif name == "la":
        code.la(X[operands[0]], operands[1])
    elif name in _SHORT:
        _line(code, re.sub(r"\$(\d)", lambda match: operands[int(match[1]) - 1], _SHORT[name]), names)
    else:
        _instruction(code, name, ", ".join(operands) or _BARE.get(name, ""), names)


def _directive(code: Riscv, name: str, operands: list[str], names: _Names) -> None:
    size = _SIZES.get(name)
    if size is not None:
        for each in operands:
            if each[0].isalpha() and each not in names.numbers:
                code.at_label(each, size, lambda at, to, size=size: to.to_bytes(size, "little"))  # type: ignore[misc]
            else:
                code.raw((names.value(each) & (1 << 8 * size) - 1).to_bytes(size, "little"))
    elif name == ".space":
        code.raw(bytes(names.value(operands[0])))
    elif name == ".align":
        code.raw(bytes(-code.here % names.value(operands[0])))
    else:
        raise ValueError("no such directive")


def _instruction(code: Riscv, name: str, operands: str, names: _Names) -> None:
    order = re.search(r"\.(aqrl|aq|rl)$", name)
    op = BY_NAME[name.removesuffix(order[0]) if order else name]
    match = _pattern(op).fullmatch(operands)
    if match is None:
        raise ValueError(f"the operands are {op.operands or 'none'}")
    words = _WORD.findall(op.operands)
    fields = {"rm": _DYNAMIC} if "rm" in words else {}
    if order:
        fields |= {"aq": int("aq" in order[1]), "rl": int("rl" in order[1])}
    label = ""
    for word, text in zip(words, match.groups(), strict=True):
        if word == "target":
            label = text.strip()
        elif text:
            field, value = _operand(word, text.strip(), names)
            fields[field] = value
    if label:
        code.to(op.name, label, **fields)
    else:
        code.op(op.name, **fields)


@cache
def _pattern(op: Op) -> re.Pattern[str]:
    """What the operands of an instruction look like; rounding modes are left out."""
    pieces: list[str] = []
    for each in op.operands.split(", ") if op.operands else []:
        optional = each in ("rm", "exact", "rtz")
        piece = _WORD.sub(r"([^,()]+)", re.escape(each))
        pieces.append("()" if optional else (r",\s*" if pieces else "") + piece)
    return re.compile("".join(pieces))


def _operand(word: str, text: str, names: _Names) -> tuple[str, int]:
    """(the field, its value)"""
    if word in ("rd", "rs1", "rs2"):
        return word, X[text]
    if word[0] == "f" and word[1:] in ("d", "s1", "s2", "s3"):
        return "r" + word[1:], _F[text]
    if word == "csr":
        return word, NUMBERS[text] if text in NUMBERS else names.value(text)
    if word == "upper":
        return "imm", (names.value(text) << 12 & 0xFFFF_FFFF ^ 1 << 31) - (1 << 31)
    if word == "link":
        return "imm", X[text] - 1
    if word in ("pred", "succ"):
        return word, sum({"i": 8, "o": 4, "r": 2, "w": 1}[letter] for letter in text)
    return "imm", names.value(text)
