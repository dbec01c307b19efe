"""Where the functions of a shared object are: elf(5), System V ABI, "Dynamic Section", "Symbol Table"."""

from __future__ import annotations

import struct

from trapline.abi import elf

_STRTAB, _SYMTAB, _SYMBOL = 5, 6, struct.Struct("<IBBHQQ")


def functions(image: bytes) -> dict[str, int]:
    """Name -> offset from its first byte, of an image that is as it is mapped. Empty if it is no such object.

    There is no count of symbols: as linkers do, it is taken for granted that their names follow them.
    """
    try:
        head = elf.EHDR.unpack_from(image, 0)
        if head[0][:4] != elf.MAGIC:
            return {}
        headers = [elf.PHDR.unpack_from(image, head[5] + n * head[9]) for n in range(head[10])]
        dynamic = next(each for each in headers if each[0] == elf.PT_DYNAMIC)
        tags = dict(struct.iter_unpack("<QQ", image[dynamic[2] : dynamic[2] + dynamic[5] & -16]))
        symbols, names = tags[_SYMTAB], tags[_STRTAB]
        found = {}
        for at in range(symbols, names - _SYMBOL.size + 1, _SYMBOL.size):
            name, _, _, section, value, _ = _SYMBOL.unpack_from(image, at)
            if section:
                start = names + name
                found[image[start : image.index(b"\0", start)].decode("ascii")] = value
        return found
    except (struct.error, StopIteration, KeyError, ValueError, UnicodeDecodeError):
        return {}
