"""The table of all stencils, made from the object file that the compiler wrote: what baseline.py calls a `Table`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from trapline.machine.riscv.isa.declare import OPS
from trapline.machine.riscv.jit import baseline as bl
from trapline.machine.riscv.jit import stencil
from trapline.machine.riscv.jit.objects import BadObject, Object, Relocation

#: Text and an editor of assembly -> an object file: see `compiler.Compiler`.
Assemble = Callable[[str, Callable[[str], str]], bytes]
_ALLOC, _EXECUTABLE = 2, 4
_PAD = bytes(64)  #: copying reads beyond a stencil's end
_KINDS = {1: bl.WIDE, 2: bl.RELATIVE, 4: bl.RELATIVE, 10: bl.ABSOLUTE, 11: bl.ABSOLUTE, 14: bl.NARROW}  #: by type of relocation


class _Builder:
    """From the object file of all stencils to a table."""

    def __init__(self, data: bytes) -> None:
        self._object = Object(data)
        text = [n for n, each in enumerate(self._object.sections) if each.flags & _EXECUTABLE and each.size]
        if len(text) != 1:
            raise BadObject("stencils in several sections")
        self._text = text[0]
        self.code = bytearray(self._object.sections[self._text].data + _PAD)
        self._constants: dict[int, int] = {}
        for number, each in enumerate(self._object.sections):
            if each.flags & _ALLOC and each.size and number != self._text:
                self.code += bytes(-len(self.code) % each.align)
                self._constants[number] = len(self.code)
                self.code += each.data
        self._symbols = {each.name: each for each in self._object.symbols if each.section == self._text}
        self._relocations = sorted(self._object.relocations.get(self._text, ()))

    def stencil(self, name: str, flags: int, holes: bytearray) -> bytes:
        """The entry of one stencil; its holes are appended to `holes`."""
        symbol = self._symbols[name]
        first, count = len(holes) // bl.HOLE.size, 0
        here = bisect_left(self._relocations, (symbol.value,))
        for each in self._relocations[here : bisect_left(self._relocations, (symbol.value + symbol.size,))]:
            holes += self._hole(each, symbol.value)
            count += 1
        return bl.STENCIL.pack(symbol.value, symbol.size, count, first, flags)

    def _hole(self, relocation: Relocation, start: int) -> bytes:
        if relocation.kind not in _KINDS:
            raise BadObject(f"a hole of type {relocation.kind}")
        symbol, addend = self._object.symbols[relocation.symbol], relocation.addend
        if symbol.section in self._constants:
            value = bl.RODATA
            addend += self._constants[symbol.section] + symbol.value
        elif symbol.name.startswith("h_"):
            value = bl.VALUES.index(symbol.name[2:])
        elif symbol.name in bl.EXITS:
            value = len(bl.VALUES) + bl.EXITS.index(symbol.name)
        else:
            raise BadObject(f"a hole for {symbol.name or 'a section'}")
        return bl.HOLE.pack(relocation.offset - start, value, _KINDS[relocation.kind], addend)


def build(assemble: Assemble, *, shared: bool = False) -> bytes:
    """Compile all stencils, `shared` for harts that run at the same time: the table, packed.

    Raises BadObject if the compiler did what nobody expects.
    """
    kinds = stencil.frames()
    names = []
    for number, op in enumerate(OPS):
        made = [] if op.system else list(stencil.variants(op, shared=shared))
        if not made and op.length == 4:
            names.append(f"{number} {bl.PASSED}\n")
        elif made:
            names.append(f"{number} {len(kinds)}\n")
            kinds += made
    builder = _Builder(assemble(stencil.module(kinds), stencil.tidy))
    holes = bytearray()
    entries = b"".join(builder.stencil(each.name, each.flags, holes) for each in kinds)
    pieces = (entries, bytes(holes), bytes(builder.code), "".join(names).encode())
    return bl.HEADER.pack(*map(len, pieces)) + b"".join(pieces)
