"""The baseline tier: blocks of code made by copying stencils, where jumps have led a few times (state.WARM).

In a nutshell: the stencils (stencil.py) are compiled once and kept on disk as one table (stencil_table.py). A machine's
`Baseline` gives the native stitcher (stitcher.py) what it works with: the table, and memory to write code to. All else happens
in native code. A block is entered by its address standing in its first record, and leaves by jumping to what another record
holds, so blocks know nothing of one another, and whoever takes a record's place is entered from then on.

Invariant: a block depends on the bytes of one page only, the one whose record leads to it, at any virtual address.
"""

from __future__ import annotations

import ctypes
import struct
from trapline.typed import TYPE_CHECKING

from trapline.machine.riscv.jit.objects import Image

if TYPE_CHECKING:
    from trapline.machine.riscv.jit.memory import CodeMemory

BASELINE_BYTES = 64 << 20  #: of code; when they are full, all that is translated is forgotten

#: What holes hold; a hole's number is its place here. The first four are 8 * a register's number.
VALUES = ("rd", "rs1", "rs2", "rs3", "rm", "imm", "offset", "count", "rest", "skipped", "target", "counter")
#: Where stencils jump to: the next instruction, one that is further on in the block, the way out, functions of the interpreter.
EXITS = ("next", "inside", "bail", "goto", "plain", "leave_hot", "bake")
RODATA = len(VALUES) + len(EXITS)  #: the number of what refers to the stencils' constants
# Kinds of holes: absolute of 32, 64 and 8 bits, relative to its own address of 32.
ABSOLUTE, WIDE, RELATIVE, NARROW = range(4)
# What the stitcher must know of a stencil: flags; and where five bits of an implied rd and rs1 begin (0: see the record).
ENDS, BAILS, FP, SHORT, DIRECT, ROUNDS, WRITES, USES_1, USES_2 = 1, 2, 4, 8, 16, 32, 64, 128, 256
IMPLIED_RD, IMPLIED_RS1 = 16, 21
# Words of the context, in which the stitcher finds everything; behind them, what holes hold.
CURSOR, LIMIT, SHIFT, IMAGE, IMAGE_SIZE, SLOTS, STENCILS, HOLES, CODE, BLOCKS, INSTRUCTIONS, FULL = range(12)
HELD = 16
OFFSETS = HELD + RODATA + 1  #: for each record of a page, 8 bytes: what the stitcher knows of it in the block that it makes
_WORDS = OFFSETS + 2048 + 1

PASSED = 0xFFFF  #: the number that stands for no stencil: the interpreter's, but a block may begin 32 bits further on

STENCIL = struct.Struct("<IHHII")  #: where its code is, bytes, holes, the first hole, flags
HOLE = struct.Struct("<HBBi")  #: where in the code, of what, kind, addend
HEADER = struct.Struct("<4I")  #: lengths of a table's pieces
_SLOT = 16  #: functions of an image are aligned to so many bytes


class Table:
    """Stencils, holes, their code with its constants, and which stencil is the first of each op's."""

    def __init__(self, packed: bytes) -> None:
        """Raises ValueError or struct.error if it is none."""
        pieces = []
        start = HEADER.size
        for size in HEADER.unpack_from(packed):
            pieces.append(packed[start : start + size])
            start += size
        if start != len(packed):
            raise ValueError("not a table of stencils")
        self.stencils, self.holes, self.code, names = pieces
        lines = (line.split() for line in names.decode("ascii").splitlines())
        self.first = {f"op_{op}": int(number) for op, number in lines}


class Baseline:
    """The tier of one machine. `image`: the interpreter's, at `start`. Raises MemoryError if there is no room for code."""

    def __init__(self, table: Table, memory: CodeMemory, image: Image, start: int, size: int = BASELINE_BYTES) -> None:
        offset, constants = memory.reserve(size), memory.put(table.code)
        if offset is None or constants is None:
            raise MemoryError("the memory for code is full")
        slots = (ctypes.c_uint16 * (len(image.code) // _SLOT + 1))()
        for name, number in table.first.items():
            slots[image.symbols[name] // _SLOT] = number
        pieces = [ctypes.create_string_buffer(each, len(each)) for each in (table.stencils, table.holes, table.code)]
        self._kept = (slots, pieces)
        self._first = memory.writable + offset
        context = self._context = (ctypes.c_uint64 * _WORDS)()
        self.address = ctypes.addressof(context)
        context[CURSOR], context[LIMIT] = self._first, self._first + size
        context[SHIFT] = memory.start - memory.writable & (1 << 64) - 1
        context[IMAGE], context[IMAGE_SIZE] = start, len(image.code)
        context[SLOTS] = ctypes.addressof(slots)
        for word, piece in zip((STENCILS, HOLES, CODE), pieces, strict=True):
            context[word] = ctypes.addressof(piece)
        for number, name in enumerate(EXITS, HELD + len(VALUES)):
            context[number] = start + image.symbols.get(name, 0)
        context[HELD + RODATA] = constants

    @property
    def blocks(self) -> int:
        """Made since the start."""
        return self._context[BLOCKS]

    @property
    def instructions(self) -> int:
        """In all blocks made since the start."""
        return self._context[INSTRUCTIONS]

    @property
    def full(self) -> bool:
        """Whether a block did not find room: `forget` what there is."""
        return bool(self._context[FULL])

    def forget(self) -> None:
        """Start again with all the room; whoever calls has seen to it that no record leads to a block."""
        self._context[CURSOR], self._context[FULL] = self._first, 0
