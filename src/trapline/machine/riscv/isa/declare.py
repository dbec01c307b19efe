"""How an instruction is declared, and what a declaration becomes: an `Op` in the one list of all instructions.

    op = extension("I")

    @op("imm[11:0] rs1 011 rd 0000011", "rd, imm(rs1)")
    def ld(m: Vocabulary, i: Instruction) -> None:
        m.w(i.rd, m.load(m.x(i.rs1) + i.imm, 8, signed=True))

The encoding is written as the manual's tables have it, from the most significant bit: bits in binary; registers `rd rs1
rs2 rs3` (with a prime: three bits, x8 to x15; `rd/rs1`: one field, both operands); immediates `imm[...]` (signed),
`uimm[...]` (unsigned), each with the bits of the immediate that the field holds; `rm csr aq rl fm pred succ` by their names.
A leading `nz` says that the whole operand must not be zero. The
second text is the assembly operands (f-registers are `fd fs1 fs2 fs3`).

Invariants:
- masks and matches of two ops of one length may overlap only where one is more specific: the decoder tries that one first;
- a body is plain Python over the values of `Vocabulary`; it may branch on the fields of `i`, never on a value.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from trapline.typed import Any, NamedTuple

Body = Callable[[Any, "Instruction"], None]

_WIDTHS = {"rd": 5, "rs1": 5, "rs2": 5, "rs3": 5, "rm": 3, "csr": 12, "aq": 1, "rl": 1, "fm": 4, "pred": 4, "succ": 4}


class Field(NamedTuple):
    """One operand of an encoding: value = sum of (raw >> source & mask) << target, then sign extension and bias."""

    name: str
    pieces: tuple[tuple[int, int, int], ...]  #: (source bit, mask, target bit)
    sign_bit: int  #: value of the sign bit, 0 for unsigned operands
    bias: int  #: 8 for the three-bit register fields
    nonzero: bool

    def get(self, raw: int) -> int:
        value = 0
        for source, mask, target in self.pieces:
            value |= (raw >> source & mask) << target
        return (value ^ self.sign_bit) - self.sign_bit + self.bias

    def put(self, value: int) -> int:
        """The bits of the encoding that hold `value`; raises ValueError if it does not fit."""
        raw = 0
        for source, mask, target in self.pieces:
            raw |= (value - self.bias >> target & mask) << source
        if self.get(raw) != value:
            raise ValueError(f"{self.name} = {value} does not fit")
        return raw


class Op:
    """One instruction as declared; `name` is its mnemonic."""

    __slots__ = (
        "body", "encoding", "extension", "fields", "fp", "implied", "length", "mask", "match", "name", "operands", "system",
    )  # fmt: skip

    def __init__(
        self, name: str, encoding: str, operands: str, extension: str, body: Body, length: int, mask: int, match: int,
        fields: tuple[Field, ...], *, fp: bool = False, system: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.encoding, self.operands, self.extension, self.body = name, encoding, operands, extension, body
        self.length, self.mask, self.match, self.fields = length, mask, match, fields
        self.fp = fp  #: needs mstatus.FS to be on
        self.system = system  #: the hart's business: ends a block, and only the reference tier need know its body
        self.implied: dict[str, int] = {}  #: operands that the encoding does not name

    @property
    def text(self) -> str:
        """What the instruction does, in words: the first line of its body's docstring, or nothing."""
        return (self.body.__doc__ or "").strip().split("\n")[0]


class Instruction:
    """One decoded instruction. Operands that its encoding lacks are zero."""

    __slots__ = (
        "aq", "body", "csr", "fm", "imm", "length", "op", "pred", "raw", "rd", "rl", "rm", "rs1", "rs2", "rs3", "succ",
    )  # fmt: skip

    op: Op
    body: Body
    raw: int
    length: int
    rd: int
    rs1: int
    rs2: int
    rs3: int
    imm: int
    rm: int
    csr: int
    aq: int
    rl: int
    fm: int
    pred: int
    succ: int

    def __init__(self, op: Op, raw: int) -> None:
        self.op, self.body, self.raw, self.length = op, op.body, raw, op.length
        self.rd = self.rs1 = self.rs2 = self.rs3 = self.imm = self.rm = self.csr = 0
        self.aq = self.rl = self.fm = self.pred = self.succ = 0
        for name, value in op.implied.items():
            setattr(self, name, value)
        for each in op.fields:
            setattr(self, each.name, each.get(raw))


