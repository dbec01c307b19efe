"""From a declared argument type to what strace(1) prints for a value: the little language of `declare.Arg.show`.

`piece(show)` gives how one argument prints. A *late* argument is something the call writes: it can be shown only when the
call has returned, and shows as an address when the call failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from trapline.scope.strace import names
from trapline.scope.strace.constants import constant
from trapline.scope.strace.memory import MAX_STRINGS, PATH_LIMIT, Decoder
from trapline.scope.strace.structs import SHAPES, open_flags
from trapline.scope.strace.text import permissions, pointer

Render = Callable[[Decoder, int], str | None]  #: None: the argument is left out

AT_FDCWD = -100
MAX_BUFFER = 1 << 16


class Piece(NamedTuple):
    """`before`: how many bytes behind the pointer to remember from when the call came in."""

    render: Render
    late: bool = False
    before: int = 0


def piece(show: str) -> Piece:
    """How an argument declared as `show` prints."""
    kind, _, rest = show.partition(":")
    if kind in ("struct", "struct_out"):
        return Piece(structure(rest), kind == "struct_out")
    if kind in ("buf_in", "buf_out"):
        return Piece(buffer_in(rest) if kind == "buf_in" else buffer_out, kind == "buf_out")
    if kind in ("iov_in", "iov_out"):
        return Piece(iovec(rest, kind == "iov_out"), kind == "iov_out")
    if kind == "flags":
        return Piece(flags(rest))
    if kind == "enum":
        return Piece(enumeration(rest))
    return SIMPLE.get(kind, Piece(number))


# ---- numbers


def number(d: Decoder, value: int) -> str:
    return str(value)


def hexadecimal(d: Decoder, value: int) -> str:
    return f"{value:#x}" if value else "0"


def octal(d: Decoder, value: int) -> str:
    return f"0{value:o}" if value else "0"


def address(d: Decoder, value: int) -> str:
    return pointer(value)


def dirfd(d: Decoder, value: int) -> str:
    return f"{constant('-100', lambda: 'AT_FDCWD')}{d.here()}" if value == AT_FDCWD else d.descriptor(value)


def descriptor(d: Decoder, value: int) -> str:
    return d.descriptor(value)


def mode(d: Decoder, value: int) -> str:
    return permissions(value)


def signal(d: Decoder, value: int) -> str:
    return names.signal(value)


def flags(table: str) -> Render:
    if table in ("open", "open_flags", "openat"):
        return lambda d, value: open_flags(value)
    if table == "mmap" or table == "map":
        return mmap_flags
    known = names.FLAGS.get(table)
    if known is None:
        return FLAG_KINDS.get(table, hexadecimal)
    return lambda d, value: names.render_flags(known, value)


def enumeration(table: str) -> Render:
    if table not in names.ENUMS:
        return number
    return lambda d, value: names.enum(table, value)


def mmap_flags(d: Decoder, value: int) -> str:
    return constant(hexadecimal(d, value), lambda: _mmap_flags(value))


def _mmap_flags(value: int) -> str:
    kind = names.ENUMS["map_type"].get(value & 0xF, hex(value & 0xF))
    huge_shift, rest = value >> 26 & 0x3F, value & ~(0x3F << 26 | 0xF)
    parts = [kind, *([names.flags("mmap", rest)] if rest else []), *([f"{huge_shift}<<MAP_HUGE_SHIFT"] if huge_shift else [])]
    return "|".join(parts)


def access_mode(d: Decoder, value: int) -> str:
    return names.flags("access", value) if value else constant("0", lambda: "F_OK")


def futex_op(d: Decoder, value: int) -> str:
    return constant(hexadecimal(d, value), lambda: _futex_op(value))


def _futex_op(value: int) -> str:
    name = names.ENUMS["futex"].get(value & 0x7F, hex(value & 0x7F))
    clock = "|FUTEX_CLOCK_REALTIME" if value & 0x100 else ""
    return name + ("_PRIVATE" if value & 0x80 else "") + clock


def socket_type(d: Decoder, value: int) -> str:
    kind = names.known("socktype", value & 0xF)
    return f"{kind}|{names.flags('socket_type', value & ~0xF)}" if value & ~0xF else kind


def clone_flags(d: Decoder, value: int) -> str:
    signo = value & 0xFF
    parts = [names.flags("clone", value & ~0xFF)] if value & ~0xFF else []
    parts += [names.signal(signo)] if signo else []
    return "|".join(parts) or "0"


# ---- memory


def path(d: Decoder, value: int) -> str:
    return _text(d, value, PATH_LIMIT)


def string(d: Decoder, value: int) -> str:
    return _text(d, value, d.style.limit)


def _text(d: Decoder, value: int, limit: int) -> str:
    if not value:
        return "NULL"
    found = d.string(value, limit)
    return pointer(value) if found is None else d.quote(found[0], limit, more=found[1])


def buffer_in(length: str) -> Render:
    """Bytes the call reads; `length` names the parameter with their number."""

    def render(d: Decoder, value: int) -> str:
        return counted(d, value, d.values.get(length, 0))

    return render


def buffer_out(d: Decoder, value: int) -> str:
    """Bytes the call wrote: as many as it returned."""
    result = d.result
    if result is None or d.failed:
        return pointer(value)
    return counted(d, value, result)


def counted(d: Decoder, value: int, count: int) -> str:
    if not value:
        return "NULL"
    limit = d.style.limit
    data = d.read_some(value, min(count, limit + 1)) if count > 0 else b""
    return pointer(value) if data is None else d.quote(data, more=count > limit)


def structure(name: str) -> Render:
    """A structure; unknown ones show as addresses."""
    shape = SHAPES.get(name)
    if shape is None:
        return address
    if shape is SHAPES["fd_pair"]:
        return descriptor_pair

    def render(d: Decoder, value: int) -> str:
        if not value:
            return "NULL"
        here = d.shape(name, shape)
        data = None if d.failed else d.read(value, here.size)
        return pointer(value) if data is None else here.show(data)

    return render


def descriptor_pair(d: Decoder, value: int) -> str:
    data = d.read(value, 8) if value and not d.failed else None
    if data is None:
        return pointer(value)
    first, second = (int.from_bytes(data[i : i + 4], "little", signed=True) for i in (0, 4))
    return f"[{d.descriptor(first)}, {d.descriptor(second)}]"


def always(name: str) -> Render:
    """A structure the call reads, shown late although it may have failed."""
    shape = SHAPES[name]

    def render(d: Decoder, value: int) -> str:
        data = d.read(value, shape.size) if value else None
        return pointer(value) if data is None else shape.show(data)

    return render


def iovec(count: str, out: bool) -> Render:
    """An array of struct iovec; of what a call wrote, only as much as it returned."""

    def render(d: Decoder, value: int) -> str:
        total = d.result if out else 1 << 62
        if not value or total is None or (out and d.failed):
            return pointer(value)
        return iovec_text(d, value, d.values.get(count, 0), total)

    return render


def iovec_text(d: Decoder, value: int, count: int, total: int) -> str:
    data = d.read(value, 16 * min(count, MAX_STRINGS)) if 0 <= count <= 1024 else None
    if data is None:
        return pointer(value)
    parts = []
    for i in range(0, len(data), 16):
        base = int.from_bytes(data[i : i + 8], "little")
        length = int.from_bytes(data[i + 8 : i + 16], "little")
        here = min(length, max(0, total))
        total -= here
        parts.append(f"{{iov_base={counted(d, base, here)}, iov_len={length}}}")
    return "[" + ", ".join(parts + (["..."] if count > MAX_STRINGS else [])) + "]"


def argv(d: Decoder, value: int) -> str:
    words = d.words(value, MAX_STRINGS) if value else []
    if words is None or not value:
        return pointer(value)
    shown = [string(d, word) for word in words[:MAX_STRINGS]]
    return "[" + ", ".join(shown + (["..."] if len(words) > MAX_STRINGS else [])) + "]"


def envp(d: Decoder, value: int) -> str:
    if d.style.whole and value:
        found = d.words(value, 4096)
        return pointer(value) if found is None else "[" + ", ".join(string(d, word) for word in found) + "]"
    words = d.words(value, 4096) if value else None
    return pointer(value) + ("" if words is None else f" /* {len(words)} var{'' if len(words) == 1 else 's'} */")


FLAG_KINDS: dict[str, Render] = {
    "futex_op": futex_op, "access": access_mode, "access_mode": access_mode, "socket": socket_type, "clone": clone_flags,
}  # fmt: skip

SIMPLE: dict[str, Piece] = {
    "dec": Piece(number), "udec": Piece(number), "hex": Piece(hexadecimal), "oct": Piece(octal), "fd": Piece(descriptor),
    "dirfd": Piece(dirfd), "pid": Piece(number), "signal": Piece(signal), "mode": Piece(mode),
    "clock": Piece(enumeration("clock")), "whence": Piece(enumeration("whence")), "path": Piece(path), "str": Piece(string),
    "ptr": Piece(address), "argv": Piece(argv),
}  # fmt: skip
