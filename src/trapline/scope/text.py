"""How strace(1) writes bytes, strings and numbers."""

from __future__ import annotations

LIMIT = 32  #: how much of a string is shown
_ESCAPES = {9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_DIGITS = frozenset(b"0123456789")


def _chars() -> list[str]:
    return [_ESCAPES.get(n) or (chr(n) if 32 <= n < 127 else f"\\{n:o}") for n in range(256)]


_CHARS = _chars()


def quote(data: bytes, limit: int = LIMIT, *, more: bool = False) -> str:
    """The first `limit` bytes in C's notation; "..." follows if there is more."""
    shown = data[:limit]
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
    parts = [_TYPES[value & 0o170000]] if value & 0o170000 in _TYPES else []
    parts += [name for bit, name in _SPECIAL if value & bit]
    return "|".join([*parts, permissions(value & 0o777)])


def device(rdev: int) -> str:
    major = rdev >> 8 & 0xFFF | rdev >> 32 & 0xFFFFF000
    minor = rdev & 0xFF | rdev >> 12 & 0xFFFFFF00
    return f"makedev({major:#x}, {minor:#x})"


def wait_status(status: int) -> str:
    """{WIFEXITED(s) && WEXITSTATUS(s) == 0}"""
    from trapline.scope.names import signal_name

    if status == 0xFFFF:
        return "{WIFCONTINUED(s)}"
    low = status & 0x7F
    if low == 0:
        return f"{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8 & 0xFF}}}"
    if low == 0x7F:
        return f"{{WIFSTOPPED(s) && WSTOPSIG(s) == {signal_name(status >> 8 & 0xFF)}}}"
    core = " && WCOREDUMP(s)" if status & 0x80 else ""
    return f"{{WIFSIGNALED(s) && WTERMSIG(s) == {signal_name(low)}{core}}}"
