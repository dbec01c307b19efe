"""Stack: the frames of a task, innermost first, as strace(1) -k writes them.

Unwinding reads registers, memory and mapped files, changes nothing, and ends where something makes no sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from trapline.abi import x86_64 as x86
from trapline.abi.errno import Errno
from trapline.kernel.mm.errors import OutOfMemory
from trapline.scope.strace.text import angled
from trapline.scope.unwind.dwarf import WORD, Malformed
from trapline.scope.unwind.expression import evaluate
from trapline.scope.unwind.image import Image
from trapline.scope.unwind.rules import MEMORY, OFFSET, REGISTER, SAME, UNDEFINED, VALUE, Row, Rule

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

MAX_FRAMES = 256
MAX_IMAGES = 256
#: x86-64's registers in DWARF's order; those of RISC-V are numbered as they are (System V and RISC-V ABI supplements)
_X86_64 = (x86.RAX, x86.RDX, x86.RCX, x86.RBX, x86.RSI, x86.RDI, x86.RBP, x86.RSP, *range(x86.R8, x86.R15 + 1))
#: architecture -> DWARF's number of the stack pointer
_STACK_POINTER = {"x86_64": 7, "riscv64": 2}


class Frame(NamedTuple):
    """Where code is: in `path`, at `offset` of the file; `symbol` and how far behind its start, if one is known."""

    path: bytes
    offset: int
    symbol: bytes
    behind: int


class Stacks:
    """Unwinds the stacks of tasks of one kernel; keeps what it knows of files."""

    def __init__(self) -> None:
        self._images: dict[Any, Image | None] = {}

    def text(self, task: Task, *, nameless: str = "") -> str:
        """A line for each frame; `nameless` stands for a place behind no symbol."""
        lines = []
        for frame in self.frames(task):
            where = f"{angled(frame.symbol)}+{frame.behind:#x}" if frame.symbol else nameless
            lines.append(f" > {angled(frame.path)}({where}) [{frame.offset:#x}]\n")
        return "".join(lines)

    def frames(self, task: Task) -> list[Frame]:
        """The frames of a task that is in the kernel."""
        found: list[Frame] = []
        registers = _registers(task)
        address, exact = task.ctx.regs[task.kernel.machine.arch.pc], True
        while len(found) < MAX_FRAMES:
            area = task.mm.map.find(address) if task.mm is not None else None
            if area is None or area.file is None:
                break
            offset = address - area.start + area.offset
            image = self._image(area.file)
            here = image.address_of(offset) if image is not None else None
            if image is None or here is None:
                found.append(Frame(area.file.display_path(), offset, b"", 0))
                break
            symbol = image.symbol(here) or (b"", 0)
            found.append(Frame(area.file.display_path(), offset, *symbol))
            row = image.row(here if exact else here - 1)
            try:
                caller = _caller(task, row, registers) if row is not None else None
            except (Malformed, Errno, OutOfMemory):
                break
            if caller is None:
                break
            (address, registers), exact = caller, row is not None and row.signal
            if not address:
                break
        return found

    def _image(self, file: Any) -> Image | None:
        key = file.inode
        if key not in self._images:
            if len(self._images) >= MAX_IMAGES:
                self._images.clear()
            cache = file.page_cache

            def read(offset: int, count: int) -> bytes:
                return bytes(cache.read(offset, count)) if cache is not None else b""

            try:
                self._images[key] = Image(read)
            except (Malformed, Errno, OutOfMemory):
                self._images[key] = None
        return self._images[key]


def _registers(task: Task) -> dict[int, int]:
    regs = task.ctx.regs
    if task.kernel.machine.arch.name == "x86_64":
        return {number: regs[index] for number, index in enumerate(_X86_64)}
    return {number: regs[number] for number in range(32)}


def _caller(task: Task, row: Row, registers: dict[int, int]) -> tuple[int, dict[int, int]] | None:
    """(the caller's address, its registers); None: this is the outermost frame."""

    def read(address: int, size: int) -> int:
        return int.from_bytes(task.mm.read(address, size), "little")

    if isinstance(row.cfa, bytes):
        cfa = evaluate(row.cfa, registers, read)
    else:
        register, offset = row.cfa
        if register not in registers:
            raise Malformed
        cfa = registers[register] + offset & WORD

    def value(rule: Rule, own: Mapping[int, int], register: int) -> int | None:
        kind, operand = rule
        if isinstance(operand, bytes):
            at = evaluate(operand, own, read, cfa)
            return read(at, 8) if kind == MEMORY else at
        if kind == OFFSET:
            return read(cfa + operand & WORD, 8)
        if kind == VALUE:
            return cfa + operand & WORD
        return own.get(operand if kind == REGISTER else register) if kind in (REGISTER, SAME) else None

    caller = dict(registers)
    caller[_STACK_POINTER[task.kernel.machine.arch.name]] = cfa
    for register, rule in row.rules.items():
        restored = value(rule, registers, register)
        if restored is None:
            caller.pop(register, None)
        else:
            caller[register] = restored
    kind = row.rules.get(row.return_register, (SAME, 0))[0]
    if kind == UNDEFINED or row.return_register not in caller:
        return None
    return caller[row.return_register], caller


