"""What strace(1) writes behind a descriptor: `3</etc/passwd>`; with -yy `0</dev/null<char 1:3>>`, `4<UNIX-STREAM:[5->6]>`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline.abi.errno import EBADF
from trapline.abi.stat import S_IFBLK, S_IFCHR, S_IFMT
from trapline.scope.strace.text import angled

if TYPE_CHECKING:
    from trapline.scope.strace.style import Style

_KINDS = {1: "UNIX-STREAM", 2: "UNIX-DGRAM", 5: "UNIX-SEQPACKET"}
_GONE = b" (deleted)"


def name_of(task: Any, fd: int) -> bytes | None:
    """The name that /proc/PID/fd gives descriptor `fd`; None for one that is not open."""
    file = _file(task, fd)
    return None if file is None else _name(task, file)


def _file(task: Any, fd: int) -> Any:
    if task.files is None or fd < 0:
        return None
    try:
        return task.files.get_any(fd)
    except EBADF:
        return None


def _name(task: Any, file: Any) -> bytes:
    root = task.fs.root if task.fs is not None else None
    name: bytes = file.path.display(root) if file.path is not None else file.display_path()
    return name


def description(task: Any, fd: int, style: Style) -> str:
    """`<name>` for an open descriptor, else nothing."""
    file = _file(task, fd)
    if file is None:
        return ""
    if style.devices:
        special = _socket(file) or _device(task, file, style)
        if special:
            return f"<{special}>"
    return _bracketed(_name(task, file), style)


def working_directory(task: Any, style: Style) -> str:
    return "" if task.fs is None else _bracketed(task.fs.cwd.display(task.fs.root), style)


def _bracketed(name: bytes, style: Style) -> str:
    if name.endswith(_GONE):
        return f"<{angled(name.removesuffix(_GONE), style.escape)}>(deleted)"
    return f"<{angled(name, style.escape)}>"


def _device(task: Any, file: Any, style: Style) -> str:
    kind = file.inode.mode & S_IFMT
    if kind not in (S_IFCHR, S_IFBLK):
        return ""
    rdev = file.inode.rdev
    major, minor = rdev >> 8 & 0xFFF | rdev >> 32 & 0xFFFFF000, rdev & 0xFF | rdev >> 12 & 0xFFFFFF00
    return f"{angled(_name(task, file), style.escape)}<{'char' if kind == S_IFCHR else 'block'} {major}:{minor}>"


def _socket(file: Any) -> str:
    """A UNIX socket: its number, its peer's, and the address it is bound to."""
    from trapline.kernel.net.unix import UnixSocket

    if not isinstance(file, UnixSocket):
        return ""
    peer = f"->{file.peer.inode.ino}" if file.peer is not None else ""
    address = file.address or b""
    bound = f',{"@" if address[:1] == bytes(1) else ""}"{angled(address.removeprefix(bytes(1)), 0)}"' if address else ""
    return f"{_KINDS.get(file.kind, 'UNIX')}:[{file.inode.ino}{peer}{bound}]"
