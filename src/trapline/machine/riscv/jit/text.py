"""LLVM text, line by line: a module of functions, and the values that the instruction bodies compute with.

Text rather than a builder library: it parses in a millisecond, it can be read, and it is the compiler's cache key.
"""

from __future__ import annotations

from trapline.typed import Any, TypeAlias

MASK64 = (1 << 64) - 1
LIKELY, UNLIKELY = ", !prof !1", ", !prof !2"
#: The two kinds of memory that never overlap: the machine's own (CPU struct, TLBs, records), and the guest's RAM.
OWN, GUEST = ", !tbaa !4", ", !tbaa !5"
METADATA = """\
!1 = !{!"branch_weights", i32 2000, i32 1}
!2 = !{!"branch_weights", i32 1, i32 2000}
!3 = !{!"trapline"}
!6 = !{!"own", !3}
!7 = !{!"guest", !3}
!4 = !{!6, !6, i64 0}
!5 = !{!7, !7, i64 0}
!8 = !{!"round.dynamic"}
"""


class Value:
    """An SSA name of type i64 (and, of a condition, also the i1 behind it). Operators emit instructions."""

    __slots__ = ("bit", "code", "name")

    def __init__(self, code: Code, name: str, bit: str = "") -> None:
        self.code, self.name, self.bit = code, name, bit

    def __add__(self, other: Operand) -> Value:
        return self.code.binary("add", self, other)

    def __sub__(self, other: Operand) -> Value:
        return self.code.binary("sub", self, other)

    def __rsub__(self, other: Operand) -> Value:
        return self.code.binary("sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return self.code.binary("mul", self, other)

    def __and__(self, other: Operand) -> Value:
        return self.code.binary("and", self, other)

    def __or__(self, other: Operand) -> Value:
        return self.code.binary("or", self, other)

    def __xor__(self, other: Operand) -> Value:
        return self.code.binary("xor", self, other)

    __radd__, __rmul__, __rand__, __ror__, __rxor__ = __add__, __mul__, __and__, __or__, __xor__

    def __invert__(self) -> Value:
        return self.code.binary("xor", self, -1)

    def __bool__(self) -> bool:
        raise TypeError("what the program does cannot depend on a value before it runs: use select or branch")

    def __index__(self) -> int:
        raise Unsupported("a value of the program is not a number of the compiler")


Operand: TypeAlias = Value | int


class Unsupported(Exception):
    """A body asks for what this tier leaves to the reference tier."""


def text(operand: Operand) -> str:
    """An operand as LLVM writes it."""
    if isinstance(operand, Value):
        return operand.name
    return str(((operand & MASK64) ^ (1 << 63)) - (1 << 63))


class Code:
    """The body of one function. `line` appends an instruction, `let` names its result."""

    __slots__ = ("_count", "lines")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._count = 0

    def line(self, instruction: str) -> None:
        self.lines.append("  " + instruction)

    def fresh(self) -> str:
        self._count += 1
        return f"%v{self._count}"

    def label(self) -> str:
        self._count += 1
        return f"l{self._count}"

    def place(self, label: str) -> None:
        """What follows is the block `label`."""
        self.lines.append(f"{label}:")

    def let(self, instruction: str) -> str:
        """Append an instruction; the name of its result."""
        name = self.fresh()
        self.lines.append(f"  {name} = {instruction}")
        return name

    def value(self, instruction: str) -> Value:
        return Value(self, self.let(instruction))

    def binary(self, op: str, a: Operand, b: Operand) -> Value:
        return self.value(f"{op} i64 {text(a)}, {text(b)}")

    def condition(self, bit: str) -> Value:
        return Value(self, self.let(f"zext i1 {bit} to i64"), bit)

    def bit(self, condition: Operand) -> str:
        """The i1 of a condition."""
        if isinstance(condition, Value):
            return condition.bit or self.let(f"icmp ne i64 {condition.name}, 0")
        return "true" if condition & MASK64 else "false"

    def pointer(self, address: Operand) -> str:
        return self.let(f"inttoptr i64 {text(address)} to ptr")

    def function(self, header: str) -> str:
        return f"{header} {{\n" + "\n".join(self.lines) + "\n}\n"


def join(parts: Any) -> str:
    return "\n".join(parts) + "\n" + METADATA


# ---- handlers: functions that end in a jump to another of the same parameters

ATTRIBUTES = "nounwind strictfp"
PARAMETERS = "ptr %cpu, i64 %ip, i64 %budget, ptr %ram, i64 %delta"
HANDLER = "define preserve_nonecc void"
CALL = "musttail call preserve_nonecc void"


def tail(code: Code, to: str, ip: str = "%ip", budget: str = "%budget", delta: str = "%delta") -> None:
    """Leave the function for another of the same parameters."""
    code.line(f"{CALL} {to}(ptr %cpu, i64 {ip}, i64 {budget}, ptr %ram, i64 {delta})")
    code.line("ret void")


def dispatch(code: Code, ip: str, budget: str, delta: str = "%delta") -> None:
    """Execute the record at `ip`."""
    handler = code.let(f"load ptr, ptr {code.let(f'inttoptr i64 {ip} to ptr')}{OWN}")
    tail(code, handler, ip, budget, delta)
