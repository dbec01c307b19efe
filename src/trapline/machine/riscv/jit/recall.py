"""Regions of earlier runs: what was compiled for the same code at the same addresses need not be compiled again.

In a nutshell: a region's code depends on nothing but our source, the compiler, the CPU, the bytes of its pages and their
virtual addresses. It is kept in the cache (cache.py) once for each of its entries, under a key of all that is known when a
place becomes hot: the entry's address and its page's bytes. What was kept names all its pages by digest; it is used only if
they are all mapped now, and the same. To find that out takes no decoding and no compiler.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from trapline.typed import NamedTuple

from trapline.machine.riscv.jit.cache import digest
from trapline.machine.riscv.jit.compiler import Compiler
from trapline.machine.riscv.jit.objects import Image, unpack

_LENGTH = struct.Struct("<I")  #: of the header


class Region(NamedTuple):
    """`pages`: virtual addresses, in the order of the image's `bases`. `entries`: where it may be entered."""

    pages: Sequence[int]
    entries: Sequence[int]
    image: Image


def recall(compiler: Compiler, pc: int, look: Callable[[int], bytes | None]) -> Region | None:
    """A region that has `pc` among its entries, if one was kept. `look`: the bytes of a page, None if it is not mapped."""
    page = look(pc & -4096)
    packed = compiler.cache.get(_key(compiler, pc, page)) if page is not None else None
    if packed is None:
        return None
    try:
        (length,) = _LENGTH.unpack_from(packed)
        lines = packed[_LENGTH.size : _LENGTH.size + length].decode("ascii").splitlines()
        entries = [int(each, 16) for each in lines.pop(0).split()]
        pages = [(int(va, 16), seal) for va, seal in (line.split() for line in lines)]
        image = unpack(packed[_LENGTH.size + length :])
    except (ValueError, IndexError, struct.error):
        return None
    known = {va for va, _ in pages}
    if pc not in entries or "region" not in image.symbols or any(entry & -4096 not in known for entry in entries):
        return None
    for va, seal in pages:
        data = look(va)
        if data is None or digest(data).hex() != seal:
            return None
    return Region([va for va, _ in pages], entries, image)


def keep(compiler: Compiler, region: Region, data: Mapping[int, bytes]) -> None:
    """Keep a region that was made from the pages `data`, by virtual address."""
    lines = [" ".join(f"{entry:x}" for entry in region.entries)]
    lines += [f"{va:x} {digest(data[va]).hex()}" for va in region.pages]
    header = "\n".join(lines).encode("ascii")
    packed = _LENGTH.pack(len(header)) + header + region.image.pack()
    for entry in region.entries:
        compiler.cache.keep(_key(compiler, entry, data[entry & -4096]), packed)


def _key(compiler: Compiler, pc: int, page: bytes) -> str:
    return compiler.key("region", pc, digest(page).hex())