OPS: list[Op] = []  #: every instruction, in the order of declaration


def extension(
    name: str, *, fp: bool = False, system: bool = False
) -> Callable[..., Callable[[Body], Body]]:
    """The decorator that declares the instructions of one extension."""

    def op(encoding: str, operands: str = "", *, mnemonic: str = "") -> Callable[[Body], Body]:
        def declare(body: Body) -> Body:
            called = mnemonic or body.__name__.rstrip("_").replace("_", ".")
            OPS.append(parse(called, encoding, operands, name, body, fp=fp, system=system))
            return body

        return declare

    return op


def compressed(
    mnemonic: str, encoding: str, base: Body, operands: str = "", extension: str = "C", **implied: int
) -> None:
    """Declare a 16-bit instruction: another way to write `base`, some operands of which are implied."""
    of = next(op for op in OPS if op.body is base)
    op = parse(mnemonic, encoding, operands, extension, base, fp=of.fp, system=of.system)
    op.implied = implied
    OPS.append(op)


def parse(
    name: str, encoding: str, operands: str, extension: str, body: Body, *, fp: bool = False, system: bool = False
) -> Op:
    mask = match = 0
    at = 16 if len(encoding.split()) and encoding.split()[-1] in ("00", "01", "10") else 32
    length = at // 8
    found: dict[str, Field] = {}
    for token in encoding.split():
        if not token.strip("01"):
            at -= len(token)
            mask |= ((1 << len(token)) - 1) << at
            match |= int(token, 2) << at
        else:
            fields, at = _operands(token, at)
            for each in fields:
                found[each.name] = _merged(found.get(each.name), each)
    if at:
        raise ValueError(f"{name}: {at} bits of {encoding!r} are left")
    return Op(name, encoding, operands, extension, body, length, mask, match, tuple(found.values()), fp=fp, system=system)


@cache
def _operands(token: str, at: int) -> tuple[tuple[Field, ...], int]:
    """The operands that end below bit `at`, as far as this token says, and where the next one ends."""
    nonzero = token.startswith("nz")
    kind, bracket, slices = token.removeprefix("nz").partition("[")
    if bracket:
        if kind not in ("imm", "uimm") or not slices.endswith("]"):
            raise ValueError(f"no operand: {token}")
        pieces = []
        for piece in slices[:-1].split("|"):
            high, _, low = piece.partition(":")
            width = int(high) - int(low or high) + 1
            at -= width
            pieces.append((at, (1 << width) - 1, int(low or high)))
        return (_immediate(tuple(pieces), signed=kind == "imm", nonzero=nonzero),), at
    fields = []
    width = 0
    for name in token.removeprefix("nz").split("/"):
        primed = name.endswith("'")
        plain = name.rstrip("'")
        width = 3 if primed else _WIDTHS[plain]
        place = (at - width, (1 << width) - 1, 0)
        fields.append(Field(plain, (place,), 0, 8 if primed else 0, nonzero))
    return tuple(fields), at - width


def _immediate(pieces: tuple[tuple[int, int, int], ...], *, signed: bool, nonzero: bool) -> Field:
    top = max(target + mask.bit_length() for _, mask, target in pieces)
    return Field("imm", pieces, 1 << (top - 1) if signed else 0, 0, nonzero)


def _merged(first: Field | None, more: Field) -> Field:
    """An operand of which another token may have given other bits."""
    if first is None or more.name != "imm":
        return more
    return _immediate(first.pieces + more.pieces, signed=bool(more.sign_bit), nonzero=first.nonzero or more.nonzero)
