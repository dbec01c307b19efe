"""How strace(1) writes bytes, strings and numbers, and what any text needs before a terminal gets it."""

from __future__ import annotations

from trapline.scope.strace.constants import constant, hexadecimal

LIMIT = 32  #: how much of a string is shown
# How bytes that are no printable ASCII are written: strace's default, -x, -xx, and --strings-in-hex=non-ascii-chars.
ESCAPED, HEX_STRINGS, ALL_HEX, HEX_CHARS = range(4)
_ESCAPES = {9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_DIGITS = frozenset(b"0123456789")


def _chars() -> list[str]:
    return [_ESCAPES.get(n) or (chr(n) if 32 <= n < 127 else f"\\{n:o}") for n in range(256)]


_CHARS = _chars()


def quote(data: bytes, limit: int = LIMIT, *, more: bool = False, escape: int = ESCAPED) -> str:
    """The first `limit` bytes in C's notation; "..." follows if there is more."""
    shown = data[:limit]
    if escape:
        return _hexed(shown, escape) + ("..." if more or len(data) > limit else "")
    dots = "..." if more or len(data) > limit else ""
    if shown.isascii() and shown.isalnum():
        return f'"{shown.decode()}"{dots}'
    out: list[str] = []
    last = len(shown) - 1
    for index, byte in enumerate(shown):
        text = _CHARS[byte]
        if text[0] == "\\" and byte not in _ESCAPES and index < last and shown[index + 1] in _DIGITS:
            text = f"\\{byte:03o}"
        out.append(text)
    return f'"{"".join(out)}"{dots}'


def _hexed(data: bytes, escape: int) -> str:
    """`data` in quotes, with hexadecimal numbers for all of it, for it if it is no text, or for what is none in it."""
    if escape == HEX_CHARS:
        return '"' + "".join(f"\\x{n:02x}" if _CHARS[n][0] == "\\" and n not in _ESCAPES else _CHARS[n] for n in data) + '"'
    if escape == ALL_HEX or any(n > 126 or (n < 32 and not 9 <= n <= 13) for n in data):
        return quote_hex(data, len(data))
    return '"' + "".join(map(_CHARS.__getitem__, data)) + '"'


def quote_hex(data: bytes, limit: int = LIMIT) -> str:
    """The same, every byte in hexadecimal: for random bytes."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in data[:limit]) + '"' + ("..." if len(data) > limit else "")


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def pointer(value: int) -> str:
    return f"{value:#x}" if value else "NULL"


def ticks(value: int) -> str:
    """A time in units of 1/100 second."""
    return f"{value} /* {value / 100:.2f} s */" if value else "0"


def octal(value: int) -> str:
    return f"0{value:o}" if value else "0"


def permissions(value: int) -> str:
    """Mode bits as chmod(2) takes them: at least three digits, the leading 0 being one."""
    return f"0{value:02o}"


_TYPES = {
    0o140000: "S_IFSOCK", 0o120000: "S_IFLNK", 0o100000: "S_IFREG", 0o060000: "S_IFBLK", 0o040000: "S_IFDIR",
    0o020000: "S_IFCHR", 0o010000: "S_IFIFO",
}  # fmt: skip
_SPECIAL = ((0o4000, "S_ISUID"), (0o2000, "S_ISGID"), (0o1000, "S_ISVTX"))


def mode(value: int) -> str:
    """A file's mode: S_IFREG|0644."""
    return constant(f"0{value:o}", lambda: _mode(value))


def _mode(value: int) -> str:
    parts = [_TYPES[value & 0o170000]] if value & 0o170000 in _TYPES else []
    parts += [name for bit, name in _SPECIAL if value & bit]
    return "|".join([*parts, permissions(value & 0o777)])


def device(rdev: int) -> str:
    return constant(hexadecimal(rdev), lambda: _device(rdev))


def _device(rdev: int) -> str:
    major = rdev >> 8 & 0xFFF | rdev >> 32 & 0xFFFFF000
    minor = rdev & 0xFF | rdev >> 12 & 0xFFFFFF00
    return f"makedev({major:#x}, {minor:#x})"


def wait_status(status: int) -> str:
    """{WIFEXITED(s) && WEXITSTATUS(s) == 0}"""
    from trapline.scope.strace.names import signal_name

    if status == 0xFFFF:
        return "{WIFCONTINUED(s)}"
    low = status & 0x7F
    if low == 0:
        return f"{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8 & 0xFF}}}"
    if low == 0x7F:
        return f"{{WIFSTOPPED(s) && WSTOPSIG(s) == {signal_name(status >> 8 & 0xFF)}}}"
    core = " && WCOREDUMP(s)" if status & 0x80 else ""
    return f"{{WIFSIGNALED(s) && WTERMSIG(s) == {signal_name(low)}{core}}}"


def angled(name: bytes, escape: int = ESCAPED) -> str:
    """A file's name as it stands between angle brackets: in C's notation, with the brackets in it escaped too."""
    text = quote(name, len(name), escape=escape)[1:-1]
    return text.replace("<", "\\x3c" if escape else "\\74").replace(">", "\\x3e" if escape else "\\76")


def printable(text: str) -> str:
    """Text for a terminal: whatever could steer it, or reorder a line, is written as its number."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else f"\\x{ord(each):02x}" if ord(each) < 256 else f"\\u{ord(each):04x}" for each in text
    )
