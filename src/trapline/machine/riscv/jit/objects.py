"""From a compiler's object file to an *image*: position-independent code in one piece, ready to be copied and executed.

In a nutshell: the sections that are loaded are laid out one behind the other, and the references between them filled in, all of
which are relative; so an image runs wherever it is put, needs no loader, and can be kept on disk. (System V ABI, AMD64
supplement, "Relocation"; only what the compiler writes for our modules is known, anything else is refused.)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from trapline.typed import NamedTuple

from trapline.machine.riscv.jit.memory import ALIGN

_PC32, _PLT32, _GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX = 2, 4, 9, 41, 42
_ALLOC = 2
_PROGBITS, _SYMTAB, _RELA, _NOBITS = 1, 2, 4, 8
_HEADER = struct.Struct("<40xQ10x3H")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_LOAD, _LEA = 0x8B, 0x8D


class BadObject(ValueError):
    """An object file with something that the linker does not know; the text says what."""


class Image(NamedTuple):
    """`symbols`: offsets in `code` of the functions that have names."""

    code: bytes
    symbols: dict[str, int]

    def pack(self) -> bytes:
        """As `unpack` takes it: a line per symbol, an empty line, the code."""
        lines = "".join(f"{name} {offset}\n" for name, offset in self.symbols.items())
        return lines.encode() + b"\n" + self.code


    def with_words(self, name: str, words: Sequence[int]) -> Image:
        """The image with 64-bit `words` stored at a symbol, if it has that."""
        if name not in self.symbols:
            return self
        start, packed = self.symbols[name], struct.pack(f"<{len(words)}Q", *words)
        return self._replace(code=self.code[:start] + packed + self.code[start + len(packed) :])


def unpack(data: bytes) -> Image:
    """Raises ValueError if it is no image."""
    lines, separator, code = data.partition(b"\n\n")
    if not separator:
        raise ValueError("not an image")
    symbols = {}
    for line in lines.decode("ascii").split("\n"):
        name, _, offset = line.partition(" ")
        symbols[name] = int(offset)
        if not 0 <= symbols[name] < len(code):
            raise ValueError("a symbol outside its image")
    return Image(code, symbols)


class Section(NamedTuple):
    """One section header, and the section's bytes."""

    kind: int
    flags: int
    data: bytes
    size: int
    link: int
    info: int
    align: int


class Symbol(NamedTuple):
    """`section`: 0 for one that is defined elsewhere."""

    name: str
    section: int
    value: int
    size: int


class Relocation(NamedTuple):
    """Bytes at `offset` that depend on where symbol number `symbol` is."""

    offset: int
    kind: int
    symbol: int
    addend: int


class Object:
    """An ELF file of the compiler's: its sections, symbols, and the relocations of each section."""

    def __init__(self, data: bytes) -> None:
        offset, size, count, _ = _HEADER.unpack_from(data)
        headers = [_SECTION.unpack_from(data, offset + n * size) for n in range(count)]
        self.sections = [
            Section(kind, flags, b"" if kind == _NOBITS else data[at : at + length], length, link, info, align or 1)
            for _, kind, flags, _, at, length, link, info, align, _ in headers
        ]
        self.symbols: list[Symbol] = []
        self.relocations: dict[int, list[Relocation]] = {}
        for each in self.sections:
            if each.kind == _SYMTAB:
                names = self.sections[each.link].data
                self.symbols = [
                    Symbol(names[name : names.index(b"\0", name)].decode(), section, value, length)
                    for name, _, _, section, value, length in _SYMBOL.iter_unpack(each.data)
                ]
            elif each.kind == _RELA:
                self.relocations[each.info] = [
                    Relocation(where, info & 0xFFFFFFFF, info >> 32, addend)
                    for where, info, addend in _RELOCATION.iter_unpack(each.data)
                ]


def link(data: bytes) -> Image:
    """The image of an object file. Raises BadObject."""
    parsed = Object(data)
    image = bytearray()
    places: dict[int, int] = {}
    for number, each in enumerate(parsed.sections):
        if each.flags & _ALLOC and each.size:
            if each.kind != _PROGBITS:
                raise BadObject(f"section {number} is of type {each.kind}")
            if each.align > ALIGN:
                raise BadObject(f"section {number} is aligned to {each.align} bytes")
            image += bytes(-len(image) % each.align)
            places[number] = len(image)
            image += each.data
    for number, relocations in parsed.relocations.items():
        if number in places:
            for relocation in relocations:
                _apply(image, places, number, relocation, parsed.symbols[relocation.symbol])
    symbols = {each.name: places[each.section] + each.value for each in parsed.symbols if each.name and each.section in places}
    return Image(bytes(image), symbols)


def _apply(image: bytearray, places: dict[int, int], section: int, relocation: Relocation, symbol: Symbol) -> None:
    if symbol.section not in places:
        raise BadObject(f"{symbol.name or 'a symbol'} is not defined")
    where = places[section] + relocation.offset
    if relocation.kind in (_GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX):  # a load of the address becomes the address
        if image[where - 2] != _LOAD:
            raise BadObject("an address table is used by something else than a load")
        image[where - 2] = _LEA
    elif relocation.kind not in (_PC32, _PLT32):
        raise BadObject(f"relocation of type {relocation.kind}")
    value = places[symbol.section] + symbol.value + relocation.addend - where
    image[where : where + 4] = value.to_bytes(4, "little", signed=True)
