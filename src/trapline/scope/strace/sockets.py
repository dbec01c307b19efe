"""Sockets as strace(1) shows them: addresses, lengths that a call changes, messages with their ancillary data, options.

Layouts: msghdr and cmsghdr of recvmsg(2) and cmsg(3); options of socket(7).
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING

from trapline.scope.strace import arguments as a
from trapline.scope.strace import names
from trapline.scope.strace.structs import sockaddr
from trapline.scope.strace.text import pointer

if TYPE_CHECKING:
    from trapline.scope.strace.arguments import Render
    from trapline.scope.strace.memory import Decoder

SOL_SOCKET, SO_LINGER, SO_PEERCRED = 1, 13, 17
SCM_RIGHTS, SCM_CREDENTIALS = 1, 2
MAX_CONTROL = 4096
MAX_ADDRESS = 128
_HEADER = Struct("<QI4xQQQQI")


# ---- addresses


def address(length_index: int) -> Render:
    """An address that the call reads; its length is an argument."""

    def render(d: Decoder, value: int) -> str:
        length = d.args[length_index]
        data = d.read(value, length) if value and 0 < length <= MAX_ADDRESS else None
        return pointer(value) if data is None else sockaddr(data, d.style.escape)

    return render


def address_out(length_index: int) -> Render:
    """An address that the call wrote; its length is behind a pointer."""

    def render(d: Decoder, value: int) -> str:
        length = None if d.failed else _integer(d.read(d.args[length_index], 4))
        data = d.read(value, min(length, MAX_ADDRESS)) if value and length else None
        return pointer(value) if data is None else sockaddr(data, d.style.escape)

    return render


def length_out(d: Decoder, value: int) -> str:
    """A length that the call reads and writes: [what it was => what it is]."""
    before = _integer(d.before.get(value))
    after = _integer(d.read(value, 4)) if value else None
    if before is None or after is None:
        return pointer(value)
    return f"[{before}]" if d.failed or before == after else f"[{before} => {after}]"


def _integer(data: bytes | None) -> int | None:
    return None if data is None else int.from_bytes(data, "little", signed=True)


# ---- messages


def message(out: bool) -> Render:
    """struct msghdr; `out`: of recvmsg(2), which tells how long the address was."""

    def render(d: Decoder, value: int) -> str:
        data = d.read(value, 56) if value and not (out and d.failed) else None
        if data is None:
            return pointer(value)
        name, length, iov, count, control, control_len, flags = _HEADER.unpack(data[:52])
        total = (d.result or 0) if out else 1 << 62
        stored = d.read(name, length) if name and 0 < length <= MAX_ADDRESS else None
        before = d.before.get(value)
        was = int.from_bytes(before[8:12], "little") if out and before else length
        parts = [
            f"msg_name={pointer(name) if stored is None else sockaddr(stored, d.style.escape)}",
            f"msg_namelen={length}" if was == length else f"msg_namelen={was} => {length}",
            f"msg_iov={a.iovec_text(d, iov, count, total)}, msg_iovlen={count}",
        ]
        parts += [f"msg_control={_control(d, control, control_len)}"] if control_len else []
        return "{" + ", ".join([*parts, f"msg_controllen={control_len}, msg_flags={names.flags('msg', flags)}"]) + "}"

    return render


def _control(d: Decoder, at: int, length: int) -> str:
    data = d.read(at, min(length, MAX_CONTROL)) if at else None
    if data is None:
        return pointer(at)
    shown: list[str] = []
    while len(data) >= 16:
        size, level, kind = Struct("<Qii").unpack(data[:16])
        if not 16 <= size <= len(data):
            break
        type_ = names.known("scm", kind) if level == SOL_SOCKET else hex(kind)
        shown.append(
            f"{{cmsg_len={size}, cmsg_level={names.enum('sol', level)}, cmsg_type={type_}, "
            f"cmsg_data={_ancillary(d, level, kind, data[16:size])}}}"
        )
        data = data[size + 7 & ~7 :]
    return "[" + ", ".join(shown) + "]"


def _ancillary(d: Decoder, level: int, kind: int, data: bytes) -> str:
    if level == SOL_SOCKET and kind == SCM_RIGHTS:
        fds = [int.from_bytes(data[i : i + 4], "little", signed=True) for i in range(0, len(data) & ~3, 4)]
        return "[" + ", ".join(map(d.descriptor, fds)) + "]"
    if level == SOL_SOCKET and kind == SCM_CREDENTIALS and len(data) >= 12:
        return _credentials(data)
    return d.quote(data)


# ---- options


def option(d: Decoder, value: int) -> str:
    """The value given to setsockopt(2)."""
    return _option(d, value, d.args[4])


def option_out(d: Decoder, value: int) -> str:
    """The value that getsockopt(2) wrote."""
    length = _integer(d.read(d.args[4], 4))
    return pointer(value) if d.failed or length is None else _option(d, value, length)


def _option(d: Decoder, value: int, length: int) -> str:
    level, name = d.args[1], d.args[2]
    show: Callable[[bytes], str] | None = _STRUCTURES.get((level, name))
    if show is not None and length < _SIZES[name]:
        return pointer(value)
    data = d.read(value, min(length, d.style.limit + 1)) if value and length >= 0 else None
    if data is None:
        return pointer(value)
    if show is not None:
        return show(data)
    return f"[{_integer(data)}]" if length == 4 else d.quote(data)


def option_name(d: Decoder, value: int) -> str:
    table = {SOL_SOCKET: "so", 6: "tcp"}.get(d.args[1])
    return names.enum(table, value) if table else f"{value:#x}"


def _credentials(data: bytes) -> str:
    return "{{pid={}, uid={}, gid={}}}".format(*Struct("<iII").unpack(data[:12]))


def _linger(data: bytes) -> str:
    return "{{l_onoff={}, l_linger={}}}".format(*Struct("<ii").unpack(data[:8]))


_STRUCTURES = {(SOL_SOCKET, SO_LINGER): _linger, (SOL_SOCKET, SO_PEERCRED): _credentials}
_SIZES = {SO_LINGER: 8, SO_PEERCRED: 12}
